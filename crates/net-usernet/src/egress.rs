//! The way back to the guests: the caller's side of the relay.

use core::net::IpAddr;

use net_datapath::{PacketBuf, VirtioNetHdr, ZeroCopyPacket};

/// The switch port of a guest. Every quota counts per port, never per address: addresses are the
/// guest's to choose.
pub type PortId = u32;

/// What the port of a guest can take at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestLink {
    /// The port.
    pub port: PortId,
    /// Largest L3 packet that is not a super-frame, in bytes.
    pub mtu: u16,
    /// Whether IPv4 TCP super-frames may be sent.
    pub tso4: bool,
    /// Whether IPv6 TCP super-frames may be sent.
    pub tso6: bool,
    /// Whether UDP super-frames may be sent.
    pub uso: bool,
    /// Whether the guest takes packets with a partial checksum.
    pub csum: bool,
    /// `false`: its queue is full; wait for [`crate::UserNet::guest_writable`].
    pub ready: bool,
}

/// What became of a packet.
#[derive(Debug)]
pub enum SendStatus {
    /// It is on its way, or dropped for good by the caller.
    Sent,
    /// The guest's queue is full; the packet comes back, and [`crate::UserNet::guest_writable`]
    /// follows when there is room.
    Busy(PacketBuf),
    /// No port has this address (any more).
    NoRoute,
}

/// Where L3 packets towards the guests go. The caller adds the Ethernet header.
pub trait Egress {
    /// The link of the guest with this address; `None` while no neighbour has it.
    fn link(&self, guest: IpAddr) -> Option<GuestLink>;

    /// An empty buffer with headroom for virtio-net, Ethernet and VLAN headers and room for at
    /// least `len` bytes, up to 65,535; `None` while there is no memory for it.
    fn buffer(&mut self, len: usize) -> Option<PacketBuf>;

    /// Takes a packet that came in fragments and is whole now, if it is for the caller itself: an
    /// echo request to the gateway, a question to its name server. `true` if it was.
    fn take_whole(&mut self, _from: PortId, _packet: &ZeroCopyPacket<'_>) -> bool {
        false
    }

    /// Sends one L3 packet. The offsets in `header` count from the start of the L3 packet.
    fn send(&mut self, guest: IpAddr, header: VirtioNetHdr, packet: PacketBuf) -> SendStatus;
}
