//! Datagrams of any length towards a guest: whole, as fragments, or as a super-frame.

use std::net::{IpAddr, SocketAddr};

use net_datapath::VirtioNetHdr;
use net_wire::{checksum, ip_proto, ipv4, ipv6, udp};

use crate::compose;
use crate::{Egress, GuestLink, SendStatus};

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Sent,
    /// The guest's queue is full; what did not fit is lost.
    Busy,
    /// No port has the guest's address.
    Gone,
    /// No memory for a packet.
    NoBuffer,
    /// Longer than any packet can be.
    TooBig,
}

/// Builds and sends; remembers the last identification.
#[derive(Debug)]
pub(crate) struct Deliverer {
    ident: u32,
    scratch: Vec<u8>,
}

impl Deliverer {
    /// `ident` is where identifications of fragmented packets start: any secret number.
    pub(crate) fn new(ident: u32) -> Self {
        Self {
            ident,
            scratch: Vec::new(),
        }
    }

    /// Sends one UDP datagram.
    pub(crate) fn udp(
        &mut self,
        out: &mut dyn Egress,
        link: &GuestLink,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &[u8],
    ) -> Delivery {
        let len = udp::HEADER_LEN + payload.len();
        let mut fill = |datagram: &mut [u8], partial: bool| {
            compose::udp_datagram(datagram, src, dst, payload, partial)
        };
        self.transport(
            out,
            link,
            (src.ip(), dst.ip()),
            ip_proto::UDP,
            len,
            Some(6),
            &mut fill,
        )
    }

    /// Sends the datagrams of `size` bytes each (the last may be shorter) that `payload` is made
    /// of; calls `each` with the fate of every one that was tried.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn udp_many(
        &mut self,
        out: &mut dyn Egress,
        link: &GuestLink,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &[u8],
        size: usize,
        mut each: impl FnMut(Delivery),
    ) {
        let one = size == 0 || payload.len() <= size;
        if one {
            return each(self.udp(out, link, src, dst, payload));
        }
        let headers = compose::ip_header_len(dst.ip()) + udp::HEADER_LEN;
        if link.uso && link.csum && headers + size <= usize::from(link.mtu) {
            let fate = Self::super_frame(out, src, dst, payload, size);
            return payload.chunks(size).for_each(|_| each(fate));
        }
        let mut fate = Delivery::Sent;
        for datagram in payload.chunks(size) {
            // A full queue stays full for the time of this call.
            if fate != Delivery::Busy {
                fate = self.udp(out, link, src, dst, datagram);
            }
            each(fate);
        }
    }

    fn super_frame(
        out: &mut dyn Egress,
        src: SocketAddr,
        dst: SocketAddr,
        payload: &[u8],
        size: usize,
    ) -> Delivery {
        let ip_len = compose::ip_header_len(dst.ip());
        let headers = ip_len + udp::HEADER_LEN;
        let Some(mut packet) = out.buffer(headers + payload.len()) else {
            return Delivery::NoBuffer;
        };
        let written = compose::udp(
            packet.spare_mut(),
            src,
            dst,
            compose::DEFAULT_TTL,
            payload,
            true,
        );
        if written.and_then(|len| packet.set_len(len)).is_none() {
            return Delivery::TooBig;
        }
        let header = VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_UDP_L4,
            gso_size: size as u16,
            hdr_len: headers as u16,
            ..partial_checksum(ip_len, 6)
        };
        status(out.send(dst.ip(), header, packet))
    }

    /// Sends one packet whose transport part is `len` bytes that `fill` writes, as fragments where
    /// the link needs them.
    ///
    /// `checksum_at` is the offset of a checksum that `fill` can leave partial.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn transport(
        &mut self,
        out: &mut dyn Egress,
        link: &GuestLink,
        (src, dst): (IpAddr, IpAddr),
        protocol: u8,
        len: usize,
        checksum_at: Option<u16>,
        fill: &mut dyn FnMut(&mut [u8], bool) -> Option<()>,
    ) -> Delivery {
        let ip_len = compose::ip_header_len(dst);
        // A link below the minimum of its family does not exist (RFC 791, RFC 8200); without this
        // bound a fragment could be empty.
        let minimum = if dst.is_ipv6() { 1280 } else { 68 };
        let mtu = usize::from(link.mtu).max(minimum);
        if ip_len + len > mtu {
            let mut scratch = core::mem::take(&mut self.scratch);
            scratch.clear();
            scratch.resize(len, 0);
            let fate = match fill(&mut scratch, false) {
                Some(()) => self.fragments(out, (src, dst), protocol, mtu, &scratch),
                None => Delivery::TooBig,
            };
            self.scratch = scratch;
            return fate;
        }
        let partial = checksum_at.filter(|_| link.csum);
        let Some(mut packet) = out.buffer(ip_len + len) else {
            return Delivery::NoBuffer;
        };
        let room = packet.spare_mut();
        let written = compose::ip_header(room, src, dst, protocol, compose::DEFAULT_TTL, len)
            .and_then(|_| fill(room.get_mut(ip_len..ip_len + len)?, partial.is_some()));
        if written
            .and_then(|()| packet.set_len(ip_len + len))
            .is_none()
        {
            return Delivery::TooBig;
        }
        let header = partial.map_or(VirtioNetHdr::PLAIN, |at| partial_checksum(ip_len, at));
        status(out.send(dst, header, packet))
    }

    /// Cuts a transport part into fragments (RFC 791, 3.2; RFC 8200, 4.5).
    fn fragments(
        &mut self,
        out: &mut dyn Egress,
        (src, dst): (IpAddr, IpAddr),
        protocol: u8,
        mtu: usize,
        whole: &[u8],
    ) -> Delivery {
        let v6 = dst.is_ipv6();
        let ip_len = compose::ip_header_len(dst);
        let extra = if v6 { ipv6::FRAGMENT_HEADER_LEN } else { 0 };
        // The length field of IPv6 does not count the header.
        let counted = if v6 { 0 } else { ip_len };
        if counted + whole.len() > usize::from(u16::MAX) {
            return Delivery::TooBig;
        }
        self.ident = self.ident.wrapping_add(1);
        let step = (mtu - ip_len - extra) & !7;
        for (i, data) in whole.chunks(step).enumerate() {
            let offset = i * step;
            let more = offset + data.len() < whole.len();
            let len = ip_len + extra + data.len();
            let Some(mut packet) = out.buffer(len) else {
                return Delivery::NoBuffer;
            };
            let Some(room) = packet.spare_mut().get_mut(..len) else {
                return Delivery::NoBuffer;
            };
            let next = if v6 {
                ip_proto::IPV6_FRAGMENT
            } else {
                protocol
            };
            let header = compose::ip_header(
                room,
                src,
                dst,
                next,
                compose::DEFAULT_TTL,
                extra + data.len(),
            );
            if header.is_none() {
                return Delivery::TooBig;
            }
            if v6 {
                let bits = offset as u16 | u16::from(more);
                room[ip_len..ip_len + 2].copy_from_slice(&[protocol, 0]);
                room[ip_len + 2..ip_len + 4].copy_from_slice(&bits.to_be_bytes());
                room[ip_len + 4..ip_len + 8].copy_from_slice(&self.ident.to_be_bytes());
            } else {
                let bits = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                room[4..6].copy_from_slice(&(self.ident as u16).to_be_bytes());
                room[6..8].copy_from_slice(&bits.to_be_bytes());
                room[10..12].fill(0);
                let check = checksum::sum(&room[..ipv4::MIN_HEADER_LEN]).finish();
                room[10..12].copy_from_slice(&check.to_be_bytes());
            }
            room[ip_len + extra..].copy_from_slice(data);
            if packet.set_len(len).is_none() {
                return Delivery::NoBuffer;
            }
            match status(out.send(dst, VirtioNetHdr::PLAIN, packet)) {
                Delivery::Sent => {}
                other => return other,
            }
        }
        Delivery::Sent
    }
}

/// The virtio header of a packet whose checksum the guest finishes; offsets from the IP header.
fn partial_checksum(l4_offset: usize, checksum_at: u16) -> VirtioNetHdr {
    VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        csum_start: l4_offset as u16,
        csum_offset: checksum_at,
        ..VirtioNetHdr::PLAIN
    }
}

fn status(status: SendStatus) -> Delivery {
    match status {
        SendStatus::Sent => Delivery::Sent,
        SendStatus::Busy(_) => Delivery::Busy,
        SendStatus::NoRoute => Delivery::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Recorder, from_frames};
    use net_wire::ipv4::Ipv4Packet;

    /// Row 57: every length and MTU comes back whole, and no packet passes the MTU.
    #[test]
    fn datagrams_of_every_length_survive_every_mtu() {
        for (src, dst) in [
            ("192.0.2.1:53", "10.0.2.15:4000"),
            ("[2001:db8::1]:53", "[fd00::2]:4000"),
        ] {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let minimum = if dst.is_ipv6() { 1280 } else { 68 };
            for mtu in [68u16, 69, 75, 76, 576, 1280, 1500, 9000, 65_535] {
                for len in [0usize, 1, 8, 39, 40, 41, 548, 1472, 1473, 9000, 65_487] {
                    let mut out = Recorder::new(mtu);
                    let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                    let link = out.link(dst.ip()).unwrap();
                    let fate = Deliverer::new(9).udp(&mut out, &link, src, dst, &payload);
                    assert_eq!(fate, Delivery::Sent, "{mtu} {len}");
                    for packet in &out.sent {
                        assert!(
                            packet.l3.len() <= usize::from(mtu.max(minimum)),
                            "{mtu} {len}"
                        );
                        if dst.is_ipv4() {
                            assert!(
                                Ipv4Packet::parse(&packet.l3[..])
                                    .unwrap()
                                    .verify_header_checksum()
                            );
                        }
                    }
                    let got = from_frames(&out.sent);
                    assert_eq!(got, [(src, dst, payload)], "{mtu} {len}");
                }
            }
        }
    }

    #[test]
    fn the_longest_datagram_fits_and_one_more_byte_does_not() {
        let (src, dst) = (
            "192.0.2.1:53".parse().unwrap(),
            "10.0.2.15:4000".parse().unwrap(),
        );
        let mut out = Recorder::new(1500);
        let link = out.link("10.0.2.15".parse().unwrap()).unwrap();
        let mut deliverer = Deliverer::new(0);
        let fate = deliverer.udp(&mut out, &link, src, dst, &[1; 65_507]);
        assert_eq!(fate, Delivery::Sent);
        assert_eq!(from_frames(&out.sent)[0].2.len(), 65_507);
        let fate = deliverer.udp(&mut out, &link, src, dst, &[1; 65_508]);
        assert_eq!(fate, Delivery::TooBig);
    }

    #[test]
    fn coalesced_datagrams_arrive_one_by_one_or_as_a_super_frame() {
        let (src, dst) = (
            "192.0.2.1:53".parse().unwrap(),
            "10.0.2.15:4000".parse().unwrap(),
        );
        let payload: Vec<u8> = (0..2500).map(|i| i as u8).collect();
        for offload in [false, true] {
            let mut out = Recorder::new(1500);
            (out.link.uso, out.link.csum) = (offload, offload);
            let link = out.link;
            let mut fates = Vec::new();
            Deliverer::new(0).udp_many(&mut out, &link, src, dst, &payload, 1000, |fate| {
                fates.push(fate)
            });
            assert_eq!(fates, [Delivery::Sent; 3]);
            assert_eq!(out.sent.len(), if offload { 1 } else { 3 });
            if offload {
                let header = out.sent[0].header;
                assert_eq!(
                    (header.gso_type, header.gso_size),
                    (VirtioNetHdr::GSO_UDP_L4, 1000)
                );
                assert_eq!(
                    (header.csum_start, header.csum_offset, header.hdr_len),
                    (20, 6, 28)
                );
                assert_eq!(&out.sent[0].l3[28..], &payload[..]);
            } else {
                let lens: Vec<usize> = from_frames(&out.sent).iter().map(|d| d.2.len()).collect();
                assert_eq!(lens, [1000, 1000, 500]);
            }
        }
    }

    #[test]
    fn a_full_queue_ends_a_datagram() {
        let (src, dst) = (
            "192.0.2.1:53".parse().unwrap(),
            "10.0.2.15:4000".parse().unwrap(),
        );
        let mut out = Recorder::new(576);
        out.room = 2;
        let link = out.link;
        let fate = Deliverer::new(0).udp(&mut out, &link, src, dst, &[0; 5000]);
        assert_eq!((fate, out.sent.len()), (Delivery::Busy, 2));
    }
}
