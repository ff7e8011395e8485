//! From the translator's verdict to a port, and what the router says in its own name.

use std::net::IpAddr;

use net_datapath::packet::ZeroCopyPacket;
use net_datapath::{PacketBuf, VirtioNetHdr};
use net_gateway::Neighbour;
use net_nat::fragment::fragments_v4;
use net_nat::icmp::{ErrorKind, error_v4, error_v6};
use net_nat::{Direction, IpPacket, Side, Verdict};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::Ipv6Packet;
use net_wire::{MacAddr, arp};

use super::neighbours::Found;
use super::station::{Outgoing, Station};
use super::{BATCH, PacketUplink};
use crate::worker::links::Links;
use crate::worker::ports::PortId;

impl PacketUplink {
    /// Translates admitted packets and hands them on: neighbouring ones for one port together.
    pub(super) fn translate(
        &mut self,
        from: PortId,
        frames: &mut [ZeroCopyPacket<'_>],
        direction: Direction,
        links: &mut Links<'_>,
    ) {
        for frames in frames.chunks_mut(BATCH) {
            let mut verdicts = [Verdict::Pass; BATCH];
            let verdicts = &mut verdicts[..frames.len()];
            self.nat
                .translate_batch(frames, direction, links.now, verdicts);
            let mut run: Option<(PortId, usize)> = None;
            for n in 0..frames.len() {
                let to = self.deliver(from, &mut frames[n], verdicts[n], links);
                if let Some((port, start)) = run
                    && to != Some(port)
                {
                    links.ports.forward(port, &mut frames[start..n]);
                    run = None;
                }
                run = run.or(to.map(|port| (port, n)));
            }
            if let Some((port, start)) = run {
                links.ports.forward(port, &mut frames[start..]);
            }
        }
    }

    /// Addresses a translated frame and says which port it goes to; `None` where it went another
    /// way, or nowhere.
    fn deliver(
        &mut self,
        from: PortId,
        frame: &mut ZeroCopyPacket<'_>,
        verdict: Verdict,
        links: &mut Links<'_>,
    ) -> Option<PortId> {
        match verdict {
            Verdict::Translated(Side::Outside) => {
                let hop = self.next_hop(frame.ip_dst()?)?;
                frame.set_dst_mac(self.known(hop)?);
                frame.set_src_mac(self.mac);
                self.device.port()
            }
            Verdict::Translated(Side::Inside) => {
                let guest = frame.ip_dst()?;
                let Some(neighbour) = links.gateway.neighbour(guest) else {
                    let copy = links.ports.duplicate(frame);
                    self.keep_inward(guest, from, *frame.vnet(), copy, links);
                    return None;
                };
                frame.set_dst_mac(neighbour.mac);
                frame.set_src_mac(links.gateway.config().mac);
                links.ports.capture_lent(frame);
                Some(neighbour.port)
            }
            Verdict::Fragment(side) => {
                self.cut(from, frame, side, links);
                None
            }
            // Counted by the translator, which has answered where an answer is due.
            _ => None,
        }
    }

    /// Sends a translated packet in pieces that fit the other side.
    fn cut(
        &mut self,
        from: PortId,
        frame: &mut ZeroCopyPacket<'_>,
        side: Side,
        links: &mut Links<'_>,
    ) {
        if frame.complete_checksum().is_err() {
            self.drops.offload += 1;
            return;
        }
        let mtu = match side {
            Side::Inside => self.mtu_inside,
            Side::Outside => self.mtu_outside,
        };
        match fragments_v4(&whole(frame), mtu) {
            Ok(pieces) => pieces.for_each(|piece| self.send(side, from, &piece, links)),
            Err(_) => self.drops.too_big += 1,
        }
    }

    /// Sends what the translator made or had kept.
    pub(super) fn send_outputs(&mut self, links: &mut Links<'_>) {
        while let Some(output) = self.nat.next_output() {
            let from = self.device.port().unwrap_or_default();
            self.send(output.side, from, &output.packet, links);
        }
    }

    /// Sends a finished IP packet to a side; `from` is whose room to wait it takes.
    fn send(&mut self, side: Side, from: PortId, packet: &[u8], links: &mut Links<'_>) {
        let Some(dst) = destination(packet) else {
            return;
        };
        match side {
            Side::Inside => match links.gateway.neighbour(dst) {
                Some(neighbour) => send_inside(neighbour, packet, links),
                None => {
                    let nobody = (MacAddr::ZERO, MacAddr::ZERO);
                    let copy = framed(nobody, ethertype(packet), packet, links);
                    self.keep_inward(dst, from, VirtioNetHdr::PLAIN, copy, links);
                }
            },
            Side::Outside => self.send_outside(from, dst, packet, links),
        }
    }

    /// Sends a finished packet out. One whose next hop is unknown is lost, and the next one is not:
    /// these are errors and pieces, which nobody relies on.
    fn send_outside(&mut self, from: PortId, dst: IpAddr, packet: &[u8], links: &mut Links<'_>) {
        let (Some(hop), Some(device)) = (self.next_hop(dst), self.device.port()) else {
            self.drops.unreachable += 1;
            return;
        };
        let Found::Mac(mac) = self.find(hop, from, links.now) else {
            self.drops.unreachable += 1;
            return;
        };
        if let Some(frame) = framed((mac, self.mac), ethertype(packet), packet, links) {
            links.ports.queue(device, VirtioNetHdr::PLAIN, frame);
        }
    }

    /// Sends what the tables of addresses have to say.
    pub(super) fn send_questions(&mut self, links: &mut Links<'_>) {
        let said = self.six.as_mut().map(Station::take_outgoing);
        for Outgoing { to, packet } in said.unwrap_or_default() {
            if let Some(device) = self.device.port()
                && let Some(frame) = framed((to, self.mac), EtherType::IPV6, &packet, links)
            {
                links.ports.queue(device, VirtioNetHdr::PLAIN, frame);
            }
        }
        while let Some(question) = self.arp.next_packet() {
            let Some(device) = self.device.port() else {
                continue;
            };
            let to = question.target_mac;
            let mut body = [0; arp::LEN];
            // Who asks does not know the answer.
            let target_mac = match question.operation {
                arp::REQUEST => MacAddr::ZERO,
                _ => to,
            };
            arp::ArpPacket {
                target_mac,
                ..question
            }
            .emit(&mut body);
            if let Some(frame) = framed((to, self.mac), EtherType::ARP, &body, links) {
                links.ports.queue(device, VirtioNetHdr::PLAIN, frame);
            }
        }
    }

    /// Keeps a translated packet until the guest is known, and has the gateway ask for it.
    fn keep_inward(
        &mut self,
        guest: IpAddr,
        from: PortId,
        header: VirtioNetHdr,
        copy: Option<PacketBuf>,
        links: &mut Links<'_>,
    ) {
        links.gateway.ask(guest, links.now, links.outputs);
        match copy {
            Some(copy) if self.inward.has_room(guest, from) => {
                self.inward.push(guest, from, header, copy, links.now);
            }
            _ => self.drops.waiting += 1,
        }
    }

    /// Sends the packets on whose guest has become known.
    pub(in crate::worker) fn resume_inward(&mut self, links: &mut Links<'_>) {
        if self.inward.is_empty() {
            return;
        }
        let gateway = &*links.gateway;
        let ready = self.inward.take(|guest| gateway.neighbour(guest).is_some());
        for mut waiter in ready {
            let Some(neighbour) = links.gateway.neighbour(waiter.hop) else {
                continue;
            };
            let addresses = waiter.frame.as_mut_slice();
            if let Some(addresses) = addresses.get_mut(..ethernet::HEADER_LEN) {
                let own = links.gateway.config().mac;
                let kind = match waiter.hop {
                    IpAddr::V4(_) => EtherType::IPV4,
                    IpAddr::V6(_) => EtherType::IPV6,
                };
                ethernet::emit(addresses, neighbour.mac, own, kind);
            }
            links
                .ports
                .send(neighbour.port, waiter.header, waiter.frame);
        }
    }

    /// Tells the guest at `from` what is wrong with its packet, if there is a right to.
    pub(super) fn complain_inside(
        &mut self,
        from: PortId,
        frame: &ZeroCopyPacket<'_>,
        kind: ErrorKind,
        links: &mut Links<'_>,
    ) {
        if !self.errors.take(links.now) {
            return;
        }
        let packet = whole(frame);
        let error = match (frame.ip_src(), &links.gateway.config().ipv6) {
            (Some(IpAddr::V4(_)), _) => error_v4(&packet, self.gateway, kind),
            (Some(IpAddr::V6(_)), Some(six)) => error_v6(&packet, six.ip, kind),
            _ => None,
        };
        if let Some(error) = error {
            let guest = Neighbour {
                mac: frame.src_mac(),
                port: from,
            };
            send_inside(guest, &error, links);
        }
    }

    /// The same for somebody outside.
    pub(super) fn complain_outside(
        &mut self,
        frame: &ZeroCopyPacket<'_>,
        kind: ErrorKind,
        links: &mut Links<'_>,
    ) {
        if !self.errors.take(links.now) {
            return;
        }
        let packet = whole(frame);
        let error = match (frame.ip_src(), &self.six) {
            (Some(IpAddr::V4(_)), _) => error_v4(&packet, self.config.outside.ip(), kind),
            (Some(IpAddr::V6(_)), Some(six)) => error_v6(&packet, six.outside(), kind),
            _ => None,
        };
        if let (Some(error), Some(src)) = (error, frame.ip_src()) {
            let device = self.device.port().unwrap_or_default();
            self.send_outside(device, src, &error, links);
        }
    }
}

/// Where a finished IP packet goes.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(Ipv4Packet::parse(packet).ok()?.dst().into()),
        _ => Some(Ipv6Packet::parse(packet).ok()?.dst().into()),
    }
}

/// What a finished IP packet is called in a frame.
pub(super) fn ethertype(packet: &[u8]) -> EtherType {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => EtherType::IPV6,
        _ => EtherType::IPV4,
    }
}

/// The whole IP packet of a frame.
pub(super) fn whole(frame: &ZeroCopyPacket<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    frame.copy_to(&mut packet);
    packet
}

/// A frame of an IP packet or an ARP packet, between two hardware addresses: to and from.
pub(super) fn framed(
    (to, from): (MacAddr, MacAddr),
    kind: EtherType,
    packet: &[u8],
    links: &mut Links<'_>,
) -> Option<PacketBuf> {
    let mut frame = links.ports.buffer(ethernet::HEADER_LEN + packet.len())?;
    let mut header = [0; ethernet::HEADER_LEN];
    ethernet::emit(&mut header, to, from, kind);
    frame.extend_from_slice(&header)?;
    frame.extend_from_slice(packet)?;
    Some(frame)
}

/// Sends a finished packet to a guest.
pub(super) fn send_inside(guest: Neighbour, packet: &[u8], links: &mut Links<'_>) {
    let ends = (guest.mac, links.gateway.config().mac);
    if let Some(frame) = framed(ends, ethertype(packet), packet, links) {
        links.ports.send(guest.port, VirtioNetHdr::PLAIN, frame);
    }
}
