//! Packets of guests on their way out.

use std::net::IpAddr;

use net_datapath::packet::ZeroCopyPacket;
use net_datapath::{FragmentState, L3, VirtioNetHdr};
use net_nat::Direction;
use net_nat::icmp::ErrorKind;
use net_wire::ip_proto;

use super::PacketUplink;
use super::inbound::is_link_message;
use super::neighbours::Found;
use crate::worker::links::Links;
use crate::worker::ports::PortId;

impl PacketUplink {
    /// Takes packets of the guest at `from` that the gateway has let through.
    pub(in crate::worker) fn outbound(
        &mut self,
        from: PortId,
        frames: &mut [ZeroCopyPacket<'_>],
        links: &mut Links<'_>,
    ) {
        let mut start = 0;
        for n in 0..frames.len() {
            if !self.admit_outbound(from, &mut frames[n], links) {
                self.translate(from, &mut frames[start..n], Direction::Outbound, links);
                start = n + 1;
            }
        }
        self.translate(from, &mut frames[start..], Direction::Outbound, links);
        self.send_outputs(links);
        self.send_questions(links);
    }

    /// Whether a packet is to be translated now; one that is not has been answered, kept or
    /// dropped. Its time to live has been lowered where it is.
    fn admit_outbound(
        &mut self,
        from: PortId,
        frame: &mut ZeroCopyPacket<'_>,
        links: &mut Links<'_>,
    ) -> bool {
        // The gateway takes a tagged frame for an untagged one; outside, a tag means another network.
        if frame.meta().vlan().is_some() {
            frame.pop_vlan();
        }
        if !is_offload_sound(frame) {
            self.drops.offload += 1;
            return false;
        }
        // What a guest says about its own link is nothing to another one, whoever it is sent to.
        let dst = frame.ip_dst().filter(|dst| self.carries(*dst));
        let Some(dst) = dst.filter(|_| !is_link_message(frame)) else {
            self.drops.address += 1;
            return false;
        };
        if self.is_outside(dst) {
            return !self.answer_echo(from, frame, links) && frame.decrement_ttl().is_some();
        }
        let hop = self.next_hop(dst).filter(|_| self.device.port().is_some());
        let Some(hop) = hop else {
            self.drops.unreachable += 1;
            self.complain_inside(from, frame, ErrorKind::NoRoute, links);
            return false;
        };
        let mtu = self.mtu_to(dst);
        if longest(frame).is_some_and(|len| len > mtu) {
            self.drops.too_big += 1;
            let mtu = mtu as u32;
            self.complain_inside(from, frame, ErrorKind::TooBig { mtu }, links);
            return false;
        }
        match self.find(hop, from, links.now) {
            Found::Mac(_) => frame.decrement_ttl().is_some(),
            Found::Asked => {
                self.keep_outward(hop, from, frame, links);
                false
            }
            Found::Refused => {
                self.drops.unreachable += 1;
                self.complain_inside(from, frame, ErrorKind::HostUnreachable, links);
                false
            }
        }
    }

    /// Whether packets of guests to `dst` may leave: others are never forwarded, nor complained
    /// about (RFC 3927, section 7; RFC 2644; RFC 4291, sections 2.5 to 2.7).
    fn carries(&self, dst: IpAddr) -> bool {
        match dst {
            IpAddr::V4(dst) => {
                let outside = self.config.outside;
                let is_broadcast = outside.prefix() < 31
                    && (dst == outside.broadcast() || dst == outside.network());
                !dst.is_link_local() && !is_broadcast
            }
            IpAddr::V6(dst) => {
                let is_host = !dst.is_multicast()
                    && !dst.is_unspecified()
                    && !dst.is_loopback()
                    && dst.to_ipv4_mapped().is_none();
                let is_inside = self.inside6.is_some_and(|inside| inside.contains(dst));
                self.six.is_some() && is_host && !dst.is_unicast_link_local() && !is_inside
            }
        }
    }

    /// Whether `ip` is an address that guests share.
    pub(super) fn is_outside(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip == self.config.outside.ip(),
            IpAddr::V6(ip) => self.six.as_ref().is_some_and(|six| ip == six.outside()),
        }
    }

    /// Who takes a packet to `dst` next.
    pub(super) fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V4(dst) if self.config.outside.contains(dst) => Some(dst.into()),
            IpAddr::V4(_) => self.config.via.map(IpAddr::V4),
            IpAddr::V6(dst) => self.six.as_ref()?.next_hop(dst).map(IpAddr::V6),
        }
    }

    /// The largest packet that leaves for `dst`, in bytes.
    fn mtu_to(&self, dst: IpAddr) -> usize {
        match (dst, &self.six) {
            (IpAddr::V6(_), Some(six)) => six.mtu(),
            _ => self.mtu_outside,
        }
    }

    /// Keeps a packet, as it came, until its next hop is known.
    fn keep_outward(
        &mut self,
        hop: IpAddr,
        from: PortId,
        frame: &ZeroCopyPacket<'_>,
        links: &mut Links<'_>,
    ) {
        match links.ports.duplicate(frame) {
            Some(copy) if self.outward.has_room(hop, from) => {
                self.outward.push(hop, from, *frame.vnet(), copy, links.now);
            }
            _ => self.drops.waiting += 1,
        }
    }

    /// Carries the packets on whose next hop has become known.
    pub(super) fn resume_outward(&mut self, links: &mut Links<'_>) {
        let mut outward = std::mem::take(&mut self.outward);
        let ready = outward.take(|hop| self.known(hop).is_some());
        self.outward = outward;
        for waiter in ready {
            if let Ok(mut frame) = ZeroCopyPacket::from_slice(&waiter.frame, waiter.header) {
                self.outbound(waiter.from, std::slice::from_mut(&mut frame), links);
            }
        }
    }

    /// Nobody answers to `hop`: tells whoever waits for it.
    pub(super) fn give_up(&mut self, hop: IpAddr, links: &mut Links<'_>) {
        for waiter in self.outward.take(|waiting| waiting == hop) {
            self.drops.unreachable += 1;
            if let Ok(frame) = ZeroCopyPacket::from_slice(&waiter.frame, waiter.header) {
                self.complain_inside(waiter.from, &frame, ErrorKind::HostUnreachable, links);
            }
        }
    }
}

/// Whether the virtio header says of the frame what its headers say.
///
/// More than [`VirtioNetHdr::validate`] asks for: whoever completes the checksum writes two bytes
/// where the header says, after the translation; they must be the checksum's and not an address.
pub(super) fn is_offload_sound(frame: &ZeroCopyPacket<'_>) -> bool {
    let (header, meta) = (frame.vnet(), frame.meta());
    if *header == VirtioNetHdr::PLAIN {
        return true;
    }
    let checksum_at = match meta.l4_protocol {
        ip_proto::TCP => 16,
        ip_proto::UDP => 6,
        _ => 0,
    };
    let partial_is_right = !header.needs_csum()
        || (checksum_at != 0
            && meta.fragment == FragmentState::None
            && header.csum_start == meta.l4_offset
            && header.csum_offset == checksum_at);
    partial_is_right
        && (!header.is_gso() || header.needs_csum())
        && header.validate(frame.len(), meta).is_ok()
}

/// The longest packet that will leave for a frame, in bytes; `None` for an ordinary one of IPv4,
/// whose length the translator looks at: it may be allowed to cut it.
fn longest(frame: &ZeroCopyPacket<'_>) -> Option<usize> {
    let meta = frame.meta();
    let whole = (meta.l3 == L3::Ipv6)
        .then(|| (meta.l3_end as usize).saturating_sub(usize::from(meta.l3_offset)));
    longest_segment(frame).or(whole)
}

/// The longest packet that a super-frame will be cut into, in bytes; `None` for an ordinary frame.
pub(super) fn longest_segment(frame: &ZeroCopyPacket<'_>) -> Option<usize> {
    let (header, meta) = (frame.vnet(), frame.meta());
    header.is_gso().then(|| {
        let headers = usize::from(meta.payload_offset - meta.l3_offset);
        headers + meta.payload_len().min(header.gso_size.into())
    })
}
