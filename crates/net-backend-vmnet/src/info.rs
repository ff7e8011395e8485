//! What the framework says an interface is like.

use std::net::{Ipv4Addr, Ipv6Addr};

use net_wire::MacAddr;

use crate::InterfaceId;
use crate::key::{Dictionary, Key};
use crate::limits::Limits;

/// Everything that vmnet.framework reports of a started interface. What it did not report, or what
/// cannot be read, is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VmnetInfo {
    /// The hardware address that macOS made up for the guest.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Longest frame in bytes, Ethernet header included, a virtio header not.
    pub max_packet_size: usize,
    /// The gateway: the host's address on the guest's network, where the DHCP range starts.
    pub gateway: Option<Ipv4Addr>,
    /// The end of the DHCP range.
    pub dhcp_end: Option<Ipv4Addr>,
    /// The mask of the subnet.
    pub subnet_mask: Option<Ipv4Addr>,
    /// The identity of the interface; asked for again, it brings the same hardware address.
    pub interface_id: Option<InterfaceId>,
    /// The IPv6 prefix behind the NAT.
    pub nat66_prefix: Option<Ipv6Addr>,
    /// Most packets of one read (macOS 15).
    pub read_max_packets: Option<u64>,
    /// Most packets of one write (macOS 15).
    pub write_max_packets: Option<u64>,
}

impl VmnetInfo {
    pub(crate) fn from_reply(reply: &Dictionary) -> Self {
        let limits = limits(reply);
        Self {
            mac: reply.parsed(Key::MacAddress),
            mtu: limits.mtu,
            max_packet_size: limits.max_packet,
            gateway: reply.parsed(Key::StartAddress),
            dhcp_end: reply.parsed(Key::EndAddress),
            subnet_mask: reply.parsed(Key::SubnetMask),
            interface_id: reply.uuid(Key::InterfaceId).map(InterfaceId),
            nat66_prefix: reply.parsed(Key::Nat66Prefix),
            read_max_packets: reply.number(Key::ReadMaxPackets),
            write_max_packets: reply.number(Key::WriteMaxPackets),
        }
    }
}

/// The sizes that the framework reports, made fit to rely on.
pub(crate) fn limits(reply: &Dictionary) -> Limits {
    Limits::from_reported(
        reply.number(Key::Mtu),
        reply.number(Key::MaxPacketSize),
        reply.number(Key::ReadMaxPackets),
        reply.number(Key::WriteMaxPackets),
    )
}
