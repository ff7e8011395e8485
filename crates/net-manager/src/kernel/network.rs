//! A network in the kernel: a bridge, its ports and its rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnetwork::IpNetwork;
use net_backend_linux::netlink::{Netlink, PortOptions};
use net_backend_linux::ra_socket::RaSocket;
use net_backend_linux::{Tap, TapOptions};
use net_usernet::Protocol;
use net_wire::MacAddr;
use socket2::Socket;

use super::forwarding::{self, Family};
use super::host::Host;
use super::journal::{Act, Header, Journal};
use super::ops::{KernelAttach, KernelForward, KernelOps, KernelPort};
use super::plan::Plan;
use super::reserved::reserve;
use super::state::{Held, StateDir};
use super::system::{FarEnd, NewMacvtap, NewTap, System};
use super::{names, take_over, undo};
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

/// A network in the kernel, and the journal of it. Whoever holds this needs CAP_NET_ADMIN, and sees
/// no frame.
///
/// Dropping it takes everything away again, as [`KernelNetwork::destroy`] does, with failures in
/// the log.
pub struct KernelNetwork {
    plan: Plan,
    inner: Mutex<Inner>,
}

struct Inner {
    system: Box<dyn System>,
    state: StateDir,
    journal: Journal,
    /// Gone once the network is destroyed.
    held: Option<Held>,
    forwards: BTreeMap<(Protocol, SocketAddr), Published>,
}

/// A published port.
struct Published {
    forward: KernelForward,
    /// Has the port, and nobody reads from it: a program of the host that took it would wait for
    /// connections that never come.
    _reserved: Socket,
}

impl KernelNetwork {
    /// Makes the network that `config` describes, after it has undone what a dead process of the
    /// same name has left.
    ///
    /// # Errors
    /// [`ManagerError::InUse`] if another process runs a network of this name;
    /// [`ManagerError::SubnetTaken`]; [`ManagerError::Invalid`] for settings that contradict one
    /// another; [`ManagerError::Linux`] as the kernel refuses. Nothing is left behind then.
    pub fn create(config: &NetworkConfig, state: &StateDir) -> Result<Self, ManagerError> {
        Self::create_on(Box::new(Host::new()?), config, state)
    }

    pub(super) fn create_on(
        system: Box<dyn System>,
        config: &NetworkConfig,
        state: &StateDir,
    ) -> Result<Self, ManagerError> {
        let plan = Plan::new(config)?.on(&*system)?;
        let held = state.hold(&plan.network)?;
        system.hold(held.lock());
        undo::clean(&*system, state, &held, &plan.network)?;
        let header = Header::new(&plan.network, system.boot()?, system.namespace()?);
        let journal = Journal::begin(held.journal(), header)?;
        let network = Self {
            inner: Mutex::new(Inner {
                system,
                state: state.clone(),
                journal,
                held: Some(held),
                forwards: BTreeMap::new(),
            }),
            plan,
        };
        // Dropped on failure, it undoes what has been done.
        network.build()?;
        Ok(network)
    }

    /// Cleans up after every dead network of `state` and leaves those that are alive alone.
    ///
    /// # Errors
    /// The first thing that could not be undone; everything else has been.
    pub fn recover(state: &StateDir) -> Result<Vec<undo::Recovered>, ManagerError> {
        undo::recover(&Host::new()?, state)
    }

    /// The name of the bridge.
    pub fn bridge(&self) -> &str {
        &self.plan.bridge
    }

    /// Opens the port behind which the network's own process stands.
    ///
    /// # Errors
    /// [`ManagerError::Linux`]: EBUSY if it is open already.
    pub fn service_port(&self) -> Result<Tap, ManagerError> {
        let options = TapOptions {
            mtu: self.plan.mtu,
            ..TapOptions::default()
        };
        Ok(Tap::open(&self.plan.service, options)?)
    }

    /// Opens the socket by which the host advertises itself as the network's router of IPv6, and the
    /// number of the interface that it belongs to; `None` where it is not, as
    /// [`KernelNetwork::no_ipv6`] says.
    ///
    /// # Errors
    /// [`ManagerError::Linux`]: no CAP_NET_RAW.
    pub fn router_socket(&self) -> Result<Option<(RaSocket, u32)>, ManagerError> {
        if self.plan.six.is_none() {
            return Ok(None);
        }
        let index = Netlink::new()?.link(&self.plan.bridge)?.index;
        Ok(Some((RaSocket::open(&self.plan.bridge, index)?, index)))
    }

    /// Why the host is the router of no IPv6 on this network, where it is not.
    pub fn no_ipv6(&self) -> Option<&str> {
        self.plan.no_ipv6.as_deref()
    }

    /// Takes everything away again.
    ///
    /// # Errors
    /// The first thing that could not be undone. It stays in the journal, for whoever starts next.
    pub fn destroy(self) -> Result<(), ManagerError> {
        self.inner().destroy(&self.plan.network)
    }

    /// The lock is held over calls of the kernel, whose outcome the journal knows at any moment: a
    /// panic while it is held leaves nothing that could not be undone.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self) -> Result<(), ManagerError> {
        let plan = &self.plan;
        let mut inner = self.inner();
        plan.check(&*inner.system)?;
        let taken = match &plan.take_over {
            Some(interface) => Some(take_over::inspect(&*inner.system, interface, &plan.bridge)?),
            None => None,
        };
        if plan.owns_bridge {
            inner.make_bridge(plan)?;
        }
        inner.journal.note(Act::Link {
            name: plan.service.clone(),
            mac: None,
        })?;
        inner.system.create_tap(&NewTap {
            name: plan.service.clone(),
            queues: 1,
            owner: None,
            group: None,
            mtu: plan.mtu,
            alias: names::mark(&plan.network),
        })?;
        // Where there is no gateway, only guests stand behind this port.
        let isolated = plan.isolated && plan.address.is_none();
        inner.join(plan, &plan.service, None, isolated)?;
        // Before the first packet could be forwarded, the rules stand.
        if plan.address.is_some() {
            inner.journal.note(Act::Rules {})?;
            inner.apply(plan)?;
        }
        if plan.mode == NetworkMode::Nat {
            inner.enable_forwarding(plan, Family::V4)?;
            if plan.six.is_some() {
                inner.enable_forwarding(plan, Family::V6)?;
            }
        }
        if let Some(taken) = taken {
            inner.journal.note(Act::TakeOver(taken.clone()))?;
            take_over::take(&*inner.system, &taken)?;
        }
        Ok(())
    }

    fn tap(&self, tap: &super::ops::TapPort) -> Result<KernelPort, ManagerError> {
        names::check_interface(&tap.name)?;
        check_vlan(tap.vlan)?;
        let plan = &self.plan;
        let mut inner = self.inner();
        inner.vacant(&tap.name)?;
        inner.attempt(&plan.network, &tap.name, None, |inner| {
            inner.system.create_tap(&NewTap {
                name: tap.name.clone(),
                queues: tap.queues.unwrap_or(plan.queues),
                owner: tap.owner,
                group: tap.group,
                mtu: plan.mtu,
                alias: names::mark(&plan.network),
            })?;
            inner.join(plan, &tap.name, tap.vlan, plan.isolated)?;
            Ok(KernelPort {
                interface: tap.name.clone(),
                device: None,
            })
        })
    }

    fn netns(&self, port: &super::ops::NetnsPort) -> Result<KernelPort, ManagerError> {
        names::check_interface(&port.interface)?;
        check_vlan(port.vlan)?;
        let plan = &self.plan;
        let near = names::veth(&plan.network, &port.namespace, &port.interface);
        let mac = crate::mac::mac_for(&plan.network, &near);
        let mut inner = self.inner();
        inner.vacant(&near)?;
        inner.attempt(&plan.network, &near, Some(mac), |inner| {
            let far = FarEnd {
                namespace: port.namespace.clone(),
                interface: port.interface.clone(),
                mac: MacAddr(port.mac),
                mtu: plan.mtu,
                address: port.address,
                address6: port.address6,
            };
            inner.system.create_veth(&near, mac, &far)?;
            inner.system.set_alias(&near, &names::mark(&plan.network))?;
            inner.join(plan, &near, port.vlan, plan.isolated)?;
            Ok(KernelPort {
                interface: near.clone(),
                device: None,
            })
        })
    }

    fn macvtap(&self, port: &super::ops::MacvtapPort) -> Result<KernelPort, ManagerError> {
        names::check_interface(&port.name)?;
        names::check_interface(&port.parent)?;
        let mac = MacAddr(port.mac);
        if self.plan.mode != NetworkMode::Bridge {
            return Err(ManagerError::Invalid(
                "a macvtap leads to the physical network: it needs bridge mode".to_owned(),
            ));
        }
        if !mac.is_unicast() {
            return Err(ManagerError::Invalid(format!(
                "{mac} is not the address of one station"
            )));
        }
        let network = &self.plan.network;
        let mut inner = self.inner();
        inner.vacant(&port.name)?;
        inner.attempt(network, &port.name, Some(mac), |inner| {
            let device = inner.system.create_macvtap(&NewMacvtap {
                parent: port.parent.clone(),
                name: port.name.clone(),
                mac,
                owner: port.owner,
            })?;
            inner.system.set_alias(&port.name, &names::mark(network))?;
            inner.system.set_up(&port.name, true)?;
            Ok(KernelPort {
                interface: port.name.clone(),
                device: Some(device),
            })
        })
    }
}

impl KernelOps for KernelNetwork {
    fn attach(&self, what: &KernelAttach) -> Result<KernelPort, ManagerError> {
        match what {
            KernelAttach::Tap(port) => self.tap(port),
            KernelAttach::Netns(port) => self.netns(port),
            KernelAttach::Macvtap(port) => self.macvtap(port),
        }
    }

    fn detach(&self, interface: &str) -> Result<(), ManagerError> {
        let plan = &self.plan;
        let mut inner = self.inner();
        // The bridge and the service port are no attachments.
        let infrastructure = [&plan.bridge, &plan.service];
        let attached = inner
            .journal
            .acts()
            .iter()
            .any(|act| matches!(act, Act::Link { name, .. } if name == interface));
        if !attached || infrastructure.iter().any(|name| *name == interface) {
            return Err(ManagerError::NotAttached(interface.to_owned()));
        }
        inner.unlink(&plan.network, interface)?;
        if plan.isolated {
            inner.apply(plan)?;
        }
        Ok(())
    }

    fn forward(&self, forward: &KernelForward) -> Result<SocketAddr, ManagerError> {
        let plan = &self.plan;
        if plan.address.is_none() {
            return Err(ManagerError::NoGateway(forward.bind.port()));
        }
        if forward.bind.is_ipv4() != forward.guest.is_ipv4() {
            return Err(ManagerError::Invalid(format!(
                "{} cannot lead to {}: the kernel does not translate between IPv4 and IPv6",
                forward.bind, forward.guest
            )));
        }
        if let (true, None, Some(why)) = (forward.bind.is_ipv6(), plan.six, &plan.no_ipv6) {
            return Err(ManagerError::NoIpv6 {
                bind: forward.bind,
                why: why.clone(),
            });
        }
        if !plan.is_for_a_guest(forward.guest.ip()) {
            return Err(ManagerError::Invalid(format!(
                "{} is no guest's address: a published port leads to one",
                forward.guest.ip()
            )));
        }
        let mut inner = self.inner();
        // A network that is for the host alone needs nothing forwarded, but for what is published
        // beyond the host.
        if !forward.bind.ip().is_loopback() {
            inner.enable_forwarding(plan, Family::of(forward.bind))?;
        }
        let (reserved, address) = reserve(forward.protocol, forward.bind)?;
        let published = Published {
            forward: KernelForward {
                bind: address,
                ..*forward
            },
            _reserved: reserved,
        };
        let key = (forward.protocol, address);
        inner.forwards.insert(key, published);
        if let Err(err) = inner.apply(plan) {
            inner.forwards.remove(&key);
            return Err(err);
        }
        Ok(address)
    }

    fn unforward(&self, protocol: Protocol, address: SocketAddr) -> Result<(), ManagerError> {
        let mut inner = self.inner();
        let Some(published) = inner.forwards.remove(&(protocol, address)) else {
            return Ok(());
        };
        inner.apply(&self.plan)?;
        // Without ctnetlink they go on until they end by themselves; nobody new comes in.
        if let Err(err) = inner.system.end_connections(&published.forward.into()) {
            log::warn!("{address}: its connections go on: {err}");
        }
        Ok(())
    }
}

impl Inner {
    fn make_bridge(&mut self, plan: &Plan) -> Result<(), ManagerError> {
        // A bridge that takes an interface over is known outside by the address of that.
        let parent = match &plan.take_over {
            Some(interface) => self.system.find(interface)?.and_then(|seen| seen.mac),
            None => None,
        };
        let mac = parent.unwrap_or(plan.bridge_mac);
        self.journal.note(Act::Link {
            name: plan.bridge.clone(),
            mac: Some(mac.0),
        })?;
        self.system.create_bridge(&plan.bridge, mac, plan.mtu)?;
        self.system
            .set_alias(&plan.bridge, &names::mark(&plan.network))?;
        if let Some(address) = plan.address {
            // For programs of the host that use a published port at 127.0.0.1; the rules keep
            // guests from using it.
            let setting = format!("net/ipv4/conf/{}/route_localnet", plan.bridge);
            self.system.set_setting(&setting, "1")?;
            self.system
                .add_address(&plan.bridge, IpNetwork::V4(address))?;
            // The host hears no router of a guest's making.
            self.set6(&plan.bridge, "accept_ra", "0")?;
            match plan.six {
                // It has one address on the link, which guests know their router by.
                Some(_) => self.set6(&plan.bridge, "addr_gen_mode", "1")?,
                None => self.set6(&plan.bridge, "disable_ipv6", "1")?,
            }
        }
        self.system.set_up(&plan.bridge, true)?;
        // The kernel makes the route of an address of IPv6 only where the interface is up.
        for address in plan
            .six
            .iter()
            .flat_map(|six| [six.link_local, six.address])
        {
            self.system
                .add_address(&plan.bridge, IpNetwork::V6(address))?;
        }
        Ok(())
    }

    /// Changes a setting of IPv6 of an interface of ours, on a host that has IPv6.
    fn set6(&self, interface: &str, setting: &str, value: &str) -> Result<(), ManagerError> {
        let path = format!("net/ipv6/conf/{interface}/{setting}");
        if self.system.setting(&path)?.is_some_and(|now| now != value) {
            self.system.set_setting(&path, value)?;
        }
        Ok(())
    }

    /// Makes an interface a port of the network's bridge.
    fn join(
        &mut self,
        plan: &Plan,
        interface: &str,
        vlan: Option<u16>,
        isolated: bool,
    ) -> Result<(), ManagerError> {
        if let Some(vlan) = vlan {
            self.system.filter_vlans(&plan.bridge, plan.owns_bridge)?;
            if let Some(uplink) = &plan.take_over {
                let options = PortOptions {
                    tagged: vec![vlan],
                    ..PortOptions::default()
                };
                self.system.set_port(uplink, &options)?;
            }
        }
        self.system.set_bridge(interface, Some(&plan.bridge))?;
        // The host is on the bridge, not on its ports: it would look for routers behind each.
        self.set6(interface, "disable_ipv6", "1")?;
        if isolated || vlan.is_some() {
            let options = PortOptions {
                isolated,
                pvid: vlan,
                ..PortOptions::default()
            };
            self.system.set_port(interface, &options)?;
        }
        if plan.isolated && interface != plan.service {
            // Before its first frame it is among those that are kept apart.
            self.apply(plan)?;
        }
        Ok(self.system.set_up(interface, true)?)
    }

    /// Refuses a name that is in use.
    fn vacant(&self, interface: &str) -> Result<(), ManagerError> {
        match self.system.find(interface)? {
            None => Ok(()),
            Some(_) => Err(ManagerError::Invalid(format!(
                "there is an interface {interface} already"
            ))),
        }
    }

    /// Makes the interface `name` by `make`, written down before and undone if it fails.
    fn attempt(
        &mut self,
        network: &str,
        name: &str,
        mac: Option<MacAddr>,
        make: impl FnOnce(&mut Self) -> Result<KernelPort, ManagerError>,
    ) -> Result<KernelPort, ManagerError> {
        self.journal.note(Act::Link {
            name: name.to_owned(),
            mac: mac.map(|mac| mac.0),
        })?;
        let made = make(self);
        if made.is_err()
            && let Err(err) = self.unlink(network, name)
        {
            log::warn!("network {network}: {name} is left for later: {err}");
        }
        made
    }

    fn unlink(&mut self, network: &str, interface: &str) -> Result<(), ManagerError> {
        let is_it = |act: &Act| matches!(act, Act::Link { name, .. } if name == interface);
        for act in self.journal.acts().iter().filter(|act| is_it(act)) {
            undo::undo(&*self.system, &self.state, network, act)?;
        }
        self.journal.strike(is_it)
    }

    /// Lets the kernel forward packets of a family, once.
    fn enable_forwarding(&mut self, plan: &Plan, family: Family) -> Result<(), ManagerError> {
        let is_it = |act: &Act| match act {
            Act::Forwarding { settings } => family.is_of(settings),
            _ => false,
        };
        if self.journal.acts().iter().any(is_it) {
            return Ok(());
        }
        let journal = &mut self.journal;
        forwarding::enable(&*self.system, &self.state, &plan.network, journal, family)
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), ManagerError> {
        let acts = self.journal.acts().iter();
        let guests = acts.filter_map(|act| match act {
            Act::Link { name, .. } if *name != plan.bridge && *name != plan.service => {
                Some(name.clone())
            }
            _ => None,
        });
        let Some(mut rules) = plan.rules(guests.collect()) else {
            return Ok(());
        };
        rules.forwards = self.forwards.values().map(|it| it.forward.into()).collect();
        Ok(self.system.apply_rules(&rules)?)
    }

    fn destroy(&mut self, network: &str) -> Result<(), ManagerError> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        self.forwards.clear();
        undo::undo_all(&*self.system, &self.state, network, &mut self.journal)?;
        held.remove();
        Ok(())
    }
}

impl Drop for KernelNetwork {
    fn drop(&mut self) {
        let network = &self.plan.network;
        if let Err(err) = self.inner().destroy(network) {
            log::error!("network {network} leaves something behind: {err}");
        }
    }
}

impl std::fmt::Debug for KernelNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelNetwork")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

fn check_vlan(vlan: Option<u16>) -> Result<(), ManagerError> {
    match vlan {
        Some(vlan) if !(1..=4094).contains(&vlan) => Err(ManagerError::Invalid(format!(
            "a VLAN is a number from 1 to 4094, not {vlan}"
        ))),
        _ => Ok(()),
    }
}
