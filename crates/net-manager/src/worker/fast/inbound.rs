//! Packets from outside on their way to guests.

use std::net::IpAddr;

use net_datapath::packet::ZeroCopyPacket;
use net_datapath::{FragmentState, L3};
use net_nat::Direction;
use net_nat::icmp::ErrorKind;
use net_wire::arp::ArpPacket;
use net_wire::{icmpv6, ip_proto};

use super::outbound::{is_offload_sound, longest_segment};
use super::station::Heard;
use super::{PacketUplink, mld};
use crate::worker::links::Links;

/// The longest message about the link that is read, in bytes: what every link carries in one piece.
const MAX_LINK_MESSAGE: usize = 1280;

impl PacketUplink {
    /// Takes frames of the outside network.
    pub(in crate::worker) fn inbound(
        &mut self,
        frames: &mut [ZeroCopyPacket<'_>],
        links: &mut Links<'_>,
    ) {
        let Some(device) = self.device.port() else {
            return;
        };
        let mut start = 0;
        for n in 0..frames.len() {
            if !self.admit_inbound(&mut frames[n], links) {
                self.translate(device, &mut frames[start..n], Direction::Inbound, links);
                start = n + 1;
            }
        }
        self.translate(device, &mut frames[start..], Direction::Inbound, links);
        self.send_outputs(links);
        self.send_questions(links);
    }

    /// Whether a packet is to be translated; its time to live has been lowered where it is.
    fn admit_inbound(&mut self, frame: &mut ZeroCopyPacket<'_>, links: &mut Links<'_>) -> bool {
        let meta = frame.meta();
        // A tag means another network, and a group is not this station.
        if meta.vlan().is_some() || !frame.src_mac().is_unicast() {
            return false;
        }
        match meta.l3 {
            L3::Arp => {
                self.take_arp(frame, links);
                false
            }
            L3::Ipv6 if is_link_message(frame) => {
                self.take_link_message(frame, links);
                false
            }
            L3::Ipv4 | L3::Ipv6 if frame.dst_mac() == self.mac => self.admit_packet(frame, links),
            // Other stations' frames come along with ours.
            _ => false,
        }
    }

    /// Lets the station hear a message that came whole (RFC 6980), rightly summed, for it or a group.
    fn take_link_message(&mut self, frame: &ZeroCopyPacket<'_>, links: &mut Links<'_>) {
        let meta = frame.meta();
        let (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) = (frame.ip_src(), frame.ip_dst())
        else {
            return;
        };
        let at = usize::from(meta.l4_offset);
        let len = (meta.l3_end as usize).saturating_sub(at);
        let is_whole = !meta.malformed && meta.fragment_header == 0 && len <= MAX_LINK_MESSAGE;
        let is_for_us = frame.dst_mac() == self.mac || frame.dst_mac().is_multicast();
        if !is_whole || !is_for_us || !frame.verify_l4_checksum() {
            self.drops.malformed += u64::from(is_for_us);
            return;
        }
        let mut message = vec![0; len];
        frame.copy_range(at, &mut message);
        let hop_limit = frame.head().get(usize::from(meta.l3_offset) + 7).copied();
        let heard = Heard {
            mac: frame.src_mac(),
            src,
            dst,
            hop_limit: hop_limit.unwrap_or(0),
            message: &message,
        };
        if let Some(six) = &mut self.six
            && six.take(heard, links.now)
        {
            self.resume_outward(links);
        }
    }

    fn take_arp(&mut self, frame: &ZeroCopyPacket<'_>, links: &mut Links<'_>) {
        let at = usize::from(frame.meta().l3_offset);
        let body = frame.head().get(at..).unwrap_or_default();
        if let Ok(packet) = ArpPacket::parse(body)
            && packet.sender_mac == frame.src_mac()
            && self.arp.take(&packet, links.now)
        {
            self.resume_outward(links);
        }
    }

    fn admit_packet(&mut self, frame: &mut ZeroCopyPacket<'_>, links: &mut Links<'_>) -> bool {
        if !self.is_addressed(frame) {
            self.drops.address += 1;
            return false;
        }
        if !frame.verify_ip_checksum() {
            self.drops.malformed += 1;
            return false;
        }
        if !is_offload_sound(frame) {
            self.drops.offload += 1;
            return false;
        }
        if self.answer_echo_outside(frame, links) {
            return false;
        }
        if longest_segment(frame).is_some_and(|len| len > self.mtu_inside) {
            self.drops.too_big += 1;
            let mtu = self.mtu_inside as u32;
            self.complain_outside(frame, ErrorKind::TooBig { mtu }, links);
            return false;
        }
        if frame.decrement_ttl().is_none() {
            self.drops.malformed += 1;
            self.complain_outside(frame, ErrorKind::TimeExceeded, links);
            return false;
        }
        true
    }
    /// Whether a packet is for the address that guests share, and from one that is heard beyond the
    /// link.
    fn is_addressed(&self, frame: &ZeroCopyPacket<'_>) -> bool {
        match (frame.ip_src(), frame.ip_dst()) {
            (Some(IpAddr::V4(_)), Some(IpAddr::V4(dst))) => dst == self.config.outside.ip(),
            (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) => {
                self.six.as_ref().is_some_and(|six| {
                    six.is_usable() && dst == six.outside() && !src.is_unicast_link_local()
                })
            }
            _ => false,
        }
    }
}

/// Whether this is a message of IPv6 about the link, which goes no further, whatever it says.
pub(super) fn is_link_message(frame: &ZeroCopyPacket<'_>) -> bool {
    let meta = frame.meta();
    meta.l3 == L3::Ipv6
        && meta.l4_protocol == ip_proto::ICMPV6
        && meta.fragment != FragmentState::Later
        && frame
            .head()
            .get(usize::from(meta.l4_offset))
            .is_some_and(|kind| {
                *kind == mld::QUERY || (icmpv6::ROUTER_SOLICIT..=icmpv6::REDIRECT).contains(kind)
            })
}
