//! The uplink's way back to the guests: adds the Ethernet header and queues.

use std::net::IpAddr;
use std::time::Duration;

use net_backend::Offloads;
use net_datapath::{PacketBuf, VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{Gateway, Output, Verdict};
use net_usernet::{Egress, GuestLink, SendStatus};
use net_wire::ethernet::{self, EtherType};

use super::ports::Ports;

/// What the uplink sees of the network while it works.
pub(super) struct Links<'a> {
    pub(super) ports: &'a mut Ports,
    pub(super) gateway: &'a mut Gateway,
    pub(super) outputs: &'a mut Vec<Output>,
    pub(super) now: Duration,
}

impl Egress for Links<'_> {
    fn link(&self, guest: IpAddr) -> Option<GuestLink> {
        let neighbour = self.gateway.neighbour(guest)?;
        let port = self.ports.get(neighbour.port)?;
        let offloads = port.capabilities.offloads;
        Some(GuestLink {
            port: neighbour.port,
            mtu: self.gateway.config().mtu,
            tso4: offloads.contains(Offloads::TX_TSO4),
            tso6: offloads.contains(Offloads::TX_TSO6),
            uso: offloads.contains(Offloads::TX_USO),
            csum: offloads.contains(Offloads::TX_CSUM),
            ready: port.is_ready(),
        })
    }

    fn buffer(&mut self, len: usize) -> Option<PacketBuf> {
        self.ports.buffer(len)
    }

    fn take_whole(&mut self, from: u32, packet: &ZeroCopyPacket<'_>) -> bool {
        let for_gateway = packet.ip_dst().is_some_and(|dst| self.gateway.owns(dst));
        for_gateway
            && self
                .gateway
                .ingress_reassembled(from, packet, self.now, self.outputs)
                != Verdict::Uplink
    }

    fn send(&mut self, guest: IpAddr, header: VirtioNetHdr, mut packet: PacketBuf) -> SendStatus {
        let Some(neighbour) = self.gateway.neighbour(guest) else {
            // The answer comes too late for this packet; the relay sends it again.
            self.gateway.ask(guest, self.now, self.outputs);
            return SendStatus::NoRoute;
        };
        let Some(port) = self.ports.get_mut(neighbour.port) else {
            return SendStatus::NoRoute;
        };
        if !port.is_ready() {
            return SendStatus::Busy(packet);
        }
        let Some(front) = packet.push_front(ethernet::HEADER_LEN) else {
            return SendStatus::NoRoute;
        };
        ethernet::emit(
            front,
            neighbour.mac,
            self.gateway.config().mac,
            match guest {
                IpAddr::V4(_) => EtherType::IPV4,
                IpAddr::V6(_) => EtherType::IPV6,
            },
        );
        let header = header.shifted(ethernet::HEADER_LEN as u16);
        self.ports.send(neighbour.port, header, packet);
        SendStatus::Sent
    }
}
