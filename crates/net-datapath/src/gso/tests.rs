use alloc::vec;
use alloc::vec::Vec;

use net_wire::tcp::SeqNumber;
use proptest::prelude::*;

use super::*;
use crate::test_frames::{Frame, assert_valid, payload};

fn gso(frame: &Frame, size: u16) -> VirtioNetHdr {
    let l2 = if frame.vlan { 18 } else { 14 };
    let l4 = l2 + if frame.ipv6 { 40 } else { 20 };
    let (gso_type, csum_offset) = match (frame.udp, frame.ipv6) {
        (true, _) => (VirtioNetHdr::GSO_UDP_L4, 6),
        (_, true) => (VirtioNetHdr::GSO_TCPV6, 16),
        _ => (VirtioNetHdr::GSO_TCPV4, 16),
    };
    VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type,
        hdr_len: 0xffff, // a lie that must not matter
        gso_size: size,
        csum_start: l4,
        csum_offset,
        num_buffers: 0,
    }
}

fn cut(bytes: &[u8], header: VirtioNetHdr, mtu: usize) -> Result<Vec<Vec<u8>>, GsoError> {
    let packet = ZeroCopyPacket::from_slice(bytes, header).unwrap();
    let mut segmenter = Segmenter::new(&packet, mtu, Checksums::Complete)?;
    let mut out = Vec::new();
    let mut buffer = vec![0xee; 70_000];
    while let Some(result) = segmenter.write_next(&mut buffer) {
        let (len, header) = result?;
        assert_eq!(header, VirtioNetHdr::PLAIN);
        out.push(buffer[..len].to_vec());
    }
    assert_eq!((segmenter.remaining(), segmenter.next_len()), (0, None));
    Ok(out)
}

fn tcp_of(frame: &[u8]) -> (SeqNumber, TcpFlags, &[u8]) {
    let meta = crate::PacketMeta::parse(frame, frame.len()).unwrap();
    let tcp = &frame[meta.l4_offset.into()..];
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    (
        SeqNumber(seq),
        TcpFlags(tcp[13]),
        &frame[meta.payload_offset.into()..],
    )
}

#[test]
fn flags_ids_and_sequence_numbers_follow_the_rules() {
    let frame = Frame {
        id: 0xffff,
        seq: 0xffff_ff00,
        flags: TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR,
        payload: payload(2500),
        ..Frame::default()
    };
    let mut header = gso(&frame, 1000);
    header.gso_type |= VirtioNetHdr::GSO_ECN;
    let frames = cut(&frame.build(true), header, 1500).unwrap();
    let want = [
        (0xffff, 0xffff_ff00, TcpFlags::ACK | TcpFlags::CWR, 1000),
        (0x0000, 0x0000_02e8, TcpFlags::ACK, 1000),
        (
            0x0001,
            0x0000_06d0,
            TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN,
            500,
        ),
    ];
    assert_eq!(frames.len(), want.len());
    for (frame, (id, seq, flags, len)) in frames.iter().zip(want) {
        assert_valid(frame);
        let (found_seq, found_flags, found) = tcp_of(frame);
        assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), id);
        assert_eq!((found_seq.0, found_flags, found.len()), (seq, flags, len));
    }
}

#[test]
fn the_urgent_pointer_ends_where_the_urgent_data_ends() {
    let frame = Frame {
        flags: TcpFlags::ACK | TcpFlags::URG,
        payload: payload(300),
        ..Frame::default()
    };
    let mut bytes = frame.build(true);
    bytes[34 + 18..34 + 20].copy_from_slice(&150u16.to_be_bytes());
    let frames = cut(&bytes, gso(&frame, 100), 1500).unwrap();
    let urgent = |frame: &Vec<u8>| {
        let flag = tcp_of(frame).1.contains(TcpFlags::URG);
        (flag, u16::from_be_bytes([frame[52], frame[53]]))
    };
    let found: Vec<_> = frames.iter().map(urgent).collect();
    assert_eq!(found, [(true, 150), (true, 50), (false, 0)]);
    frames.iter().for_each(|frame| assert_valid(frame));
}

#[test]
fn headers_that_lie_are_errors() {
    let frame = Frame {
        payload: payload(3000),
        ..Frame::default()
    };
    let bytes = frame.build(true);
    let good = gso(&frame, 1000);
    let header = |change: fn(&mut VirtioNetHdr)| {
        let mut header = good;
        change(&mut header);
        cut(&bytes, header, 1500).unwrap_err()
    };
    assert_eq!(header(|h| h.gso_size = 0), VnetError::ZeroGsoSize.into());
    assert_eq!(header(|h| h.gso_type = 4), VnetError::GsoMismatch.into());
    assert_eq!(header(|h| h.gso_type = 5), VnetError::GsoMismatch.into());
    assert_eq!(header(|h| h.gso_type = 3), VnetError::UnsupportedGso.into());
    assert_eq!(
        header(|h| h.gso_type = 99),
        VnetError::UnsupportedGso.into()
    );
    assert_eq!(
        header(|h| h.csum_start = 5),
        VnetError::ChecksumOutOfBounds.into()
    );
    assert_eq!(
        header(|h| h.csum_start = 0xffff),
        VnetError::ChecksumOutOfBounds.into()
    );
    assert_eq!(
        header(|h| h.csum_offset = 0xffff),
        VnetError::ChecksumOutOfBounds.into()
    );
    assert_eq!(header(|h| h.gso_size = 2), GsoError::TooManySegments);
    assert_eq!(cut(&bytes, good, 52).unwrap_err(), GsoError::ExceedsMtu);
    let syn = Frame {
        flags: TcpFlags::SYN,
        ..frame
    };
    assert_eq!(
        cut(&syn.build(true), good, 1500).unwrap_err(),
        GsoError::UnexpectedFlags
    );
    let arp = [0x08, 0x06];
    let mut bytes = bytes;
    bytes[12..14].copy_from_slice(&arp);
    assert_eq!(
        cut(&bytes, good, 1500).unwrap_err(),
        VnetError::GsoMismatch.into()
    );
}

#[test]
fn tcp_is_cut_to_the_mtu_and_datagrams_are_not() {
    let mut frame = Frame {
        payload: payload(5000),
        ..Frame::default()
    };
    let frames = cut(&frame.build(true), gso(&frame, 4000), 1500).unwrap();
    assert_eq!(frames.len(), 4);
    assert!(frames.iter().all(|frame| frame.len() <= 1514));
    frames.iter().for_each(|frame| assert_valid(frame));
    frame.udp = true;
    assert_eq!(
        cut(&frame.build(true), gso(&frame, 4000), 1500).unwrap_err(),
        GsoError::ExceedsMtu
    );
    frame.payload.truncate(1472);
    assert_eq!(
        cut(&frame.build(true), gso(&frame, 4000), 1500)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_small_buffer_can_be_replaced() {
    let frame = Frame {
        payload: payload(200),
        ..Frame::default()
    };
    let bytes = frame.build(true);
    let packet = ZeroCopyPacket::from_slice(&bytes, gso(&frame, 150)).unwrap();
    let mut segmenter = Segmenter::new(&packet, 1500, Checksums::Complete).unwrap();
    let mut buffer = [0; 300];
    assert_eq!(
        segmenter.write_next(&mut buffer[..215]),
        Some(Err(GsoError::BufferTooSmall { needed: 216 }))
    );
    assert_eq!(
        segmenter.write_next(&mut buffer[..216]),
        Some(Ok((216, VirtioNetHdr::PLAIN)))
    );
    assert_valid(&buffer[..216]);
    assert_eq!(segmenter.remaining(), 1);
}

#[test]
fn a_partial_checksum_stops_before_the_padding() {
    let frame = Frame {
        udp: true,
        payload: payload(5),
        ..Frame::default()
    };
    let header = VirtioNetHdr {
        gso_type: 0,
        ..gso(&frame, 0)
    };
    let mut bytes = frame.build(true);
    let len = bytes.len();
    bytes.resize(60, 0x77);

    let mut packet = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
    packet.complete_checksum().unwrap();
    assert_eq!(*packet.vnet(), VirtioNetHdr::PLAIN);
    let in_place = packet.head()[..len].to_vec();
    assert_valid(&in_place);

    complete_checksum(&mut bytes, &header).unwrap();
    assert_valid(&bytes[..len]);
    assert_eq!(bytes[..len], in_place);
    for csum_start in [0, 13, 44, 59, 0xffff] {
        let header = VirtioNetHdr {
            csum_start,
            ..header
        };
        assert!(
            complete_checksum(&mut bytes, &header).is_err(),
            "{csum_start}"
        );
    }
    assert!(complete_checksum(&mut [], &header).is_err());
    let header = gso(&frame, 2);
    let mut packet = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
    assert_eq!(packet.complete_checksum(), Err(VnetError::GsoMismatch));
}

prop_compose! {
    fn any_frame()(
        ipv6: bool, udp: bool, vlan: bool, id: u16, seq: u32, dont_fragment: bool,
        flags in 0u8..32, words in 0usize..=10, len in 0usize..20_000,
    ) -> Frame {
        let flags = TcpFlags(flags & !(TcpFlags::SYN | TcpFlags::RST).0) | TcpFlags::ACK;
        let options = [1, 1, 1, 0].repeat(words);
        Frame { ipv6, udp, vlan, id, seq, dont_fragment, flags, options, payload: payload(len) }
    }
}

proptest! {
    /// Every segment is right by smoltcp's reading, and together they are the payload.
    #[test]
    fn segments_are_valid_and_complete(frame in any_frame(), size in 200u16..3000, mtu in 576usize..4000) {
        let bytes = frame.build(true);
        let header = gso(&frame, size);
        let frames = match cut(&bytes, header, mtu) {
            Ok(frames) => frames,
            Err(error) => {
                let fits = usize::from(size).min(frame.payload.len()) + 48 <= mtu;
                prop_assert!(frame.udp && error == GsoError::ExceedsMtu && !fits);
                return Ok(());
            }
        };
        let mut all = Vec::new();
        for (i, bytes) in frames.iter().enumerate() {
            assert_valid(bytes);
            prop_assert!(bytes.len() <= mtu + 18);
            let meta = crate::PacketMeta::parse(bytes, bytes.len()).unwrap();
            if !frame.udp {
                prop_assert_eq!(tcp_of(bytes).0, SeqNumber(frame.seq) + all.len() as u32);
            }
            if !frame.ipv6 {
                let at = usize::from(meta.l3_offset) + 4;
                prop_assert_eq!(
                    u16::from_be_bytes([bytes[at], bytes[at + 1]]),
                    frame.id.wrapping_add(i as u16)
                );
            }
            all.extend_from_slice(&bytes[meta.payload_offset.into()..]);
        }
        prop_assert_eq!(all, frame.payload);
    }

    /// Partial segments, completed by the receiver, are the complete ones.
    #[test]
    fn partial_and_complete_agree(frame in any_frame(), size in 200u16..1400) {
        let bytes = frame.build(true);
        let packet = ZeroCopyPacket::from_slice(&bytes, gso(&frame, size)).unwrap();
        let mut partial = Segmenter::new(&packet, 1500, Checksums::Partial).unwrap();
        let mut complete = Segmenter::new(&packet, 1500, Checksums::Complete).unwrap();
        let (mut a, mut b) = ([0; 1600], [0; 1600]);
        while let Some(result) = partial.write_next(&mut a) {
            let (len, header) = result.unwrap();
            prop_assert!(header.needs_csum() && !header.is_gso());
            complete_checksum(&mut a[..len], &header).unwrap();
            prop_assert_eq!(complete.write_next(&mut b), Some(Ok((len, VirtioNetHdr::PLAIN))));
            prop_assert_eq!(&a[..len], &b[..len]);
        }
        prop_assert_eq!(complete.remaining(), 0);
    }

    /// No header and no frame makes a panic, an endless loop or a frame past the buffer.
    #[test]
    fn hostile_headers_do_not_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 14..400),
        plausible in any::<bool>(),
        header: [u8; 12],
        kind in 0u8..8,
        mtu in 0usize..3000,
    ) {
        let mut header = VirtioNetHdr::from_bytes(&header);
        header.gso_type = kind;
        if plausible {
            let frame = Frame { udp: kind == 5, ipv6: kind == 4, payload: bytes.clone(), ..Frame::default() };
            let mut built = frame.build(true);
            let at = bytes.len() % built.len();
            built[at] ^= bytes[0];
            bytes = built;
        }
        for cut in [bytes.len(), (bytes.len() / 2).max(14), 14] {
            let packet = ZeroCopyPacket::from_slice(&bytes[..cut], header).unwrap();
            for checksums in [Checksums::Complete, Checksums::Partial] {
                let Ok(mut segmenter) = Segmenter::new(&packet, mtu, checksums) else { continue };
                let mut buffer = [0; 1000];
                let mut count = 0;
                while segmenter.write_next(&mut buffer).is_some_and(|result| result.is_ok()) {
                    count += 1;
                    prop_assert!(count <= MAX_TCP_SEGMENTS);
                }
            }
            let _ = packet.clone().complete_checksum();
        }
        let _ = complete_checksum(&mut bytes, &header);
    }
}
