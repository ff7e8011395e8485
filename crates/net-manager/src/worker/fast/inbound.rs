//! Packets from outside on their way to guests.

use std::net::IpAddr;

use net_datapath::L3;
use net_datapath::packet::ZeroCopyPacket;
use net_nat::Direction;
use net_nat::icmp::ErrorKind;
use net_wire::arp::ArpPacket;

use super::PacketUplink;
use super::outbound::{is_offload_sound, longest_segment};
use crate::worker::links::Links;

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
            L3::Ipv4 if frame.dst_mac() == self.mac => self.admit_packet(frame, links),
            // Other stations' frames come along with ours, and so does IPv6, which is not carried.
            _ => false,
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
        if frame.ip_dst() != Some(IpAddr::V4(self.config.outside.ip())) {
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
}
