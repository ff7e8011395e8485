//! What is wrong with a configuration, and what the system refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use net_backend::BackendError;
use net_wire::MacAddr;

use crate::key::MacosRelease;
use crate::{ForwardRule, Status};

/// Why a configuration cannot hold, found before the system is asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The MTU is below [`MIN_MTU`](crate::MIN_MTU).
    #[error("an MTU of {0} bytes is too small (1,280 is the least that IPv6 allows)")]
    Mtu(u16),
    /// An MTU was asked for in bridged mode, where the framework takes none.
    #[error("a bridged interface has the MTU of the network it joins: leave the MTU out")]
    BridgedMtu,
    /// A group address or all zero: no station sends from there.
    #[error("{0} is not the hardware address of a station")]
    Mac(MacAddr),
    /// Not a name an interface can have: 1 to 15 printable ASCII characters without a slash.
    #[error("{0:?} is not the name of an interface (ifconfig -l lists them)")]
    InterfaceName(String),
    /// Not a UUID.
    #[error("{0:?} is not an identity such as 2835e074-9892-4a79-affb-7e41d2605678")]
    InterfaceId(String),
    /// The mode does not have the option.
    #[error("{option} does not belong to the mode {mode}: leave it out")]
    NotInMode {
        /// The option, in words.
        option: &'static str,
        /// The mode's name.
        mode: &'static str,
    },
    /// Start, end and mask come together or not at all.
    #[error("a DHCP range and a subnet mask belong together: give both or neither")]
    RangeIncomplete,
    /// The range is empty or leaves its subnet.
    #[error("{start} to {end} is not a range within one subnet, the gateway first")]
    Range {
        /// The gateway.
        start: Ipv4Addr,
        /// The last address.
        end: Ipv4Addr,
    },
    /// Not a mask of 1 to 30 bits.
    #[error("{0} is not a subnet mask such as 255.255.255.0")]
    Mask(Ipv4Addr),
    /// The framework takes private addresses only (RFC 1918).
    #[error("{0} is not a private address (RFC 1918): choose one in 192.168.0.0/16 or 10.0.0.0/8")]
    NotPrivate(Ipv4Addr),
    /// No host can have the address.
    #[error("{0} is not the address of a host")]
    Address(IpAddr),
    /// Isolated networks have no DHCP.
    #[error("a network with an id has no DHCP: leave the DHCP range out")]
    DhcpWithNetworkId,
    /// The host has an address of its own only on an isolated network.
    #[error("an address for the host needs a network id")]
    HostAddress,
    /// Not a /64 of the unique local addresses.
    #[error("{0} is not a prefix of 64 bits within fd00::/8")]
    Nat66Prefix(Ipv6Addr),
    /// Not a prefix of a network.
    #[error("{0}/{1} is not an IPv6 prefix")]
    Ipv6Prefix(Ipv6Addr, u8),
    /// The framework takes one of the two.
    #[error("the virtio header has the checksums in it: leave the checksum offload out")]
    HeaderAndChecksum,
    /// Super-frames have unfinished checksums.
    #[error("TSO needs the virtio header (macOS 15.4) or the checksum offload (macOS 12)")]
    TsoAlone,
    /// A port of zero, or an address that no guest has.
    #[error("{0} is not a port that leads to a guest")]
    Forward(ForwardRule),
    /// A configuration for a network went where none is given, or the other way round.
    #[error("the mode `network` belongs to an interface on a network, and to no other")]
    NetworkMode,
}

/// Why there is no interface, or why it does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmnetError {
    /// The configuration cannot hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// vmnet.framework refused.
    #[error("{what}: {status}")]
    Refused {
        /// What was attempted.
        what: &'static str,
        /// What it said.
        status: Status,
    },
    /// No interface came, and no reason.
    #[error(
        "vmnet gives no interface and no reason; run as root, or sign the program with the entitlement com.apple.vm.networking"
    )]
    NoInterface,
    /// The interface to bridge to is not there, or cannot be bridged.
    #[error("{name} cannot be bridged; those that can: {}", list(available))]
    NotBridgeable {
        /// The name asked for.
        name: String,
        /// The names of those that can be.
        available: Vec<String>,
    },
    /// The framework did not answer.
    #[error(
        "{what}: vmnet has not answered within {} seconds; it may be waiting for another program that uses it, or for the system to wake up",
        after.as_secs_f32()
    )]
    Timeout {
        /// What was attempted.
        what: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The framework gave its handler up without an answer.
    #[error("{what}: vmnet has given up without an answer; try again, or restart the system")]
    NoAnswer {
        /// What was attempted.
        what: &'static str,
    },
    /// This release of macOS does not have it.
    #[error("{what} needs {since} or newer")]
    TooOld {
        /// What is missing.
        what: &'static str,
        /// The release that brought it.
        since: MacosRelease,
    },
    /// There is no vmnet.framework here.
    #[error("vmnet.framework is a part of macOS: not supported on this system")]
    UnsupportedSystem,
    /// The interface has been stopped, or is gone.
    #[error("the interface is not running: it has been stopped, or is gone")]
    NotRunning,
    /// A buffer that could not hold every packet.
    #[error("a buffer of {len} bytes is too short: a packet may have {need}")]
    ShortBuffer {
        /// Its length, in bytes.
        len: usize,
        /// The longest packet, in bytes.
        need: usize,
    },
    /// A packet that is no Ethernet frame of this interface.
    #[error("a packet of {len} bytes cannot go: 14 to {most} can")]
    PacketLength {
        /// Its length, in bytes.
        len: usize,
        /// The longest packet, in bytes.
        most: usize,
    },
    /// The system refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl VmnetError {
    /// Reads the framework's answer to `what`.
    pub(crate) fn check(what: &'static str, code: u32) -> Result<(), Self> {
        Status::check(code).map_err(|status| Self::Refused { what, status })
    }

    /// What it means that no answer to `what` came in the time given.
    pub(crate) const fn unanswered(
        what: &'static str,
        after: Duration,
        why: RecvTimeoutError,
    ) -> Self {
        match why {
            RecvTimeoutError::Timeout => Self::Timeout { what, after },
            RecvTimeoutError::Disconnected => Self::NoAnswer { what },
        }
    }
}

/// Names with commas between them.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
