//! What a network's table says.
//!
//! ```text
//! prerouting, raw    guard        nothing of 127.0.0.0/8 comes from a guest
//! prerouting, dstnat published    a published port leads to its guest
//! output, dstnat     local        the same for clients on the host itself
//! forward, filter    forward ──►  from_guests: what is known; in NAT mode what has a guest's source
//!                            ──►  to_guests: what is known, what came by a published port
//! postrouting, srcnat source      the way out, and back to the host where it must lead
//! ```
//!
//! Connections that are known are decided by the second or third rule that they meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use net_wire::MacAddr;
use nftables::batch::Batch;
use nftables::schema::NfListObject;
use nftables::types::{NfChainType, NfFamily, NfHook};

use super::rules::{
    self, ACCEPT, DROP, MASQUERADE, Word, address_in, address_outside, established, ether,
    family_of, from_interface, from_one_of, goto, invalid, redirect, redirected, to_address,
    to_group, to_interface, to_one_of, to_others_than, to_port, to_this_host,
};
use crate::{LinuxError, Result, ioctl};

/// The longest name of a network, in bytes; the kernel's tables take 255.
const NAME_MAX: usize = 200;
/// Most published ports of one network.
const FORWARDS_MAX: usize = 4096;

/// Where hooks of one place stand in line (`nft(8)`, priorities).
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The host's own addresses of IPv4 (RFC 1122, 3.2.1.3).
const LOOPBACK4: IpNetwork = match Ipv4Network::new_checked(Ipv4Addr::new(127, 0, 0, 0), 8) {
    Some(network) => IpNetwork::V4(network),
    None => panic!("8 bits are a prefix"),
};
/// That of IPv6 (RFC 4291, 2.5.3).
const LOOPBACK6: IpNetwork = match Ipv6Network::new_checked(Ipv6Addr::LOCALHOST, 128) {
    Some(network) => IpNetwork::V6(network),
    None => panic!("128 bits are a prefix"),
};

/// The transport protocol of a published port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A published port: what arrives at `bind` goes to `guest`, with the client's source address kept.
///
/// The kernel asks the rules once for each connection. One that is open when its port is withdrawn
/// goes on until [`forget`](crate::conntrack::forget) ends it; one of UDP that began before its port was published is led to the guest only after it was
/// silent for as long as the kernel remembers it (30 seconds, by default).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Forward {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The host's address and port: unspecified for all addresses of that family; 127.0.0.0/8 for
    /// clients on the host alone. Those are seen by the guest under the bridge's address.
    pub bind: SocketAddr,
    /// The guest's address and port, of the same family.
    pub guest: SocketAddr,
}

/// How far guests reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reach {
    /// The bridge is a part of the outside network: no rule but those of isolation.
    #[default]
    Bridged,
    /// The host, and each other. Published ports are reached from outside all the same.
    HostOnly,
    /// The host, each other, and the outside under the host's address.
    Nat,
}

/// Keeps the guests of a network from one another, by the ports of the bridge that they are behind.
///
/// Between ports alone the bridge's own flag does the same
/// ([`PortOptions::isolated`](crate::netlink::PortOptions)); rules are for a port that has the
/// gateway and guests behind it. What is not named here, such as an uplink, is reached by everybody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Isolation {
    /// Ports with a guest each.
    pub ports: Vec<String>,
    /// The port behind which the gateway stands, and its hardware address: of all behind that port,
    /// those guests reach the gateway alone, and groups.
    pub gateway: Option<(String, MacAddr)>,
    /// The hardware address of the host on the bridge. A guest that sends from it would be heard as
    /// the router behind the gateway's port, by the router advertisements of IPv6 above all.
    pub router: Option<MacAddr>,
}

/// The rules of one network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// The network's name: letters, digits, `-`, `_` and `.`, 200 at most.
    pub network: String,
    /// The interface that the guests are behind.
    pub bridge: String,
    /// How far they reach.
    pub reach: Reach,
    /// Their IPv4 network. Without it they have no IPv4 beyond the bridge.
    pub subnet4: Option<Ipv4Network>,
    /// Their IPv6 network. Without it they have no IPv6 beyond the bridge.
    pub subnet6: Option<Ipv6Network>,
    /// What is published.
    pub forwards: Vec<Forward>,
    /// Whether they are kept from one another.
    pub isolation: Option<Isolation>,
}

impl Table {
    /// Checks what the kernel or `nft` would misread.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`] with the reason: a name, a port of 0, two families in one forward,
    /// `::1` as an address to publish on (the kernel does not carry it beyond the host), the same
    /// port twice, or more than 4,096 ports.
    pub fn validate(&self) -> Result<()> {
        let invalid = |why: String| Err(LinuxError::Invalid(why));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let network = &self.network;
        if network.is_empty() || network.len() > NAME_MAX || !network.bytes().all(plain) {
            return invalid(format!("{network:?} cannot be a network's name"));
        }
        let isolation = self.isolation.as_slice().iter();
        let ports = isolation.flat_map(|it| it.ports.iter().chain(it.gateway.iter().map(|g| &g.0)));
        for name in std::iter::once(&self.bridge).chain(ports) {
            // An asterisk at the end would mean every interface that begins like this.
            let fits = (1..=ioctl::NAME_MAX).contains(&name.len());
            if !fits
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"*\"/".contains(&b))
            {
                return invalid(format!("{name:?} cannot be an interface's name"));
            }
        }
        if self.forwards.len() > FORWARDS_MAX {
            return invalid(format!("more than {FORWARDS_MAX} published ports"));
        }
        let mut seen = std::collections::HashSet::new();
        for Forward {
            protocol,
            bind,
            guest,
        } in &self.forwards
        {
            let name = protocol.name();
            if bind.port() == 0 || guest.port() == 0 || bind.is_ipv4() != guest.is_ipv4() {
                return invalid(format!("{name} {bind} cannot lead to {guest}"));
            }
            if bind.ip() == IpAddr::from(Ipv6Addr::LOCALHOST) {
                return invalid(format!(
                    "{name} {bind} cannot be published by the kernel, which carries ::1 nowhere; \
                     127.0.0.1 can"
                ));
            }
            if !seen.insert((*protocol, *bind)) {
                return invalid(format!("{name} {bind} is published twice"));
            }
        }
        Ok(())
    }

    /// A table with a rule of every kind, to see whether the kernel takes them.
    pub(super) fn sample() -> Self {
        let forward = |bind: &str, guest: &str| {
            Some(Forward {
                protocol: Protocol::Tcp,
                bind: bind.parse().ok()?,
                guest: guest.parse().ok()?,
            })
        };
        Self {
            network: "probe".into(),
            bridge: "ab-probe".into(),
            reach: Reach::Nat,
            subnet4: "192.0.2.0/24".parse().ok(),
            subnet6: "2001:db8::/64".parse().ok(),
            forwards: [
                forward("0.0.0.0:80", "192.0.2.2:80"),
                forward("127.0.0.1:81", "192.0.2.2:80"),
                forward("[::]:80", "[2001:db8::2]:80"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            // Not every kernel that can do NAT has rules for bridges, and few networks need them.
            isolation: None,
        }
    }

    /// The whole table in one transaction: what was there goes with it. `forget_bridge`: so does the
    /// table of isolation that is no longer wanted.
    pub(super) fn batch(&self, forget_bridge: bool) -> Batch<'static> {
        let mut batch = Batch::new();
        let inet = rules::table(NfFamily::INet, &self.network);
        batch.add(NfListObject::Table(inet.clone()));
        batch.delete(NfListObject::Table(inet.clone()));
        if self.reach != Reach::Bridged {
            batch.add(NfListObject::Table(inet));
            self.guard(&mut batch);
            self.published(&mut batch);
            self.forward(&mut batch);
            self.source(&mut batch);
        }
        let bridge = rules::table(NfFamily::Bridge, &self.network);
        if let Some(isolation) = &self.isolation {
            batch.add(NfListObject::Table(bridge.clone()));
            batch.delete(NfListObject::Table(bridge.clone()));
            batch.add(NfListObject::Table(bridge));
            self.isolate(&mut batch, isolation);
        } else if forget_bridge {
            batch.delete(NfListObject::Table(bridge));
        }
        batch
    }

    fn base(
        &self,
        batch: &mut Batch<'static>,
        chain: &'static str,
        place: (NfChainType, NfHook, i32),
    ) {
        batch.add(rules::base_chain(
            NfFamily::INet,
            &self.network,
            chain,
            place,
        ));
    }

    fn rule(
        &self,
        batch: &mut Batch<'static>,
        chain: &'static str,
        words: impl IntoIterator<Item = Word>,
    ) {
        let words = words.into_iter().collect();
        batch.add(rules::rule(NfFamily::INet, &self.network, chain, words));
    }

    fn subnets(&self) -> impl Iterator<Item = IpNetwork> {
        let four = self.subnet4.map(IpNetwork::V4);
        four.into_iter().chain(self.subnet6.map(IpNetwork::V6))
    }

    /// The kernel is told to route 127.0.0.0/8 on the bridge for clients of the host that use a
    /// published port there; guests must gain nothing by it. (What belongs to such a connection
    /// carries the bridge's address here: addresses are put back only after this.)
    fn guard(&self, batch: &mut Batch<'static>) {
        let chain = "guard";
        let place = (NfChainType::Filter, NfHook::Prerouting, RAW);
        self.base(batch, chain, place);
        for direction in ["saddr", "daddr"] {
            self.rule(
                batch,
                chain,
                [
                    from_interface(&self.bridge),
                    address_in(direction, LOOPBACK4),
                    DROP,
                ],
            );
        }
    }

    fn published(&self, batch: &mut Batch<'static>) {
        for (chain, hook) in [("published", NfHook::Prerouting), ("local", NfHook::Output)] {
            self.base(batch, chain, (NfChainType::NAT, hook, DSTNAT));
            for forward in &self.forwards {
                let Forward {
                    protocol,
                    bind,
                    guest,
                } = *forward;
                let mut words = Vec::new();
                if bind.ip().is_unspecified() {
                    words.extend([family_of(bind.ip()), to_this_host()]);
                    if bind.is_ipv6() {
                        // The kernel cannot carry ::1 beyond the host: left to whoever listens there.
                        words.push(address_outside("daddr", LOOPBACK6));
                    }
                } else if bind.ip().is_loopback() && hook == NfHook::Prerouting {
                    continue;
                } else {
                    words.push(to_address(bind.ip()));
                }
                words.extend([to_port(protocol.name(), bind.port()), redirect(guest)]);
                self.rule(batch, chain, words);
            }
        }
    }

    fn forward(&self, batch: &mut Batch<'static>) {
        let bridge = &self.bridge;
        let (from, to) = ("from_guests", "to_guests");
        batch.add(rules::chain(&self.network, from));
        batch.add(rules::chain(&self.network, to));
        self.rule(batch, from, [established(), ACCEPT]);
        self.rule(batch, from, [to_interface(bridge), redirected(), ACCEPT]);
        // Where the module br_netfilter is loaded, frames between ports come by here too.
        match &self.isolation {
            None => self.rule(batch, from, [to_interface(bridge), ACCEPT]),
            // Those to and from the gateway pass. What the host would route from one guest to
            // another was sent to the host's own hardware address.
            Some(isolation) => {
                if let Some((_, mac)) = &isolation.gateway {
                    let passes = [ether("saddr", *mac), ether("daddr", *mac), to_group()];
                    for word in passes {
                        self.rule(batch, from, [to_interface(bridge), word, ACCEPT]);
                    }
                }
            }
        }
        if self.reach == Reach::Nat {
            // Such a packet would leave with the guest's own address.
            self.rule(batch, from, [invalid(), DROP]);
            for subnet in self.subnets() {
                self.rule(batch, from, [address_in("saddr", subnet), ACCEPT]);
            }
        }
        self.rule(batch, from, [DROP]);
        self.rule(batch, to, [established(), ACCEPT]);
        self.rule(batch, to, [redirected(), ACCEPT]);
        self.rule(batch, to, [DROP]);

        let chain = "forward";
        self.base(batch, chain, (NfChainType::Filter, NfHook::Forward, FILTER));
        self.rule(batch, chain, [from_interface(bridge), goto(from)]);
        self.rule(batch, chain, [to_interface(bridge), goto(to)]);
    }

    fn source(&self, batch: &mut Batch<'static>) {
        let (chain, bridge) = ("source", &self.bridge);
        self.base(
            batch,
            chain,
            (NfChainType::NAT, NfHook::Postrouting, SRCNAT),
        );
        // A guest could not answer 127.0.0.1.
        self.rule(
            batch,
            chain,
            [
                to_interface(bridge),
                address_in("saddr", LOOPBACK4),
                MASQUERADE,
            ],
        );
        for subnet in self.subnets() {
            // A guest that answers another one directly would be taken for a stranger: the other
            // asked the host.
            self.rule(
                batch,
                chain,
                [
                    to_interface(bridge),
                    address_in("saddr", subnet),
                    redirected(),
                    MASQUERADE,
                ],
            );
            if self.reach == Reach::Nat {
                self.rule(
                    batch,
                    chain,
                    [
                        to_others_than(bridge),
                        address_in("saddr", subnet),
                        MASQUERADE,
                    ],
                );
            }
        }
    }

    fn isolate(&self, batch: &mut Batch<'static>, isolation: &Isolation) {
        let (family, chain, network) = (NfFamily::Bridge, "isolation", &self.network);
        let place = (NfChainType::Filter, NfHook::Forward, FILTER);
        batch.add(rules::base_chain(family, network, chain, place));
        let mut add = |words: Vec<Word>| batch.add(rules::rule(family, network, chain, words));
        let ports = &isolation.ports;
        if ports.is_empty() {
            return;
        }
        let from_guest = || from_one_of(ports);
        let to_guest = || to_one_of(ports);
        add(vec![from_guest(), to_guest(), DROP]);
        if let Some(mac) = isolation.router {
            add(vec![from_guest(), ether("saddr", mac), DROP]);
        }
        if let Some((port, mac)) = &isolation.gateway {
            let to_port = || to_interface(port);
            add(vec![from_guest(), to_port(), ether("daddr", *mac), ACCEPT]);
            add(vec![from_guest(), to_port(), to_group(), ACCEPT]);
            add(vec![from_guest(), to_port(), DROP]);
            let from_port = || from_interface(port);
            add(vec![from_port(), to_guest(), ether("saddr", *mac), ACCEPT]);
            add(vec![from_port(), to_guest(), DROP]);
        }
    }
}
