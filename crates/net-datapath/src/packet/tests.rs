use alloc::vec;
use alloc::vec::Vec;

use net_wire::checksum::pseudo_v4;
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Repr;
use net_wire::tcp::{SeqNumber, TcpFlags, TcpRepr};
use net_wire::{checksum, udp};
use proptest::prelude::*;

use super::*;

const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

fn ethernet(ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + payload.len()];
    ethernet::emit(
        &mut frame,
        MacAddr([2, 0, 0, 0, 0, 1]),
        MacAddr([2, 0, 0, 0, 0, 2]),
        ethertype,
    );
    frame[14..].copy_from_slice(payload);
    frame
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + payload.len()];
    Ipv4Repr {
        src: SRC,
        dst: DST,
        protocol,
        ttl: 64,
        tos: 0,
        id: 0x1234,
        dont_fragment: false,
        payload_len: payload.len(),
    }
    .emit(&mut packet);
    packet[20..].copy_from_slice(payload);
    packet
}

fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut segment = vec![0; 32 + payload];
    TcpRepr {
        src_port: 40000,
        dst_port: 443,
        seq: SeqNumber(1),
        ack: SeqNumber(2),
        flags: TcpFlags::ACK | TcpFlags::PSH,
        window: 500,
    }
    .emit(&mut segment, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    for (i, byte) in segment[32..].iter_mut().enumerate() {
        *byte = (i * 7) as u8;
    }
    let pseudo = pseudo_v4(SRC, DST, 6, segment.len());
    let check = (pseudo + checksum::sum(&segment)).finish();
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    ethernet(EtherType::IPV4, &ipv4(6, &segment))
}

fn udp_frame(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8 + payload.len()];
    udp::emit(&mut datagram, 53, 5353, payload.len(), 0);
    datagram[8..].copy_from_slice(payload);
    let pseudo = pseudo_v4(SRC, DST, 17, datagram.len());
    let check = (pseudo + checksum::sum(&datagram)).finish_udp();
    datagram[6..8].copy_from_slice(&check.to_be_bytes());
    ethernet(EtherType::IPV4, &ipv4(17, &datagram))
}

fn packet(frame: &[u8]) -> ZeroCopyPacket<'_> {
    ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap()
}

#[test]
fn a_tcp_segment_is_headers_and_payload() {
    let frame = tcp_frame(1000);
    let packet = packet(&frame);
    let meta = packet.meta();
    assert_eq!((meta.l3, meta.l4_protocol), (L3::Ipv4, 6));
    assert_eq!((meta.l4_offset, meta.payload_offset), (34, 66));
    assert_eq!(
        (meta.src_port, meta.dst_port, meta.tcp_flags),
        (40000, 443, 0x18)
    );
    assert_eq!(packet.head(), &frame[..66]);
    assert_eq!(packet.contiguous_payload(), Some(&frame[66..]));
    assert_eq!(
        (packet.ip_src(), packet.ip_dst()),
        (Some(SRC.into()), Some(DST.into()))
    );
    assert_eq!(packet.payload(10, 20).len(), 1);
    assert_eq!(packet.frame_segments().total_len(), frame.len());
    assert!(packet.verify_ip_checksum() && packet.verify_l4_checksum());
}

#[test]
fn padding_is_not_payload() {
    let mut frame = udp_frame(b"abc");
    frame.resize(60, 0xaa);
    let packet = packet(&frame);
    assert_eq!(packet.contiguous_payload(), Some(&b"abc"[..]));
    assert_eq!((packet.meta().l3_end, packet.len()), (45, 60));
    assert!(packet.verify_l4_checksum());
}

/// UDP's own length may be shorter than the IP payload: the rest is not the application's.
#[test]
fn udp_ends_where_its_length_says() {
    let mut frame = udp_frame(b"abcdef");
    frame[38..40].copy_from_slice(&10u16.to_be_bytes());
    frame[40..42].copy_from_slice(&[0, 0]);
    assert_eq!(packet(&frame).contiguous_payload(), Some(&b"ab"[..]));
    assert!(
        packet(&frame).verify_l4_checksum(),
        "no checksum is no error over IPv4"
    );
    frame[38..40].copy_from_slice(&15u16.to_be_bytes());
    let packet = packet(&frame);
    assert!(packet.meta().malformed && packet.meta().src_port == 0);
    assert!(!packet.verify_l4_checksum());
}

#[test]
fn a_corrupt_byte_fails_the_checksum() {
    let mut frame = tcp_frame(301);
    for at in [30, 40, 66, 200, 366] {
        frame[at] ^= 0x10;
        assert!(!packet(&frame).verify_l4_checksum(), "{at}");
        frame[at] ^= 0x10;
    }
    frame[22] ^= 1;
    assert!(!packet(&frame).verify_ip_checksum());
    frame[22] ^= 1;
    frame[200] ^= 1;
    for flags in [VirtioNetHdr::NEEDS_CSUM, VirtioNetHdr::DATA_VALID] {
        let header = VirtioNetHdr {
            flags,
            ..VirtioNetHdr::PLAIN
        };
        assert!(
            ZeroCopyPacket::from_slice(&frame, header)
                .unwrap()
                .verify_l4_checksum()
        );
    }
}

#[test]
fn a_tag_moves_everything_by_four() {
    let frame = udp_frame(b"abc");
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0, 0x20, 5]);
    tagged.extend_from_slice(&frame[12..]);
    let view = packet(&tagged);
    let meta = view.meta();
    assert_eq!(
        (meta.l3_offset, meta.vlan(), meta.ethertype),
        (18, Some(0x2005), 0x0800)
    );
    assert_eq!(view.contiguous_payload(), Some(&b"abc"[..]));
    assert!(view.verify_l4_checksum());
    assert!(packet(&tagged[..16]).meta().malformed);
}

#[test]
fn fragments_have_no_ports_but_the_first() {
    let mut frame = udp_frame(&[1; 32]);
    frame[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    let first = packet(&frame);
    assert_eq!(
        (first.meta().fragment, first.meta().src_port),
        (FragmentState::First, 53)
    );
    frame[20..22].copy_from_slice(&0x2004u16.to_be_bytes());
    let later = packet(&frame);
    assert_eq!(
        (later.meta().fragment, later.meta().src_port),
        (FragmentState::Later, 0)
    );
    assert_eq!(later.payload_len(), 40);
    let fragment = later.fragment().unwrap();
    assert_eq!(
        (fragment.offset, fragment.more, fragment.id),
        (32, true, 0x1234)
    );
    assert!(
        later.verify_l4_checksum(),
        "a fragment cannot be checked alone"
    );
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let mut ip = vec![0u8; 40];
    ip[0] = 0x60;
    ip[6] = 0; // hop-by-hop
    ip[7] = 64;
    ip[24..40].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    ip.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]); // then a fragment header
    ip.extend_from_slice(&[17, 0, 0, 1, 0, 0, 0, 9]); // offset 0, more, id 9
    ip.extend_from_slice(&[0, 53, 0, 54, 0, 100, 1, 2, 7, 7, 7, 7, 7, 7, 7, 7]);
    let len = (ip.len() - 40) as u16;
    ip[4..6].copy_from_slice(&len.to_be_bytes());
    let mut frame = ethernet(EtherType::IPV6, &ip);
    let view = packet(&frame);
    let meta = view.meta();
    assert_eq!(
        (meta.l4_protocol, meta.l4_offset, meta.fragment_header),
        (17, 70, 62)
    );
    assert_eq!((meta.fragment, meta.src_port), (FragmentState::First, 53));
    assert_eq!(
        view.fragment().map(|f| (f.offset, f.more, f.id)),
        Some((0, true, 9))
    );
    assert_eq!(view.ip_dst(), Some(Ipv6Addr::LOCALHOST.into()));
    // Without "more" it is an atomic fragment: a whole packet, whose length must then fit.
    frame[65] = 0;
    assert!(packet(&frame).meta().malformed);
    frame[75] = 16;
    assert_eq!(packet(&frame).meta().fragment, FragmentState::None);
    assert!(!packet(&frame).meta().malformed);
}

#[test]
fn every_ethernet_frame_is_a_packet() {
    let frame = tcp_frame(100);
    for len in 0..14 {
        assert_eq!(
            ZeroCopyPacket::from_slice(&frame[..len], VirtioNetHdr::PLAIN).unwrap_err(),
            PacketError::TooShort
        );
    }
    for len in 14..frame.len() {
        let packet = packet(&frame[..len]);
        assert_eq!(packet.meta().l3, L3::Other, "the IP packet is cut short");
        assert!(packet.meta().malformed);
        assert_eq!(packet.ip_src(), None);
    }
    let odd = ethernet(EtherType(0x88cc), &[1, 2, 3]);
    assert_eq!(
        (packet(&odd).meta().l3, packet(&odd).meta().malformed),
        (L3::Other, false)
    );
    let arp = ethernet(EtherType::ARP, &[]);
    assert_eq!(packet(&arp).meta().l3, L3::Arp);
    let long = vec![0; MAX_FRAME_LEN + 1];
    assert_eq!(
        ZeroCopyPacket::from_slice(&long, VirtioNetHdr::PLAIN).unwrap_err(),
        PacketError::TooLong
    );
}

#[test]
fn too_many_pieces_are_refused() {
    let frame = tcp_frame(100);
    let mut segments: Vec<_> = frame.chunks(1).map(IoSegment::from).collect();
    assert_eq!(
        ZeroCopyPacket::from_segments(&segments, VirtioNetHdr::PLAIN).unwrap_err(),
        PacketError::TooManySegments
    );
    segments.truncate(18);
    segments.extend([IoSegment::EMPTY; 40]);
    assert!(ZeroCopyPacket::from_segments(&segments, VirtioNetHdr::PLAIN).is_ok());
}

proptest! {
    /// However a frame is cut up, the packet is that of the whole slice.
    #[test]
    fn pieces_make_the_same_packet(
        payload in 0usize..3000,
        cuts in proptest::collection::vec(0usize..3066, 0..17),
        skip in 0usize..3100,
        take in 0usize..3100,
    ) {
        let frame = tcp_frame(payload);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(frame.len())).collect();
        cuts.extend([0, frame.len()]);
        cuts.sort_unstable();
        let segments: Vec<_> =
            cuts.windows(2).map(|w| IoSegment::from(&frame[w[0]..w[1]])).collect();
        let packet = ZeroCopyPacket::from_segments(&segments, VirtioNetHdr::PLAIN).unwrap();
        let whole = self::packet(&frame);
        prop_assert_eq!(packet.meta(), whole.meta());
        prop_assert_eq!(packet.head(), whole.head());
        prop_assert!(packet.verify_l4_checksum() && whole.verify_l4_checksum());

        let want = &frame[skip.min(frame.len())..(skip + take).min(frame.len()).max(skip.min(frame.len()))];
        for packet in [&packet, &whole] {
            let mut out = vec![0; take];
            let n = packet.copy_range(skip, &mut out);
            prop_assert_eq!(&out[..n], want);
            let list = packet.range_segments(skip, take);
            prop_assert_eq!(list.total_len(), want.len());
            prop_assert_eq!(list.copy_to_slice(0, &mut out), want.len());
            prop_assert_eq!(&out[..n], want);

            let list = packet.payload(skip, take);
            let n = list.copy_to_slice(0, &mut out);
            let from = (66 + skip).min(frame.len());
            prop_assert_eq!(&out[..n], &frame[from..(from + take).min(frame.len())]);
        }
    }

    /// Whatever the bytes are, the offsets are in order and within the frame.
    #[test]
    fn arbitrary_bytes_keep_the_offsets_in_order(
        mut bytes in proptest::collection::vec(any::<u8>(), 14..300),
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), any::<u16>()],
        version in any::<bool>(),
    ) {
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if version && bytes.len() > 60 {
            bytes[14] = if ethertype == 0x0800 { 0x45 } else { 0x60 };
            let at = if ethertype == 0x0800 { 16 } else { 18 };
            bytes[at] = 0;
            bytes[23] %= 64;
            bytes[20] %= 64;
        }
        let packet = self::packet(&bytes);
        let meta = packet.meta();
        prop_assert!(meta.l3_offset == 14 + 4 * u16::from(meta.vlan().is_some()));
        prop_assert!(meta.l3_offset <= meta.l4_offset);
        prop_assert!(meta.l4_offset <= meta.payload_offset);
        prop_assert!(u32::from(meta.payload_offset) <= meta.payload_end);
        prop_assert!(meta.payload_end <= meta.l3_end);
        prop_assert!(meta.l3_end as usize <= bytes.len());
        let _ = (packet.verify_ip_checksum(), packet.verify_l4_checksum(), packet.fragment());
        let _ = (packet.contiguous_payload(), packet.payload(0, 9999), meta.flow_hash(packet.head(), 1));
        let _ = packet.vnet().validate(packet.len(), meta);
    }
}

#[test]
fn the_flow_hash_depends_on_the_flow_and_the_seed() {
    let frame = tcp_frame(10);
    let hash = |frame: &[u8], seed| {
        let packet = packet(frame);
        packet.meta().flow_hash(packet.head(), seed)
    };
    let base = hash(&frame, 1);
    assert_eq!(hash(&tcp_frame(99), 1), base);
    assert_ne!(hash(&frame, 2), base);
    for at in [29, 33, 35, 37] {
        let mut other = frame.clone();
        other[at] ^= 1;
        assert_ne!(hash(&other, 1), base, "{at}");
    }
}

#[test]
fn frames_that_differ_in_address_type_or_tag_do_not_go_alike() {
    let bytes = [7; 60];
    let one = packet(&bytes);
    for at in 0..60 {
        let mut other = bytes;
        other[at] = 8;
        let other = packet(&other);
        assert_eq!(one.goes_like(&other), at >= 16, "byte {at}");
    }
    let short = packet(&bytes[..15]);
    assert!(!short.goes_like(&short) && !short.goes_like(&one));
    assert!(packet(&bytes[..16]).goes_like(&one));
}
