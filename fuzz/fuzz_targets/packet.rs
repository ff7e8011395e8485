//! The packet: the same however its bytes are cut up, and its bytes whatever is done to it.
//!
//! Input: a byte with the number of steps, that many steps of two bytes, the frame. A step's first
//! byte says what to do (modulo 10), and where the frame is cut up; the second how far.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_datapath::gso::complete_checksum;
use net_datapath::{FragmentState, IoSegment, PacketMeta, VirtioNetHdr, ZeroCopyPacket};

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else {
        return;
    };
    let Some((steps, frame)) = rest.split_at_checked(usize::from(count % 32) * 2) else {
        return;
    };
    let whole = match ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN) {
        Ok(packet) => packet,
        Err(_) => {
            assert!(frame.len() < 14 || frame.len() > net_datapath::MAX_FRAME_LEN);
            assert!(PacketMeta::parse(frame, frame.len()).is_err() == (frame.len() < 14));
            return;
        }
    };
    // What is beyond the headers does not matter, and nothing but them is read.
    let seen = frame.len().min(ZeroCopyPacket::HEAD_MAX);
    let meta = PacketMeta::parse(&frame[..seen], frame.len()).unwrap();
    assert_eq!(whole.meta(), &meta);
    in_order(&meta, frame.len());

    let mut cuts = vec![0, frame.len()];
    cuts.extend(steps.chunks(2).take(17).map(|step| {
        let at = usize::from(step[0]) << 4 ^ usize::from(step[1]);
        at % (frame.len() + 1)
    }));
    cuts.sort_unstable();
    let pieces: Vec<_> = cuts
        .windows(2)
        .map(|cut| IoSegment::from(&frame[cut[0]..cut[1]]))
        .collect();
    let mut packet = ZeroCopyPacket::from_segments(&pieces, VirtioNetHdr::PLAIN).unwrap();
    same(&packet, &whole);

    let mut bytes = frame.to_vec();
    for step in steps.chunks(2) {
        edit(&mut packet, &mut bytes, step[0], step[1]);
        in_order(packet.meta(), bytes.len());
        assert_eq!(contents(&packet), bytes);
        let fresh = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
        // A head that has grown in front shows more than a new one.
        if packet.head().len() <= ZeroCopyPacket::HEAD_MAX {
            same(&packet, &fresh);
        }
    }

    let at = usize::from(count) * 8;
    if let Ok((front, back)) = packet.split_at(at) {
        assert_eq!(front.payload_len(), at);
        let mut payload = Vec::new();
        for part in [front, back] {
            let mut bytes = contents(&part);
            complete_checksum(&mut bytes, part.vnet()).unwrap();
            let part = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
            assert!(part.verify_ip_checksum() && part.verify_l4_checksum());
            payload.extend_from_slice(part.contiguous_payload().unwrap());
        }
        let from = usize::from(packet.meta().payload_offset);
        assert_eq!(payload, bytes[from..packet.meta().payload_end as usize]);
    }
});

fn in_order(meta: &PacketMeta, len: usize) {
    let offsets = [
        14,
        meta.l3_offset.into(),
        meta.l4_offset.into(),
        meta.payload_offset.into(),
        meta.payload_end as usize,
        meta.l3_end as usize,
        len,
    ];
    assert!(offsets.is_sorted(), "{offsets:?}");
    assert_eq!(meta.offload, VirtioNetHdr::PLAIN);
    if meta.fragment == FragmentState::Later {
        assert_eq!((meta.src_port, meta.dst_port), (0, 0));
    }
}

fn contents(packet: &ZeroCopyPacket<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.len()];
    let list = packet.frame_segments();
    assert_eq!(list.total_len(), bytes.len());
    assert_eq!(list.copy_to_slice(0, &mut bytes), bytes.len());
    let mut again = vec![0; packet.len()];
    assert_eq!(packet.copy_range(0, &mut again), bytes.len());
    assert_eq!(again, bytes);
    bytes
}

/// Both say the same of everything.
fn same(a: &ZeroCopyPacket<'_>, b: &ZeroCopyPacket<'_>) {
    assert_eq!((a.meta(), a.len()), (b.meta(), b.len()));
    assert_eq!((a.src_mac(), a.dst_mac()), (b.src_mac(), b.dst_mac()));
    assert_eq!((a.ip_src(), a.ip_dst()), (b.ip_src(), b.ip_dst()));
    assert_eq!(a.fragment(), b.fragment());
    assert_eq!(a.verify_ip_checksum(), b.verify_ip_checksum());
    assert_eq!(a.verify_l4_checksum(), b.verify_l4_checksum());
    assert_eq!(a.flow_hash(3), b.flow_hash(3));
    assert_eq!(a.flow_hash_symmetric(3), b.flow_hash_symmetric(3));
    let (mut x, mut y) = (vec![0; a.payload_len()], vec![0; b.payload_len()]);
    for (packet, out) in [(a, &mut x), (b, &mut y)] {
        assert_eq!(
            packet.payload(0, usize::MAX).copy_to_slice(0, out),
            out.len()
        );
        if let Some(payload) = packet.contiguous_payload() {
            assert_eq!(payload, &out[..]);
        }
    }
    assert_eq!(x, y);
}

/// The same change to the packet and to its bytes.
fn edit(packet: &mut ZeroCopyPacket<'_>, bytes: &mut Vec<u8>, what: u8, much: u8) {
    let room = packet.headroom();
    let n = usize::from(much);
    match what % 10 {
        0 | 1 => {
            let header: Vec<u8> = (0..much).map(|i| i.wrapping_mul(what)).collect();
            if packet.push_head(&header).is_some() {
                bytes.splice(..0, header);
            } else {
                assert!(n > room || bytes.len() + n > net_datapath::MAX_FRAME_LEN);
            }
        }
        2..4 => match packet.pull_head(n) {
            Some(()) => drop(bytes.drain(..n)),
            None => assert!(bytes.len() < n + 14),
        },
        4 | 5 => {
            if packet.push_vlan(much.into()).is_some() {
                bytes.splice(12..12, [0x81, 0, 0, much]);
                assert_eq!(packet.meta().vlan(), Some(much.into()));
            } else {
                assert!(room < 4 || bytes.len() + 4 > net_datapath::MAX_FRAME_LEN);
            }
        }
        6 => {
            if let Some(tag) = packet.pop_vlan() {
                let cut: Vec<u8> = bytes.drain(12..16).collect();
                assert_eq!(cut[2..], tag.to_be_bytes());
            }
        }
        7 => {
            let at = usize::from(packet.meta().l3_offset);
            let valid = packet.verify_ip_checksum();
            if packet.decrement_ttl().is_some() {
                let end = packet.head().len().min(at + 20);
                bytes[at..end].copy_from_slice(&packet.head()[at..end]);
                assert_eq!(packet.verify_ip_checksum(), valid);
            }
        }
        _ => {
            let at = n % packet.head().len();
            packet.head_mut()[at] ^= what;
            packet.reparse();
            bytes[at] ^= what;
        }
    }
}
