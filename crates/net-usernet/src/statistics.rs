//! Counters: one for every reason a packet can be dropped or a flow refused.

/// Counters of a [`crate::UserNet`] since it was made. Fields named `flows` and `pending_*` are
/// present values; all others only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The TCP relay.
    pub tcp: TcpStatistics,
    /// The UDP relay, published ports included.
    pub udp: UdpStatistics,
    /// The echo relay.
    pub ping: PingStatistics,
    /// Fragments of the guests.
    pub reassembly: ReassemblyStatistics,
    /// Packets that reached no relay.
    pub dropped: DropStatistics,
    /// ICMP errors sent to guests.
    pub icmp_errors_sent: u64,
    /// ICMP errors withheld by the rate limit.
    pub icmp_errors_limited: u64,
}

/// Counters of the TCP relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStatistics {
    /// Flows at present.
    pub flows: u64,
    /// Flows opened by guests, connected or not.
    pub opened: u64,
    /// Connections accepted on published ports.
    pub accepted: u64,
    /// Connections to services of the gateway.
    pub services: u64,
    /// Flows that the host side refused, or could not reach.
    pub connect_failed: u64,
    /// Flows refused for a limit of their guest.
    pub refused_limit: u64,
    /// Flows refused because the host had no socket left.
    pub refused_host: u64,
    /// Flows refused because their destination is off limits.
    pub refused_destination: u64,
    /// Flows closed by a time-out.
    pub timed_out: u64,
    /// Resets sent to guests.
    pub resets_sent: u64,
    /// Resets taken from guests.
    pub resets_received: u64,
    /// Payload bytes written to host sockets.
    pub bytes_to_host: u64,
    /// Payload bytes acknowledged by guests.
    pub bytes_to_guest: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Segments of no flow.
    pub stray: u64,
    /// Segments with a wrong checksum.
    pub bad_checksum: u64,
    /// Segments that contradict TCP: lengths, flags, options.
    pub malformed: u64,
    /// Segments outside the window, or out of order.
    pub out_of_window: u64,
    /// Times a guest's queue was full.
    pub guest_busy: u64,
    /// Times there was no buffer for a packet.
    pub no_buffer: u64,
}

/// Counters of the UDP relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStatistics {
    /// Flows at present.
    pub flows: u64,
    /// Flows opened by guests.
    pub opened: u64,
    /// Flows opened by clients of published ports.
    pub accepted: u64,
    /// Flows closed by a time-out.
    pub timed_out: u64,
    /// Flows closed to make room for another of the same guest.
    pub evicted: u64,
    /// Datagrams refused because all flows of the guest were in use just now.
    pub refused_limit: u64,
    /// Datagrams refused because the host had no socket left.
    pub refused_host: u64,
    /// Datagrams from guests handed to the host.
    pub to_host: u64,
    /// Datagrams from the host handed to guests.
    pub to_guest: u64,
    /// Datagrams with a wrong checksum.
    pub bad_checksum: u64,
    /// Datagrams with a wrong length, or super-frames that contradict themselves.
    pub malformed: u64,
    /// Datagrams the host would not send.
    pub host_refused: u64,
    /// Datagrams dropped because the host's send buffer was full.
    pub host_busy: u64,
    /// Datagrams to a closed port of the gateway.
    pub gateway_closed: u64,
    /// Datagrams from peers that the guest could not have written to: the host's loopback, its own
    /// network, ranges off limits.
    pub filtered: u64,
    /// Datagrams dropped because the guest's queue was full in the middle of one.
    pub guest_busy: u64,
    /// Datagrams dropped because no port has the guest's address.
    pub guest_gone: u64,
    /// Datagrams dropped because there was no buffer.
    pub no_buffer: u64,
    /// Datagrams from the host that a guest's link can never carry.
    pub too_big: u64,
    /// ICMP errors of the host passed on.
    pub errors_relayed: u64,
    /// ICMP errors of the host that belong to no datagram of a guest.
    pub errors_stray: u64,
}

/// Counters of the echo relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingStatistics {
    /// Flows at present.
    pub flows: u64,
    /// Flows opened.
    pub opened: u64,
    /// Flows closed by a time-out.
    pub timed_out: u64,
    /// Flows closed to make room for another of the same guest.
    pub evicted: u64,
    /// Requests handed to the host.
    pub requests: u64,
    /// Replies handed to guests.
    pub replies: u64,
    /// Requests dropped because the host has no ICMP sockets for this user.
    pub unavailable: u64,
    /// Requests refused because the host had no socket left, or by a limit of zero flows.
    pub refused_host: u64,
    /// Requests the host would not send.
    pub host_refused: u64,
    /// Replies from peers that the guest could not have written to.
    pub filtered: u64,
    /// Messages with a wrong checksum.
    pub bad_checksum: u64,
    /// Messages too short for their type.
    pub malformed: u64,
    /// Messages other than echo requests.
    pub not_relayed: u64,
    /// Replies dropped because the guest could not take them.
    pub guest_busy: u64,
    /// ICMP errors of the host passed on.
    pub errors_relayed: u64,
}

/// Counters of the reassembly of fragments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReassemblyStatistics {
    /// Incomplete datagrams at present.
    pub pending_datagrams: u64,
    /// Bytes held in them.
    pub pending_bytes: u64,
    /// Fragments taken.
    pub fragments: u64,
    /// Datagrams completed.
    pub completed: u64,
    /// Datagrams given up after the time-out.
    pub timed_out: u64,
    /// Datagrams discarded because fragments overlap (RFC 5722).
    pub overlapping: u64,
    /// Datagrams discarded because lengths contradict each other, or pass 65,535 bytes.
    pub malformed: u64,
    /// Datagrams discarded to make room for another of the same guest.
    pub evicted: u64,
    /// Fragments refused by a limit.
    pub refused_limit: u64,
}

/// Packets that no relay saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropStatistics {
    /// Neither IPv4 nor IPv6.
    pub not_ip: u64,
    /// A header that contradicts itself, or a wrong IPv4 header checksum.
    pub malformed: u64,
    /// A source no host may have: unspecified, loopback, multicast, broadcast, the gateway.
    pub bad_source: u64,
    /// Multicast or broadcast, which stay in the network.
    pub multicast: u64,
    /// A destination off limits: the host's loopback, reserved and link-local ranges.
    pub forbidden_destination: u64,
    /// A destination inside the guests' own network, where no neighbour has it.
    pub local_destination: u64,
    /// A time to live of 0, or of 1 at the gateway.
    pub ttl_expired: u64,
    /// A protocol that cannot be relayed.
    pub protocol: u64,
    /// IPv6 packets of a network without IPv6.
    pub no_ipv6: u64,
}
