//! The contenders: a guest, its host, and a host outside.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::Command;

use net_backend_linux::netlink::{BridgeOptions, Netlink, VethEnd};
use net_backend_linux::{Tap, TapOptions};
use net_manager::{
    AttachOptions, Engine, Network, NetworkConfig, NetworkMode, UplinkConfig, UplinkDevice,
    kernel_can,
};
use net_wire::MacAddr;

use crate::namespace::{self, Namespace};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The host outside, which answers.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// What it sees of the guests.
const HOST: &str = "198.51.100.2";
/// The guests' network and its router.
const SUBNET: &str = "10.7.0.0/24";
const ROUTER: &str = "10.7.0.1";
/// What the guest's interface is called in its namespace.
const INTERFACE: &str = "eth0";
const GUEST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

/// Rules as an administrator writes them.
const RULES: &str = "
    table ip hand {
        chain postrouting {
            type nat hook postrouting priority srcnat;
            ip saddr 10.7.0.0/24 oifname != \"br0\" masquerade
        }
        chain forward {
            type filter hook forward priority filter; policy drop;
            ct state established,related accept
            iifname \"br0\" accept
        }
    }";

/// A guest with a way to the host outside.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) guest: Namespace,
    pub(crate) outside: Namespace,
    network: Option<Network>,
    host: Namespace,
    _state: Option<tempfile::TempDir>,
}

impl Drop for World {
    fn drop(&mut self) {
        // What it takes back is looked for in the namespace of the thread that says so.
        if let Some(network) = &self.network {
            self.host.enter(|| network.stop());
        }
    }
}

/// Every contender, the one made by hand first; or why there can be none.
pub(crate) fn all() -> Result<Vec<World>> {
    // This thread too: nothing here is done in the machine's own namespace, not even by mistake.
    namespace::unshare().map_err(|err| format!("cannot make a network namespace: {err}"))?;
    kernel_can(NetworkMode::Nat)?;
    Ok(vec![
        World::by_hand()?,
        World::by_network("engine kernel", Engine::Kernel)?,
        World::by_network("engine user", Engine::User)?,
        World::by_network("engine fast", Engine::Fast)?,
    ])
}

impl World {
    /// The host, the host outside, and the wire between them.
    fn outside(host_has_address: bool) -> Result<(Namespace, Namespace)> {
        let (host, outside) = (Namespace::new()?, Namespace::new()?);
        host.enter(|| -> Result<()> {
            let netlink = Netlink::new()?;
            let far = VethEnd {
                netns: Some(outside.fd()),
                ..VethEnd::named(INTERFACE)
            };
            netlink.create_veth(&VethEnd::named("up0"), &far)?;
            let up = netlink.link("up0")?.index;
            if host_has_address {
                netlink.add_address(up, format!("{HOST}/24").parse()?)?;
            }
            Ok(netlink.set_up(up)?)
        })?;
        outside.enter(|| address(&format!("{OUTSIDE}/24"), None))?;
        Ok((host, outside))
    }

    fn by_hand() -> Result<Self> {
        let (host, outside) = Self::outside(true)?;
        let guest = Namespace::new()?;
        host.enter(|| -> Result<()> {
            let netlink = Netlink::new()?;
            let bridge = netlink
                .create_bridge("br0", &BridgeOptions::default())?
                .index;
            let far = VethEnd {
                netns: Some(guest.fd()),
                ..VethEnd::named(INTERFACE)
            };
            netlink.create_veth(&VethEnd::named("guest0"), &far)?;
            let port = netlink.link("guest0")?.index;
            netlink.set_bridge(port, Some(bridge))?;
            netlink.add_address(bridge, format!("{ROUTER}/24").parse()?)?;
            netlink.set_up(port)?;
            netlink.set_up(bridge)?;
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            match Command::new("nft").arg(RULES).status()?.success() {
                true => Ok(()),
                false => Err("nft refuses the rules".into()),
            }
        })?;
        guest.enter(|| address("10.7.0.2/24", Some(ROUTER)))?;
        Ok(Self {
            name: "veth, bridge, nftables by hand",
            guest,
            outside,
            network: None,
            host,
            _state: None,
        })
    }

    fn by_network(name: &'static str, engine: Engine) -> Result<Self> {
        // The fast engine has the outside address for itself.
        let (host, outside) = Self::outside(engine != Engine::Fast)?;
        let guest = Namespace::new()?;
        let state = tempfile::tempdir()?;
        let mut config = NetworkConfig::default();
        config.name = "bench".to_owned();
        config.engine = engine;
        config.subnet = SUBNET.parse()?;
        config.dns = vec!["192.0.2.53:53".parse()?];
        config.state_dir = Some(state.path().to_owned());
        if engine == Engine::Fast {
            let device = UplinkDevice::Interface("up0".to_owned());
            let via = Some(OUTSIDE);
            config.uplink = Some(UplinkConfig::new(
                device,
                format!("{HOST}/24").parse()?,
                via,
            ));
        }
        let network = host.enter(|| -> Result<Network> {
            let network = Network::new(config);
            network.start()?;
            match engine {
                Engine::Kernel => {
                    let thread = guest.thread().to_string();
                    network.attach_netns(&thread, INTERFACE, None, AttachOptions::default())?;
                }
                _ => attach_tap(&network, &guest)?,
            }
            Ok(network)
        })?;
        Ok(Self {
            name,
            guest,
            outside,
            network: Some(network),
            host,
            _state: Some(state),
        })
    }
}

/// Gives the namespace's interface an address, and a router.
fn address(network: &str, router: Option<&str>) -> Result<()> {
    let netlink = Netlink::new()?;
    let index = netlink.link(INTERFACE)?.index;
    netlink.add_address(index, network.parse()?)?;
    netlink.set_up(index)?;
    if let Some(router) = router {
        netlink.add_default_route(index, router.parse()?)?;
    }
    Ok(())
}

/// A TAP device whose interface is the guest's, and whose other end is the network's.
fn attach_tap(network: &Network, guest: &Namespace) -> Result<()> {
    let tap = Tap::open(INTERFACE, TapOptions::default())?;
    let netlink = Netlink::new()?;
    let index = netlink.link(INTERFACE)?.index;
    netlink.set_mac(index, GUEST_MAC)?;
    netlink.move_to_netns(index, guest.fd())?;
    let options = AttachOptions {
        mac: Some(GUEST_MAC.0),
        ..AttachOptions::default()
    };
    let info = network.attach(Box::new(tap), options)?;
    guest.enter(|| address(&format!("{}/24", info.address), Some(ROUTER)))
}
