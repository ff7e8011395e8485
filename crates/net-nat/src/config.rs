//! How an engine behaves, and why a configuration is refused.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::address::Address;
use crate::fragment::FragmentConfig;
use crate::nptv6::Nptv6;
use crate::prefix::Prefix;

/// What a mapping, or the filter in front of it, depends on (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependence {
    /// Nothing: one outside port for an inside port whoever it talks to; anybody may answer.
    EndpointIndependent,
    /// The address of the other end.
    AddressDependent,
    /// The address and the port of the other end.
    AddressAndPortDependent,
}

/// How a protocol is mapped and filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Behaviour {
    /// Which packets of an inside endpoint share an outside endpoint. RFC 4787 REQ-1 and RFC 5382
    /// REQ-1 demand [`Dependence::EndpointIndependent`].
    pub mapping: Dependence,
    /// Whose packets a mapping admits. RFC 4787 REQ-8 and RFC 5382 REQ-3 recommend
    /// [`Dependence::EndpointIndependent`] for openness, [`Dependence::AddressDependent`] for
    /// strictness.
    pub filtering: Dependence,
}

impl Default for Behaviour {
    /// Endpoint-independent mapping, address-dependent filtering.
    fn default() -> Self {
        Self {
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::AddressDependent,
        }
    }
}

/// How long what is silent is remembered; whole seconds, 1 s to 100 years.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP: 2 minutes at least, 5 recommended (RFC 4787, REQ-5). Default 5 minutes.
    pub udp: Duration,
    /// UDP to the ports of [`NatConfig::udp_short_ports`]; may be shorter (REQ-5a). Default 1 minute.
    pub udp_short: Duration,
    /// TCP before both ends have spoken: 4 minutes at least (RFC 5382, REQ-5). Default 4 minutes.
    pub tcp_opening: Duration,
    /// TCP: 2 hours 4 minutes at least (RFC 5382, REQ-5), which is the default.
    pub tcp_established: Duration,
    /// TCP after both FINs or a RST: 4 minutes at least (RFC 5382, REQ-5). Default 4 minutes.
    pub tcp_closing: Duration,
    /// ICMP queries: 60 s at least (RFC 5508, REQ-2). Default 60 s.
    pub icmp: Duration,
    /// Other protocols. Default 10 minutes.
    pub other: Duration,
    /// How long a port rests after its mapping has gone (RFC 6888, REQ-8). Default 120 s.
    pub port_hold: Duration,
    /// How long an unsolicited SYN waits for one from the inside: 6 s at least (RFC 5382, REQ-4).
    /// Default 6 s.
    pub unsolicited_syn: Duration,
    /// Allows times below what the RFCs demand. For tests and special networks. Default false.
    pub below_minimum: bool,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            udp: minutes(5),
            udp_short: minutes(1),
            tcp_opening: minutes(4),
            tcp_established: minutes(124),
            tcp_closing: minutes(4),
            icmp: minutes(1),
            other: minutes(10),
            port_hold: minutes(2),
            unsolicited_syn: Duration::from_secs(6),
            below_minimum: false,
        }
    }
}

/// How much there may be of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of each family. Address space is reserved for all of them; memory is taken as they
    /// come. Default 65,536.
    pub sessions: usize,
    /// Mappings of each family. Default as many as sessions (0 stands for that).
    pub mappings: usize,
    /// Inside hosts of each family. Default 4,096.
    pub hosts: usize,
    /// Sessions of one inside host. Default 16,384.
    pub sessions_per_host: u32,
    /// Mappings, that is outside ports, of one inside host (RFC 6888, REQ-4). Default 16,384.
    pub mappings_per_host: u32,
    /// New sessions a second of one inside host, in the long run; 0 for no limit. Default 10,000.
    pub new_per_second: u32,
    /// New sessions of one host at once. Default 20,000.
    pub new_burst: u32,
    /// ICMP errors a second that the engine itself sends to one inside host, and to all others
    /// together (RFC 5508, REQ-10d). Default 100.
    pub icmp_per_second: u32,
    /// Unsolicited SYNs that wait at once. Default 64.
    pub unsolicited: usize,
    /// Packets that wait to be fetched by `next_output`. Default 1,024.
    pub outputs: usize,
    /// Fragments.
    pub fragments: FragmentConfig,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 65_536,
            mappings: 0,
            hosts: 4_096,
            sessions_per_host: 16_384,
            mappings_per_host: 16_384,
            new_per_second: 10_000,
            new_burst: 20_000,
            icmp_per_second: 100,
            unsolicited: 64,
            outputs: 1_024,
            fragments: FragmentConfig::default(),
        }
    }
}

/// What is done about protocols other than TCP, UDP and ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherProtocols {
    /// Dropped.
    Refuse,
    /// Translated by address: one inside host at a time talks each protocol through an outside
    /// address. Protocols whose checksum covers the addresses in a way of their own (UDP-Lite, DCCP)
    /// are refused all the same.
    ByAddress,
}

/// What is done about a TCP segment outside the window of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfWindow {
    /// Translated, since the ends know better (RFC 5961), but it changes nothing: neither state nor
    /// timer.
    Pass,
    /// Dropped.
    Drop,
}

/// How the sender learns that there was no room for a new session (RFC 5508, REQ-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoResources {
    /// Not at all.
    Silent,
    /// ICMP "communication administratively prohibited" (RFC 5508, REQ-8).
    Prohibited,
    /// ICMP "host unreachable" (RFC 6888, section 4).
    HostUnreachable,
}

/// A pair of addresses that stand for each other, with all their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OneToOne<A> {
    /// The inside host.
    pub inside: A,
    /// Its outside address, which no other host uses.
    pub outside: A,
    /// Whether anybody outside may begin; otherwise the filter of the protocol decides.
    pub open: bool,
}

/// One address family of a translator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyConfig<A> {
    /// The networks of the guests. Packets from the inside with any other source are dropped.
    pub inside: Vec<Prefix<A>>,
    /// The outside addresses that guests share; each guest keeps to one (RFC 4787, REQ-2).
    pub outside: Vec<A>,
    /// Guests with an outside address of their own.
    pub one_to_one: Vec<OneToOne<A>>,
}

/// The number of an engine among several that share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// 0 to `count - 1`.
    pub number: u16,
    /// How many there are, 1 to 256.
    pub count: u16,
}

/// The configuration of a [`NatEngine`](crate::NatEngine).
///
/// ```
/// use net_nat::{NatConfig, Prefix};
///
/// let inside = Prefix::new([10, 0, 0, 0].into(), 24).expect("24 is at most 32");
/// let mut config = NatConfig::new([7; 16], inside, [203, 0, 113, 1].into());
/// config.limits.sessions = 1 << 20;
/// ```
#[derive(Debug, Clone)]
pub struct NatConfig {
    /// A secret, random and different for each engine: keys of the hashes and of the choice of
    /// ports.
    pub seed: [u8; 16],
    /// IPv4, if it is translated.
    pub ipv4: Option<FamilyConfig<Ipv4Addr>>,
    /// IPv6 with ports (NAT66), if it is translated so.
    pub ipv6: Option<FamilyConfig<Ipv6Addr>>,
    /// IPv6 prefixes translated without state (RFC 6296); looked at before [`Self::ipv6`].
    pub nptv6: Vec<Nptv6>,
    /// UDP.
    pub udp: Behaviour,
    /// TCP.
    pub tcp: Behaviour,
    /// ICMP queries. Their mapping is endpoint-independent whatever is said here (RFC 5508, REQ-1a).
    pub icmp: Behaviour,
    /// All other protocols.
    pub other: OtherProtocols,
    /// Times.
    pub timeouts: Timeouts,
    /// Sizes.
    pub limits: Limits,
    /// Remote UDP ports whose sessions end after [`Timeouts::udp_short`], for instance 53. Well-known
    /// ones only, below 1024 (RFC 4787, REQ-5a). Default none.
    pub udp_short_ports: Vec<u16>,
    /// Whether packets from the outside keep a UDP or ICMP session alive too (RFC 4787, REQ-6a).
    /// Default false: whoever is outside could keep a mapping open for ever.
    pub inbound_refresh: bool,
    /// Whether even ports map to even ones and odd to odd (RFC 4787, REQ-4). Default false.
    pub port_parity: bool,
    /// Whether a segment that is no SYN may open a TCP session from the inside, so that flows
    /// survive a restart of the engine. Default true.
    pub tcp_pickup: bool,
    /// Default [`OutOfWindow::Pass`].
    pub out_of_window: OutOfWindow,
    /// Default [`NoResources::Prohibited`].
    pub no_resources: NoResources,
    /// Whether an unsolicited SYN is answered by ICMP after its wait (RFC 5382, REQ-4), or never.
    /// Default true.
    pub answer_unsolicited: bool,
    /// Whether packets for an outside address that belong to no session are left to the host that
    /// has the address too ([`Verdict::Pass`](crate::Verdict::Pass)) instead of dropped. Default
    /// false.
    pub pass_unmatched: bool,
    /// The largest packet of the inside and of the outside, in bytes of IP; 0 for no limit. Default 0.
    pub mtu: [u32; 2],
    /// Default the only one.
    pub shard: Shard,
}

impl NatConfig {
    /// IPv4 guests of one network behind one address, with the defaults of the RFCs.
    #[must_use]
    pub fn new(seed: [u8; 16], inside: Prefix<Ipv4Addr>, outside: Ipv4Addr) -> Self {
        Self {
            ipv4: Some(FamilyConfig {
                inside: alloc::vec![inside],
                outside: alloc::vec![outside],
                one_to_one: Vec::new(),
            }),
            ..Self::empty(seed)
        }
    }

    /// Nothing is translated until a family is set.
    #[must_use]
    pub fn empty(seed: [u8; 16]) -> Self {
        Self {
            seed,
            ipv4: None,
            ipv6: None,
            nptv6: Vec::new(),
            udp: Behaviour::default(),
            tcp: Behaviour::default(),
            icmp: Behaviour::default(),
            other: OtherProtocols::ByAddress,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            udp_short_ports: Vec::new(),
            inbound_refresh: false,
            port_parity: false,
            tcp_pickup: true,
            out_of_window: OutOfWindow::Pass,
            no_resources: NoResources::Prohibited,
            answer_unsolicited: true,
            pass_unmatched: false,
            mtu: [0; 2],
            shard: Shard {
                number: 0,
                count: 1,
            },
        }
    }

    /// Says what is wrong with the configuration, if anything is.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let t = &self.timeouts;
        let minutes = 60;
        for (name, time, least) in [
            ("udp", t.udp, 2 * minutes),
            ("udp_short", t.udp_short, 1),
            ("tcp_opening", t.tcp_opening, 4 * minutes),
            ("tcp_established", t.tcp_established, 124 * minutes),
            ("tcp_closing", t.tcp_closing, 4 * minutes),
            ("icmp", t.icmp, minutes),
            ("other", t.other, 1),
            ("port_hold", t.port_hold, 0),
            ("unsolicited_syn", t.unsolicited_syn, 6),
        ] {
            let least = if t.below_minimum { least.min(1) } else { least };
            if time.as_secs() < least || time.as_secs() > 100 * 365 * 86_400 {
                return Err(ConfigError::Timeout { name, time, least });
            }
        }
        if let Some(&port) = self.udp_short_ports.iter().find(|&&p| p >= 1024) {
            return Err(ConfigError::ShortPort(port));
        }
        let Shard { number, count } = self.shard;
        if count == 0 || count > 256 || number >= count {
            return Err(ConfigError::Shard { number, count });
        }
        for mtu in self.mtu {
            if mtu != 0 && mtu < 576 {
                return Err(ConfigError::Mtu(mtu));
            }
        }
        if let Some(family) = &self.ipv4 {
            family.check()?;
        }
        if let Some(family) = &self.ipv6 {
            family.check()?;
        }
        Ok(())
    }
}

impl<A: Address> FamilyConfig<A> {
    fn check(&self) -> Result<(), ConfigError> {
        use alloc::string::ToString;
        let outside = || {
            let own = self.one_to_one.iter().map(|pair| pair.outside);
            self.outside.iter().copied().chain(own)
        };
        if outside().next().is_none() {
            return Err(ConfigError::NoOutsideAddress);
        }
        if self.inside.is_empty() {
            return Err(ConfigError::NoInsideNetwork);
        }
        for (i, addr) in outside().enumerate() {
            if !addr.is_host() {
                return Err(ConfigError::NotAHost(addr.to_string()));
            }
            // RFC 4787, REQ-7: the same prefix on both sides cannot be told apart here.
            if let Some(prefix) = self.inside.iter().find(|p| p.contains(addr)) {
                return Err(ConfigError::Overlap {
                    outside: addr.to_string(),
                    inside: prefix.to_string(),
                });
            }
            if outside().skip(i + 1).any(|other| other == addr) {
                return Err(ConfigError::Twice(addr.to_string()));
            }
        }
        if outside().count() > usize::from(u16::MAX) {
            return Err(ConfigError::TooManyAddresses);
        }
        for (i, pair) in self.one_to_one.iter().enumerate() {
            if !self.inside.iter().any(|p| p.contains(pair.inside)) {
                return Err(ConfigError::NotInside(pair.inside.to_string()));
            }
            if self
                .one_to_one
                .iter()
                .skip(i + 1)
                .any(|o| o.inside == pair.inside)
            {
                return Err(ConfigError::Twice(pair.inside.to_string()));
            }
        }
        Ok(())
    }
}

/// Why an engine could not be made. The fault is the configuration's, but for
/// [`OutOfMemory`](Self::OutOfMemory).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A time is shorter than the RFCs allow.
    #[error("the time {name} is {time:?}, which is outside {least} s to 100 years")]
    Timeout {
        /// The field of [`Timeouts`].
        name: &'static str,
        /// What it says.
        time: Duration,
        /// What it may be at least, in seconds.
        least: u64,
    },
    /// A short time for a port that is not well known (RFC 4787, REQ-5a).
    #[error("port {0} is not well known (below 1024), so its sessions may not end sooner")]
    ShortPort(u16),
    /// No address to translate to.
    #[error("there is no outside address")]
    NoOutsideAddress,
    /// No network to translate for.
    #[error("there is no inside network")]
    NoInsideNetwork,
    /// An address no host can have.
    #[error("{0} is not the address of a host")]
    NotAHost(alloc::string::String),
    /// An outside address belongs to an inside network (RFC 4787, REQ-7).
    #[error("the outside address {outside} is in the inside network {inside}")]
    Overlap {
        /// The outside address.
        outside: alloc::string::String,
        /// The inside network.
        inside: alloc::string::String,
    },
    /// An address has two uses.
    #[error("the address {0} is given twice")]
    Twice(alloc::string::String),
    /// A host of a pair is not in an inside network.
    #[error("{0} is in no inside network")]
    NotInside(alloc::string::String),
    /// More than 65,535 outside addresses.
    #[error("there are more than 65,535 outside addresses")]
    TooManyAddresses,
    /// A shard that does not exist.
    #[error("shard {number} of {count}: there may be 1 to 256, counted from 0")]
    Shard {
        /// The number of this shard.
        number: u16,
        /// How many there are.
        count: u16,
    },
    /// A limit that leaves no room for an ICMP error.
    #[error("an MTU of {0} bytes is below the 576 that every link carries")]
    Mtu(u32),
    /// A limit is beyond what the tables can count, or the memory is not to be had.
    #[error("no memory for tables of {0} entries")]
    OutOfMemory(usize),
}
