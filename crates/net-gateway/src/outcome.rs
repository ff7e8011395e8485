//! What comes out of the gateway: verdicts, frames and counters.

use core::net::IpAddr;

use net_dns::Action;

use crate::PortId;
use crate::neighbour::Neighbour;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was for the gateway; the answer, if any, is among the outputs.
    Answered,
    /// The uplink carries it.
    Uplink,
    /// It goes nowhere.
    Dropped(DropReason),
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Lengths, versions or checksums contradict one another.
    Malformed,
    /// The source address belongs to another guest, or to the gateway.
    Spoofed,
    /// The source address is not of this network.
    Foreign,
    /// The port speaks from more addresses than it may.
    AddressQuota,
    /// IPv6 on a network without it.
    Ipv6,
    /// Neither IP nor ARP.
    Protocol,
    /// Broadcast or multicast that no service here listens to.
    NotForUs,
    /// To another guest through the router: guests of one network reach each other directly.
    SameNetwork,
    /// Its time to live ran out.
    TtlExceeded,
    /// A message to the gateway that it does not answer.
    Unanswered,
    /// A link-local source and a destination behind the gateway (RFC 4291, section 2.5.6).
    BeyondScope,
}

/// Where a frame of the gateway goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To one port.
    Port(PortId),
    /// To every port.
    Flood,
}

/// What the caller must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame, all headers and checksums complete.
    Frame {
        /// Where to.
        to: Target,
        /// The frame, from its Ethernet header on.
        frame: Vec<u8>,
    },
    /// Exchange a message with an upstream resolver, or give one up.
    Dns(Action<DnsClient>),
    /// Answer on the connection that [`crate::Gateway::dns_query_tcp`] named.
    DnsTcp {
        /// The connection.
        connection: u64,
        /// The message, without its length prefix.
        message: Vec<u8>,
    },
}

/// Where the answer to a DNS question goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsClient {
    /// A datagram to a guest.
    Udp {
        /// The guest.
        guest: Neighbour,
        /// Its address.
        ip: IpAddr,
        /// The address of the gateway that it asked.
        asked: IpAddr,
        /// Its port.
        port: u16,
    },
    /// A connection that the caller keeps.
    Tcp(u64),
}

/// Counters of a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// ARP requests answered.
    pub arp_replies: u64,
    /// Neighbour solicitations answered.
    pub neighbour_advertisements: u64,
    /// Router advertisements sent, by the event and not by the port.
    pub router_advertisements: u64,
    /// Echo requests answered.
    pub echo_replies: u64,
    /// DHCP messages answered.
    pub dhcp_replies: u64,
    /// DNS questions taken.
    pub dns_queries: u64,
    /// Packets handed to the uplink.
    pub uplink: u64,
    /// ICMP errors sent.
    pub icmp_errors: u64,
    /// Frames of guests that spoke for the router ([`crate::Gateway::may_pass`]).
    pub forged: u64,
    /// Frames dropped, by [`DropReason`] in order of declaration.
    pub drops: [u64; 11],
}
