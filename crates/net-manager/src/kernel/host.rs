//! The kernel, by rtnetlink, nftables and `/proc/sys`.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use net_backend_linux::conntrack;
use net_backend_linux::netlink::{
    Address, BridgeOptions, Link, Netlink, PortOptions, Route, VethEnd,
};
use net_backend_linux::nftables::{Forward, Nft, Table};
use net_backend_linux::sysctl::Sysctls;
use net_backend_linux::tap::{TapSpec, create_persistent};
use net_backend_linux::{LinuxError, Tap, TapOptions};
use net_wire::MacAddr;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};

use super::system::{FarEnd, NewMacvtap, NewTap, Result, Seen, System};
use crate::config::NetworkMode;

/// Where TAP devices come from.
const TUN: &str = "/dev/net/tun";

/// The network namespace of the thread that made it.
pub(super) struct Host {
    netlink: Netlink,
    /// Found when it is first needed: a network that only carries frames has no rules.
    nft: OnceCell<Nft>,
    lock: RefCell<Option<Arc<OwnedFd>>>,
    sysctls: Sysctls,
}

impl Host {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            netlink: Netlink::new()?,
            nft: OnceCell::new(),
            lock: RefCell::default(),
            sysctls: Sysctls::default(),
        })
    }

    fn nft(&self) -> Result<Nft> {
        let nft = match self.nft.get() {
            Some(nft) => nft.clone(),
            None => {
                let nft = Nft::probe()?;
                self.nft.get_or_init(|| nft).clone()
            }
        };
        Ok(match &*self.lock.borrow() {
            Some(lock) => nft.holding(Arc::clone(lock)),
            None => nft,
        })
    }

    fn index(&self, name: &str) -> Result<u32> {
        Ok(self.netlink.link(name)?.index)
    }
}

impl System for Host {
    fn hold(&self, lock: Arc<OwnedFd>) {
        *self.lock.borrow_mut() = Some(lock);
    }

    fn boot(&self) -> Result<String> {
        let path = "/proc/sys/kernel/random/boot_id";
        let id = fs::read_to_string(path).map_err(|err| LinuxError::host("read boot_id", &err))?;
        Ok(id.trim().to_owned())
    }

    fn namespace(&self) -> Result<String> {
        let data = fs::metadata("/proc/thread-self/ns/net")
            .map_err(|err| LinuxError::host("look at the network namespace", &err))?;
        Ok(format!("{}:{}", data.dev(), data.ino()))
    }

    fn find(&self, name: &str) -> Result<Option<Seen>> {
        let Some(link) = self.netlink.find(name)? else {
            return Ok(None);
        };
        let bridge = match link.controller {
            Some(_) => self
                .netlink
                .links()?
                .into_iter()
                .find(|it| Some(it.index) == link.controller),
            None => None,
        };
        Ok(Some(seen(link, bridge.map(|bridge| bridge.name))))
    }

    fn interfaces(&self) -> Result<Vec<Seen>> {
        let links = self.netlink.links()?;
        let name = |index: u32| links.iter().find(|link| link.index == index);
        let all = links.iter().map(|link| {
            let bridge = link.controller.and_then(name);
            seen(link.clone(), bridge.map(|bridge| bridge.name.clone()))
        });
        Ok(all.collect())
    }

    fn create_bridge(&self, name: &str, mac: MacAddr, mtu: u16) -> Result<()> {
        let options = BridgeOptions {
            mac: Some(mac),
            mtu: Some(mtu),
            ..BridgeOptions::default()
        };
        self.netlink.create_bridge(name, &options).map(|_| ())
    }

    fn create_tap(&self, tap: &NewTap) -> Result<()> {
        let spec = TapSpec {
            name: tap.name.clone(),
            queues: tap.queues,
            owner: tap.owner,
            group: tap.group,
            mac: None,
            mtu: tap.mtu,
            alias: Some(tap.alias.clone()),
        };
        create_persistent(&self.netlink, &spec).map(|_| ())
    }

    fn create_veth(&self, near: &str, mac: MacAddr, far: &FarEnd) -> Result<()> {
        let namespace = open_namespace(&far.namespace)?;
        let near_end = VethEnd {
            mac: Some(mac),
            mtu: Some(far.mtu),
            ..VethEnd::named(near)
        };
        let far_end = VethEnd {
            mac: Some(far.mac),
            mtu: Some(far.mtu),
            netns: Some(namespace.as_fd()),
            ..VethEnd::named(&far.interface)
        };
        self.netlink.create_veth(&near_end, &far_end)?;
        inside(&namespace, |netlink| {
            let index = netlink.link(&far.interface)?.index;
            netlink.set_up(index)?;
            if let Some(address) = far.address6 {
                // A namespace may have no IPv6.
                let added = netlink.add_address(index, IpNetwork::V6(address));
                unless(unless(added, Errno::ACCESS), Errno::OPNOTSUPP)?;
            }
            if let Some((address, router)) = far.address {
                netlink.add_address(index, IpNetwork::V4(address))?;
                if let Some(router) = router {
                    netlink.add_default_route(index, IpAddr::V4(router))?;
                }
            }
            Ok(())
        })
    }

    fn create_macvtap(&self, macvtap: &NewMacvtap) -> Result<PathBuf> {
        let parent = self.index(&macvtap.parent)?;
        let link = self
            .netlink
            .create_macvtap(parent, &macvtap.name, Some(macvtap.mac))?;
        let device = PathBuf::from(format!("/dev/tap{}", link.index));
        if let Some(owner) = macvtap.owner {
            std::os::unix::fs::chown(&device, Some(owner), None)
                .map_err(|err| LinuxError::host(format!("give {}", device.display()), &err))?;
        }
        Ok(device)
    }

    fn set_alias(&self, name: &str, alias: &str) -> Result<()> {
        self.netlink.set_alias(self.index(name)?, alias)
    }

    fn set_up(&self, name: &str, up: bool) -> Result<()> {
        let index = self.index(name)?;
        match up {
            true => self.netlink.set_up(index),
            false => self.netlink.set_down(index),
        }
    }

    fn set_bridge(&self, name: &str, bridge: Option<&str>) -> Result<()> {
        let bridge = bridge.map(|bridge| self.index(bridge)).transpose()?;
        self.netlink.set_bridge(self.index(name)?, bridge)
    }

    fn set_port(&self, name: &str, options: &PortOptions) -> Result<()> {
        self.netlink.set_port(self.index(name)?, options)
    }

    fn filter_vlans(&self, bridge: &str, ours: bool) -> Result<()> {
        match self.netlink.filters_vlans(self.index(bridge)?)? {
            true => Ok(()),
            false if ours => self.netlink.filter_vlans(bridge),
            false => Err(LinuxError::Invalid(format!(
                "{bridge} does not keep VLANs apart: ip link set {bridge} type bridge vlan_filtering 1"
            ))),
        }
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.netlink.delete_link(self.index(name)?)
    }

    fn addresses(&self, name: &str) -> Result<Vec<Address>> {
        self.netlink.addresses(self.index(name)?)
    }

    fn add_address(&self, name: &str, address: IpNetwork) -> Result<()> {
        self.netlink.add_address(self.index(name)?, address)
    }

    fn restore_address(&self, name: &str, address: &Address) -> Result<()> {
        self.netlink.restore_address(self.index(name)?, address)
    }

    fn delete_address(&self, name: &str, address: IpNetwork) -> Result<()> {
        let result = self.netlink.delete_address(self.index(name)?, address);
        unless(result, Errno::ADDRNOTAVAIL)
    }

    fn routes(&self, name: &str) -> Result<Vec<Route>> {
        self.netlink.routes(self.index(name)?)
    }

    fn add_route(&self, name: &str, route: &Route) -> Result<()> {
        unless(
            self.netlink.add_route(&self.through(name, route)?),
            Errno::EXIST,
        )
    }

    fn delete_route(&self, name: &str, route: &Route) -> Result<()> {
        unless(
            self.netlink.delete_route(&self.through(name, route)?),
            Errno::SRCH,
        )
    }

    fn apply_rules(&self, rules: &Table) -> Result<()> {
        self.nft()?.apply(rules)
    }

    fn delete_rules(&self, network: &str) -> Result<()> {
        self.nft()?.delete(network)
    }

    fn end_connections(&self, forward: &Forward) -> Result<()> {
        let ended = conntrack::forget(forward)?;
        log::debug!("{}: {ended} connections ended", forward.bind);
        Ok(())
    }

    fn setting(&self, path: &str) -> Result<Option<String>> {
        match self.sysctls.read(&path.parse()?) {
            Ok(value) => Ok(Some(value)),
            Err(err) if err.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn set_setting(&self, path: &str, value: &str) -> Result<()> {
        self.sysctls.write(&path.parse()?, value)
    }

    fn no_ipv6(&self) -> Result<Option<String>> {
        // What an interface is made with.
        let without = self.setting("net/ipv6/conf/default/disable_ipv6")?;
        Ok(match without.as_deref() {
            None => Some("this kernel has none".to_owned()),
            Some("0") if may(CapabilitySet::NET_RAW) => None,
            Some("0") => Some("router advertisements need CAP_NET_RAW".to_owned()),
            Some(_) => Some(
                "this host gives new interfaces none: sysctl net.ipv6.conf.default.disable_ipv6=0"
                    .to_owned(),
            ),
        })
    }
}

impl Host {
    /// A TAP device that goes with its descriptor.
    pub(super) fn open_tap(&self, name: &str, mtu: u16) -> Result<Tap> {
        let options = TapOptions { mtu, mac: None };
        let tap = Tap::open(name, options)?;
        self.netlink.set_mtu(self.index(name)?, mtu)?;
        Ok(tap)
    }

    /// Has what arrives at one interface leave by another.
    pub(super) fn redirect(&self, from: &str, to: &str) -> Result<()> {
        self.netlink.redirect(self.index(from)?, self.index(to)?)
    }

    /// The same route through the interface `name`.
    fn through(&self, name: &str, route: &Route) -> Result<Route> {
        let mut route = route.clone();
        route.interface = self.index(name)?;
        Ok(route)
    }
}

/// Whether this process has a privilege, as far as it can be told.
fn may(what: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|own| own.effective.contains(what))
}

/// Whether this process can have a network of this mode in the kernel; if not, why.
pub(crate) fn can(mode: NetworkMode) -> std::result::Result<(), String> {
    let own = capabilities(None).map_err(|err| format!("its capabilities are not known: {err}"))?;
    if !own.effective.contains(CapabilitySet::NET_ADMIN) {
        return Err("it needs CAP_NET_ADMIN: run as root".to_owned());
    }
    let tun = fs::OpenOptions::new().read(true).write(true).open(TUN);
    tun.map_err(|err| format!("{TUN}: {err}"))?;
    if mode != NetworkMode::Bridge {
        Nft::probe().map_err(|err| err.to_string())?;
    }
    Ok(())
}

fn seen(link: Link, bridge: Option<String>) -> Seen {
    Seen {
        name: link.name,
        mac: link.mac,
        alias: link.alias,
        kind: link.kind,
        bridge,
        up: link.up,
        mtu: link.mtu,
    }
}

/// A refusal that says that it is so already is none.
fn unless(result: Result<()>, already: Errno) -> Result<()> {
    match result {
        Err(err) if err.errno() == Some(already.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// The network namespace of a process, or the one that `ip netns` knows by this name.
fn open_namespace(name: &str) -> Result<fs::File> {
    let path = match name.parse::<u32>() {
        Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        Err(_) if name.contains('/') || matches!(name, "" | "." | "..") => {
            return Err(LinuxError::Invalid(format!(
                "{name:?} is neither a process number nor the name of a network namespace"
            )));
        }
        Err(_) => PathBuf::from("/run/netns").join(name),
    };
    fs::File::open(&path).map_err(|err| LinuxError::host(format!("open {}", path.display()), &err))
}

/// Works on another network namespace: by a thread of its own, which alone enters it.
fn inside<T: Send>(
    namespace: &fs::File,
    work: impl FnOnce(&Netlink) -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|err| LinuxError::host("enter the network namespace", &err.into()))?;
            work(&Netlink::new()?)
        });
        let ended = thread.join();
        ended.unwrap_or(Err(LinuxError::Helper("a thread panicked")))
    })
}
