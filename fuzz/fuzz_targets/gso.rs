//! Segmentation: no header makes a panic, every segment is right, and merging takes it back.
//!
//! Input: 12 bytes of virtio header, the MTU as a little-endian u16, the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_datapath::gro::{GroLimits, merge, run_length};
use net_datapath::gso::{Checksums, MAX_TCP_SEGMENTS, Segmenter, complete_checksum};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};

fuzz_target!(|input: &[u8]| {
    let Some((header, rest)) = input.split_first_chunk::<12>() else {
        return;
    };
    let Some((mtu, frame)) = rest.split_first_chunk::<2>() else {
        return;
    };
    let (header, mtu) = (
        VirtioNetHdr::from_bytes(header),
        usize::from(u16::from_le_bytes(*mtu)),
    );
    let Ok(packet) = ZeroCopyPacket::from_slice(frame, header) else {
        assert!(frame.len() < 14 || frame.len() > net_datapath::MAX_FRAME_LEN);
        return;
    };
    let _ = complete_checksum(&mut frame.to_vec(), &header);
    let _ = packet.clone().complete_checksum();

    let partial = cut(&packet, mtu, Checksums::Partial);
    let Some(complete) = cut(&packet, mtu, Checksums::Complete) else {
        return;
    };
    if !header.is_gso() {
        assert_eq!(complete.len(), 1);
        return;
    }
    let l2 = usize::from(packet.meta().l3_offset);
    for bytes in &complete {
        assert!(bytes.len() <= mtu + l2);
        let segment = ZeroCopyPacket::from_slice(bytes, VirtioNetHdr::PLAIN).unwrap();
        assert!(segment.verify_ip_checksum() && segment.verify_l4_checksum());
        assert!(!segment.meta().malformed);
    }
    let partial = partial.expect("the form of the checksums makes no other segments");
    assert_eq!(partial.len(), complete.len());

    // Divided between two segments, the parts are cut into the same segments.
    let size = usize::from(header.gso_size);
    if let Ok((front, back)) = packet.split_at(size * complete.len().div_ceil(2))
        && size <= mtu.saturating_sub(200)
    {
        let parts = [front, back].map(|part| cut(&part, mtu, Checksums::Complete));
        let parts = parts.map(|part| part.expect("a part of what can be cut"));
        assert_eq!(parts.concat(), complete);
    }

    // Whatever the merger takes, cutting it again gives the very segments.
    let packets: Vec<_> = complete
        .iter()
        .map(|bytes| ZeroCopyPacket::from_slice(bytes, VirtioNetHdr::PLAIN).unwrap())
        .collect();
    let run = &packets[..run_length(&packets, &GroLimits::default())];
    if let Some(merged) = merge(run) {
        let mut bytes = vec![0; merged.len()];
        assert_eq!(merged.write_into(run, &mut bytes), Some(bytes.len()));
        let packet = ZeroCopyPacket::from_slice(&bytes, *merged.vnet()).unwrap();
        let again = cut(&packet, mtu, Checksums::Complete).expect("what was merged can be cut");
        assert_eq!(again[..], complete[..run.len()]);
    }
});

fn cut(packet: &ZeroCopyPacket<'_>, mtu: usize, checksums: Checksums) -> Option<Vec<Vec<u8>>> {
    let mut segmenter = Segmenter::new(packet, mtu, checksums).ok()?;
    assert!(segmenter.remaining() <= MAX_TCP_SEGMENTS);
    let mut out = Vec::new();
    while let Some(len) = segmenter.next_len() {
        let mut bytes = vec![0; len];
        segmenter.write_next(&mut bytes)?.ok()?;
        out.push(bytes);
    }
    Some(out)
}
