use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::gso::{Checksums, Segmenter};
use crate::test_frames::{Frame, assert_valid, payload};

fn packets(frames: &[Vec<u8>]) -> Vec<ZeroCopyPacket<'_>> {
    let packet = |frame| ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    frames.iter().map(|frame| packet(&frame[..])).collect()
}

/// `count` segments of `size` bytes in a row.
fn segments(template: &Frame, count: usize, size: usize) -> Vec<Vec<u8>> {
    let bytes = payload(count * size);
    let frame = |i: usize| Frame {
        id: template.id.wrapping_add(i as u16),
        seq: template.seq.wrapping_add((i * size) as u32),
        payload: bytes[i * size..(i + 1) * size].to_vec(),
        ..template.clone()
    };
    (0..count).map(|i| frame(i).build(false)).collect()
}

fn run(frames: &[Vec<u8>]) -> usize {
    run_length(&packets(frames), &GroLimits::default())
}

#[test]
fn a_run_is_one_super_frame() {
    let frames = segments(&Frame::default(), 5, 1000);
    let packets = packets(&frames);
    assert_eq!(run_length(&packets, &GroLimits::default()), 5);
    let merged = merge(&packets).unwrap();
    let mut out = vec![0; merged.len()];
    assert_eq!(merged.write_into(&packets, &mut out), Some(14 + 52 + 5000));
    assert_eq!(merged.write_into(&packets, &mut [0; 100]), None);
    let vnet = *merged.vnet();
    assert_eq!((vnet.gso_size, vnet.gso_type, vnet.hdr_len), (1000, 1, 66));
    crate::gso::complete_checksum(&mut out, &vnet).unwrap();
    assert_valid(&out);
    let listed: usize = merged.payload(&packets).map(|list| list.total_len()).sum();
    assert_eq!(listed, 5000);
}

#[test]
fn what_differs_is_not_merged() {
    let base = Frame {
        dont_fragment: false,
        ..Frame::default()
    };
    let good = segments(&base, 3, 500);
    assert_eq!(run(&good), 3);
    // Flip a bit of every header byte of the second segment and mend its checksums.
    for at in 0..66 {
        for bit in 0..8 {
            let mut frames = good.clone();
            frames[1][at] ^= 1 << bit;
            let checksum_field = matches!(at, 24 | 25 | 50 | 51);
            if !checksum_field {
                mend(&mut frames[1]);
            }
            let length = run(&frames);
            // PSH and FIN end the run behind the segment that carries them.
            let want = if at == 47 && matches!(bit, 0 | 3) {
                2
            } else {
                1
            };
            assert_eq!(length, want, "byte {at} bit {bit}");
        }
    }
    let mut frames = good.clone();
    frames[1][100] ^= 1;
    assert_eq!(run(&frames), 1, "a corrupt payload stays alone");
    assert_eq!(run(&frames[1..]), 1);
}

/// Makes the checksums of a TCP/IPv4 frame right again.
fn mend(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let header = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
    let check = sum(&frame[14..14 + header]).finish();
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame[50..52].copy_from_slice(&[0, 0]);
    let word =
        |at: usize| net_wire::checksum::Sum::word(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let pseudo = word(26) + word(28) + word(30) + word(32);
    let pseudo = pseudo + net_wire::checksum::Sum::word((frame.len() - 34 + 6) as u16);
    let check = (pseudo + sum(&frame[34..])).finish();
    frame[50..52].copy_from_slice(&check.to_be_bytes());
}

#[test]
fn identifications_may_stand_still_only_without_fragmentation() {
    for (dont_fragment, want) in [(true, 3), (false, 1)] {
        let base = Frame {
            dont_fragment,
            ..Frame::default()
        };
        let mut frames = segments(&base, 3, 500);
        assert_eq!(run(&frames), 3);
        for frame in &mut frames {
            frame[18..20].copy_from_slice(&[0, 0]);
            mend(frame);
        }
        assert_eq!(run(&frames), want);
    }
}

#[test]
fn a_shorter_segment_is_the_last_and_limits_hold() {
    let mut frames = segments(&Frame::default(), 6, 500);
    let short = Frame {
        id: 0x1237,
        seq: 0x0102_0304 + 1500,
        payload: payload(499),
        ..Frame::default()
    };
    frames[3] = short.build(false);
    assert_eq!(run(&frames), 4);
    assert_eq!(run(&frames[3..]), 1);
    let good = segments(&Frame::default(), 6, 500);
    let packets = packets(&good);
    let limits = GroLimits {
        max_segments: 2,
        ..GroLimits::default()
    };
    assert_eq!(run_length(&packets, &limits), 2);
    let limits = GroLimits {
        max_frame: 66 + 1999,
        ..GroLimits::default()
    };
    assert_eq!(run_length(&packets, &limits), 3);
    assert_eq!(run_length(&[], &limits), 0);
}

#[test]
fn datagrams_without_checksum_and_control_segments_stay() {
    let udp = Frame {
        udp: true,
        ..Frame::default()
    };
    let mut frames = segments(&udp, 3, 500);
    assert_eq!(run(&frames), 3);
    for frame in &mut frames {
        frame[40..42].copy_from_slice(&[0, 0]);
    }
    assert_eq!(run(&frames), 1);
    for flags in [
        TcpFlags::SYN,
        TcpFlags::RST | TcpFlags::ACK,
        TcpFlags::URG | TcpFlags::ACK,
    ] {
        assert_eq!(
            run(&segments(
                &Frame {
                    flags,
                    ..Frame::default()
                },
                2,
                10
            )),
            1
        );
    }
    assert_eq!(
        run(&[Frame::default().build(false), Frame::default().build(false)]),
        1,
        "pure ACKs"
    );
}

#[test]
fn packets_that_are_no_run_make_no_panic() {
    let mut cut = segments(&Frame::default(), 2, 500);
    cut[0][46] = 0x10; // a data offset of 4 bytes
    assert!(merge(&packets(&cut)).is_none());
    let large = segments(&Frame::default(), 70, 1000);
    assert!(
        merge(&packets(&large)).is_none(),
        "longer than an IP packet"
    );
    assert!(merge(&packets(&large[..1])).is_none());
    let merged = merge(&packets(&large[..3])).unwrap();
    assert_eq!(
        merged.write_into(&packets(&large[..2]), &mut vec![0; 9999]),
        None
    );
}

proptest! {
    /// Cutting a super-frame and merging the pieces gives the super-frame back.
    #[test]
    fn gso_then_gro_is_identity(
        ipv6: bool, udp: bool, vlan: bool, id: u16, seq: u32,
        last in prop_oneof![Just(0u8), Just(1), Just(8), Just(9)],
        cwr: bool,
        size in 100usize..1400,
        extra in 1usize..1400,
        count in 1usize..40,
        partial: bool,
    ) {
        let flags = TcpFlags(last | 0x10 | if cwr { 0x80 } else { 0 });
        let len = size * count + extra.min(size);
        let frame = Frame { ipv6, udp, vlan, id, seq, flags, payload: payload(len), ..Frame::default() };
        let bytes = frame.build(true);
        let meta = crate::PacketMeta::parse(&bytes, bytes.len()).unwrap();
        let (kind, csum_offset) = match (udp, ipv6) {
            (true, _) => (VirtioNetHdr::GSO_UDP_L4, 6),
            (_, true) => (VirtioNetHdr::GSO_TCPV6, 16),
            _ => (VirtioNetHdr::GSO_TCPV4, 16),
        };
        let header = VirtioNetHdr {
            flags: VirtioNetHdr::NEEDS_CSUM,
            gso_type: kind | if cwr && !udp { VirtioNetHdr::GSO_ECN } else { 0 },
            hdr_len: meta.payload_offset,
            gso_size: size as u16,
            csum_start: meta.l4_offset,
            csum_offset,
            num_buffers: 0,
        };
        let packet = ZeroCopyPacket::from_slice(&bytes, header).unwrap();
        let checksums = if partial { Checksums::Partial } else { Checksums::Complete };
        let mut segmenter = Segmenter::new(&packet, 1500, checksums).unwrap();
        let mut pieces = Vec::new();
        let mut buffer = [0; 1600];
        while let Some(result) = segmenter.write_next(&mut buffer) {
            let (len, header) = result.unwrap();
            pieces.push((buffer[..len].to_vec(), header));
        }
        let pieces: Vec<_> = pieces
            .iter()
            .map(|(bytes, header)| ZeroCopyPacket::from_slice(bytes, *header).unwrap())
            .collect();
        prop_assert_eq!(run_length(&pieces, &GroLimits::default()), pieces.len());
        let merged = merge(&pieces).unwrap();
        prop_assert_eq!(merged.vnet(), &header);
        let mut out = vec![0; merged.len()];
        prop_assert_eq!(merged.write_into(&pieces, &mut out), Some(bytes.len()));
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn arbitrary_batches_do_not_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 14..120), 2..6),
        base in any::<bool>(),
        flip in 0usize..100,
    ) {
        let mut frames = frames;
        if base {
            let noise = frames[0][0];
            frames = segments(&Frame::default(), frames.len(), 40);
            frames[1][flip] ^= noise;
            frames[0][(flip * 7) % 100] ^= noise >> 4;
        }
        let packets = packets(&frames);
        let n = run_length(&packets, &GroLimits::default());
        prop_assert!(n >= 1 && n <= packets.len());
        for n in 0..=packets.len() {
            if let Some(merged) = merge(&packets[..n]) {
                let mut out = vec![0; merged.len()];
                prop_assert!(merged.write_into(&packets[..n], &mut out).is_some());
            }
        }
    }
}
