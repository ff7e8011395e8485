//! Answers of the outside address itself: echo, to guests and to the world.

use std::net::IpAddr;

use net_datapath::packet::ZeroCopyPacket;
use net_datapath::{FragmentState, VirtioNetHdr};
use net_gateway::Neighbour;
use net_wire::checksum::pseudo_v6;
use net_wire::icmpv4::{self, IcmpMessage};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ip_proto;
use net_wire::ipv4::{self, Ipv4Packet, Ipv4Repr};
use net_wire::ipv6::{self, Ipv6Packet, Ipv6Repr};

use super::PacketUplink;
use super::deliver::{ethertype, framed, send_inside, whole};
use crate::worker::links::Links;
use crate::worker::ports::PortId;

impl PacketUplink {
    /// Answers a guest's echo request to the outside address; false where it is none.
    pub(super) fn answer_echo(
        &mut self,
        from: PortId,
        frame: &ZeroCopyPacket<'_>,
        links: &mut Links<'_>,
    ) -> bool {
        self.answer(frame, links, |_, reply, links| {
            let guest = Neighbour {
                mac: frame.src_mac(),
                port: from,
            };
            send_inside(guest, reply, links);
        })
    }

    /// The same for somebody outside.
    pub(super) fn answer_echo_outside(
        &mut self,
        frame: &ZeroCopyPacket<'_>,
        links: &mut Links<'_>,
    ) -> bool {
        self.answer(frame, links, |uplink, reply, links| {
            // Back the way it came: the sender may be known here by no other.
            let ends = (frame.src_mac(), uplink.mac);
            if let Some(device) = uplink.device.port()
                && let Some(reply) = framed(ends, ethertype(reply), reply, links)
            {
                links.ports.queue(device, VirtioNetHdr::PLAIN, reply);
            }
        })
    }

    fn answer(
        &mut self,
        frame: &ZeroCopyPacket<'_>,
        links: &mut Links<'_>,
        send: impl FnOnce(&mut Self, &[u8], &mut Links<'_>),
    ) -> bool {
        if !is_echo_request(frame) {
            return false;
        }
        if self.echoes.take(links.now)
            && let Some(reply) = echo_reply(frame)
        {
            send(self, &reply, links);
        }
        true
    }
}

/// Whether a frame is an echo request in one piece.
fn is_echo_request(frame: &ZeroCopyPacket<'_>) -> bool {
    let meta = frame.meta();
    let (protocol, kind) = match frame.ip_dst() {
        Some(IpAddr::V6(_)) => (ip_proto::ICMPV6, icmpv6::ECHO_REQUEST),
        _ => (ip_proto::ICMP, icmpv4::ECHO_REQUEST),
    };
    meta.is_ip()
        && meta.l4_protocol == protocol
        && meta.fragment == FragmentState::None
        && !meta.malformed
        && frame.head().get(usize::from(meta.l4_offset)) == Some(&kind)
}

/// The answer to an echo request; `None` for one with a wrong checksum or from no single host.
fn echo_reply(frame: &ZeroCopyPacket<'_>) -> Option<Vec<u8>> {
    let packet = whole(frame);
    match frame.ip_dst()? {
        IpAddr::V4(_) => echo_reply4(&packet),
        IpAddr::V6(_) => echo_reply6(&packet),
    }
}

/// RFC 1122, section 3.2.2.6.
fn echo_reply4(packet: &[u8]) -> Option<Vec<u8>> {
    let request = Ipv4Packet::parse(packet).ok()?;
    let message = IcmpMessage::parse(request.payload()).ok()?;
    let src = request.src();
    let is_one_host = !src.is_multicast() && !src.is_broadcast() && !src.is_unspecified();
    if !message.verify_checksum() || !is_one_host {
        return None;
    }
    let mut reply = vec![0; ipv4::MIN_HEADER_LEN];
    reply.extend_from_slice(request.payload());
    Ipv4Repr {
        src: request.dst(),
        dst: src,
        protocol: ip_proto::ICMP,
        ttl: 64,
        tos: request.tos(),
        id: 0,
        dont_fragment: true,
        payload_len: request.payload().len(),
    }
    .emit(&mut reply);
    let body = reply.get_mut(ipv4::MIN_HEADER_LEN..)?;
    let rest = u32::from_be_bytes(*body.get(4..)?.first_chunk()?);
    icmpv4::emit(body, icmpv4::ECHO_REPLY, 0, rest);
    Some(reply)
}

/// RFC 4443, section 4.2.
fn echo_reply6(packet: &[u8]) -> Option<Vec<u8>> {
    let request = Ipv6Packet::parse(packet).ok()?;
    let upper = request.upper_layer().ok()?;
    let body = request.payload().get(upper.offset..)?;
    let message = Icmpv6Message::parse(body).ok()?;
    let (src, dst) = (request.src(), request.dst());
    let pseudo = pseudo_v6(src, dst, ip_proto::ICMPV6, body.len());
    let is_one_host = !src.is_multicast() && !src.is_unspecified() && !src.is_loopback();
    if !message.verify_checksum(pseudo) || !is_one_host {
        return None;
    }
    let rest = message.rest();
    let mut reply = vec![0; ipv6::HEADER_LEN];
    reply.extend_from_slice(body);
    Ipv6Repr {
        src: dst,
        dst: src,
        next_header: ip_proto::ICMPV6,
        hop_limit: 64,
        traffic_class: 0,
        payload_len: body.len(),
    }
    .emit(&mut reply);
    icmpv6::emit(
        reply.get_mut(ipv6::HEADER_LEN..)?,
        icmpv6::ECHO_REPLY,
        0,
        rest,
        pseudo_v6(dst, src, ip_proto::ICMPV6, body.len()),
    );
    Some(reply)
}
