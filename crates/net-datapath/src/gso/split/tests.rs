use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::PacketMeta;
use crate::gso::{Checksums, Segmenter, complete_checksum};
use crate::segment::IoSegment;
use crate::test_frames::{Frame, assert_valid, payload};

fn header(bytes: &[u8], gso_size: u16) -> VirtioNetHdr {
    let meta = PacketMeta::parse(bytes, bytes.len()).unwrap();
    let (kind, csum_offset) = match (meta.l4_protocol, meta.l3) {
        (17, _) => (VirtioNetHdr::GSO_UDP_L4, 6),
        (_, crate::L3::Ipv6) => (VirtioNetHdr::GSO_TCPV6, 16),
        _ => (VirtioNetHdr::GSO_TCPV4, 16),
    };
    let cwr = TcpFlags(meta.tcp_flags).contains(TcpFlags::CWR);
    let ecn = if cwr { VirtioNetHdr::GSO_ECN } else { 0 };
    VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: if gso_size == 0 { 0 } else { kind | ecn },
        hdr_len: meta.payload_offset,
        gso_size,
        csum_start: meta.l4_offset,
        csum_offset,
        num_buffers: 0,
    }
}

fn cut(packet: &ZeroCopyPacket<'_>) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(packet, 65_535, Checksums::Complete).unwrap();
    let mut frames = Vec::new();
    while let Some(len) = segmenter.next_len() {
        let mut frame = vec![0; len];
        segmenter.write_next(&mut frame).unwrap().unwrap();
        frames.push(frame);
    }
    frames
}

fn whole(packet: &ZeroCopyPacket<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.len()];
    let n = packet.frame_segments().copy_to_slice(0, &mut bytes);
    assert_eq!(n, bytes.len());
    bytes
}

/// Payload where it was: behind the head nothing is copied.
fn assert_not_copied(part: &ZeroCopyPacket<'_>, original: &[u8]) {
    let range = original.as_ptr_range();
    for piece in part.rest() {
        assert!(range.contains(&piece.as_ptr()));
    }
}

proptest! {
    /// Cutting both parts gives what cutting the whole gives.
    #[test]
    fn split_then_cut_is_cut(
        ipv6: bool, udp: bool, vlan: bool, id: u16, seq: u32, urgent: Option<u16>,
        last in 0u8..2, push: bool, cwr: bool,
        size in 1usize..1400, count in 1usize..30, extra in 0usize..1400,
        cuts in proptest::collection::vec(0usize..4000, 0..8),
        at in 1usize..30,
        padding in 0usize..5,
    ) {
        let (extra, at) = (extra % size, at % count);
        let flags = TcpFlags(0x10 | last | u8::from(push) << 3 | u8::from(cwr) << 7);
        let payload = payload(size * count + extra);
        let frame = Frame { ipv6, udp, vlan, id, seq, flags, payload, ..Frame::default() };
        let mut bytes = frame.build(true);
        let header = header(&bytes, size as u16);
        if let (Some(pointer), false) = (urgent, udp) {
            let tcp = usize::from(header.csum_start);
            bytes[tcp + 13] |= TcpFlags::URG.0;
            bytes[tcp + 18..tcp + 20].copy_from_slice(&(pointer % 8000).to_be_bytes());
        }
        bytes.resize(bytes.len() + padding, 0xaa);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let segments: Vec<_> =
            cuts.windows(2).map(|w| IoSegment::from(&bytes[w[0]..w[1]])).collect();
        for packet in [
            ZeroCopyPacket::from_slice(&bytes, header).unwrap(),
            ZeroCopyPacket::from_segments(&segments, header).unwrap(),
        ] {
            let at = at * size;
            let Ok((front, back)) = packet.split_at(at) else {
                prop_assert!(at == 0);
                continue;
            };
            prop_assert!(at > 0);
            prop_assert_eq!((front.payload_len(), back.payload_len()), (at, packet.payload_len() - at));
            prop_assert_eq!(front.contiguous_payload().is_some(), packet.contiguous_payload().is_some());
            assert_not_copied(&front, &bytes);
            assert_not_copied(&back, &bytes);
            for part in [&front, &back] {
                prop_assert_eq!(part.vnet().is_gso(), part.payload_len() > size);
                let cwr = TcpFlags(part.meta().tcp_flags).contains(TcpFlags::CWR);
                let ecn = part.vnet().gso_type & VirtioNetHdr::GSO_ECN != 0;
                prop_assert_eq!(ecn, cwr && part.vnet().is_gso());
                prop_assert_eq!(part.vnet().validate(part.len(), part.meta()), Ok(()));
                let mut finished = whole(part);
                complete_checksum(&mut finished, part.vnet()).unwrap();
                assert_valid(&finished);
            }
            let parts = [cut(&front), cut(&back)].concat();
            prop_assert_eq!(parts, cut(&packet));
        }
    }

    /// An ordinary TCP segment, divided anywhere, is two in a row; short ones lie in the head.
    #[test]
    fn a_segment_becomes_two_in_a_row(
        ipv6: bool, len in 2usize..300, at in 1usize..300, finished: bool, valid: bool,
    ) {
        let at = 1 + at % (len - 1);
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let frame = Frame { ipv6, flags, payload: payload(len), ..Frame::default() };
        let bytes = frame.build(!finished);
        let mut vnet = if finished { VirtioNetHdr::PLAIN } else { header(&bytes, 0) };
        if valid {
            vnet.flags |= VirtioNetHdr::DATA_VALID;
        }
        let packet = ZeroCopyPacket::from_slice(&bytes, vnet).unwrap();
        let (front, back) = packet.split_at(at).unwrap();
        let mut all = Vec::new();
        for (part, id, push) in [(&front, 0x1234u16, false), (&back, 0x1235, true)] {
            prop_assert_eq!(part.vnet().gso_type, VirtioNetHdr::GSO_NONE);
            let mut bytes = whole(part);
            complete_checksum(&mut bytes, part.vnet()).unwrap();
            assert_valid(&bytes);
            let tcp = usize::from(part.meta().l4_offset);
            let seq = u32::from_be_bytes([bytes[tcp + 4], bytes[tcp + 5], bytes[tcp + 6], bytes[tcp + 7]]);
            prop_assert_eq!(seq, frame.seq + all.len() as u32);
            prop_assert_eq!(TcpFlags(bytes[tcp + 13]).contains(TcpFlags::PSH), push);
            if !ipv6 {
                prop_assert_eq!(&bytes[18..20], &id.to_be_bytes());
            }
            all.extend_from_slice(&bytes[part.meta().payload_offset.into()..]);
        }
        prop_assert_eq!(all, frame.payload);
    }

    /// Between two segments or not: numbers, identifications and payload go on in a row.
    #[test]
    fn a_super_frame_divided_anywhere_goes_on_in_a_row(
        ipv6: bool, size in 1usize..1400, len in 2usize..20_000, at in 1usize..20_000,
    ) {
        let (len, at) = (len.min(size * 60).max(2), at % (len.min(size * 60).max(2) - 1) + 1);
        let frame = Frame { ipv6, payload: payload(len), ..Frame::default() };
        let bytes = frame.build(true);
        let packet = ZeroCopyPacket::from_slice(&bytes, header(&bytes, size as u16)).unwrap();
        let (front, back) = packet.split_at(at).unwrap();
        let mut all = Vec::new();
        for (i, bytes) in [cut(&front), cut(&back)].concat().iter().enumerate() {
            assert_valid(bytes);
            let meta = PacketMeta::parse(bytes, bytes.len()).unwrap();
            let tcp = usize::from(meta.l4_offset);
            let seq = u32::from_be_bytes([bytes[tcp + 4], bytes[tcp + 5], bytes[tcp + 6], bytes[tcp + 7]]);
            prop_assert_eq!(seq, frame.seq + all.len() as u32);
            if !ipv6 {
                prop_assert_eq!(&bytes[18..20], &(frame.id + i as u16).to_be_bytes());
            }
            all.extend_from_slice(&bytes[meta.payload_offset.into()..]);
        }
        prop_assert_eq!(all, frame.payload);
    }

    #[test]
    fn hostile_packets_do_not_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 14..400),
        plausible in any::<bool>(),
        header: [u8; 12],
        kind in 0u8..8,
        at in 0usize..500,
    ) {
        let mut header = VirtioNetHdr::from_bytes(&header);
        header.gso_type = kind;
        if plausible {
            header.flags |= VirtioNetHdr::DATA_VALID;
            header.flags &= !VirtioNetHdr::NEEDS_CSUM;
            let frame = Frame { udp: kind == 5, ipv6: kind == 4, payload: bytes.clone(), ..Frame::default() };
            let mut built = frame.build(true);
            let at = bytes.len() % built.len();
            built[at] ^= bytes[0];
            bytes = built;
        }
        let packet = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
        if let Ok((front, back)) = packet.split_at(at) {
            prop_assert_eq!(front.payload_len() + back.payload_len(), packet.payload_len());
        }
    }
}

/// A head that holds payload besides the headers, with more of it behind.
#[test]
fn payload_in_the_head_stays_in_its_place() {
    let frame = Frame {
        payload: payload(300),
        ..Frame::default()
    };
    let good = frame.build(true);
    let mut bytes = good.clone();
    bytes[23] = 200;
    let mut packet = ZeroCopyPacket::from_slice(&bytes, header(&good, 0)).unwrap();
    packet.head_mut()[23] = 6;
    packet.reparse();
    assert_eq!(
        (packet.head().len(), packet.meta().payload_offset),
        (128, 66)
    );
    for at in 1..300 {
        let (front, back) = packet.split_at(at).unwrap();
        let parts = [cut(&front), cut(&back)].concat();
        let payload: Vec<u8> = parts.iter().flat_map(|part| part[66..].to_vec()).collect();
        assert_eq!(payload, frame.payload, "{at}");
    }
}

#[test]
fn what_cannot_be_divided_is_refused() {
    let split = |bytes: &[u8], vnet, at| {
        let packet = ZeroCopyPacket::from_slice(bytes, vnet).unwrap();
        packet.split_at(at).map(|_| ()).unwrap_err()
    };
    let tcp = Frame {
        payload: payload(1000),
        ..Frame::default()
    };
    let mut bytes = tcp.build(false);
    let plain = VirtioNetHdr::PLAIN;
    for at in [0, 1000, 1001, usize::MAX] {
        assert_eq!(split(&bytes, plain, at), SplitError::OutOfRange);
    }
    bytes[500] ^= 1;
    assert_eq!(split(&bytes, plain, 500), SplitError::BadChecksum);
    bytes[500] ^= 1;
    bytes[24] ^= 1;
    assert_eq!(split(&bytes, plain, 500), SplitError::BadChecksum);
    bytes[24] ^= 1;
    bytes[20] = 0x20;
    assert_eq!(split(&bytes, plain, 500), SplitError::Indivisible);
    let opening = Frame {
        flags: TcpFlags::SYN,
        ..tcp.clone()
    };
    assert_eq!(
        split(&opening.build(false), plain, 500),
        SplitError::Indivisible
    );

    let udp = Frame { udp: true, ..tcp };
    let bytes = udp.build(true);
    assert_eq!(
        split(&bytes, plain, 500),
        SplitError::Indivisible,
        "a datagram"
    );
    let vnet = header(&bytes, 300);
    assert_eq!(
        split(&bytes, vnet, 500),
        SplitError::Indivisible,
        "inside a datagram"
    );
    let tunnelled = VirtioNetHdr {
        csum_start: 50,
        ..vnet
    };
    assert_eq!(split(&bytes, tunnelled, 300), SplitError::Indivisible);
    let wrong = VirtioNetHdr {
        gso_type: VirtioNetHdr::GSO_TCPV4,
        ..vnet
    };
    assert_eq!(
        split(&bytes, wrong, 300),
        SplitError::Header(VnetError::GsoMismatch)
    );
}
