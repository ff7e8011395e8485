//! Cut packets are put together again by a reassembler that shares nothing with the cutter.

use super::*;
use proptest::prelude::*;

/// A packet with these options (a multiple of 4 bytes) and a payload without a pattern.
fn packet(options: &[u8], payload: usize, flags: u16, offset: usize) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0u8; header + payload];
    bytes[0] = 0x40 | (header / 4) as u8;
    bytes[1] = 0xb9;
    let total = (header + payload) as u16;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
    bytes[6..8].copy_from_slice(&(flags | (offset / 8) as u16).to_be_bytes());
    bytes[8] = 61;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&[192, 0, 2, 1]);
    bytes[16..20].copy_from_slice(&[198, 51, 100, 2]);
    bytes[20..header].copy_from_slice(options);
    let mut state = 1u32;
    for byte in &mut bytes[header..] {
        state = state.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
        *byte = (state >> 24) as u8;
    }
    Ipv4Packet::parse(&mut bytes[..])
        .unwrap()
        .fill_header_checksum();
    bytes
}

/// Joins fragments that must follow each other without a gap; returns the payload and where it
/// begins and whether more follows.
fn join(fragments: &[Vec<u8>]) -> (Vec<u8>, usize, bool) {
    let mut payload = Vec::new();
    let mut begin = None;
    let mut more = true;
    for fragment in fragments {
        assert!(more, "a fragment behind the last");
        let view = Ipv4Packet::parse(&fragment[..]).unwrap();
        let begin = *begin.get_or_insert(view.fragment_offset());
        assert_eq!(view.fragment_offset(), begin + payload.len());
        assert!(!view.payload().is_empty() || fragments.len() == 1);
        payload.extend_from_slice(view.payload());
        more = view.more_fragments();
    }
    (payload, begin.unwrap(), more)
}

fn cut(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CutError> {
    fragments_v4(packet, mtu).map(Iterator::collect)
}

#[test]
fn rfc4787_req13_too_big_is_cut_in_order() {
    let packet = packet(&[], 1480, 0, 0);
    let fragments = cut(&packet, 576).unwrap();
    let lengths: Vec<_> = fragments.iter().map(Vec::len).collect();
    // 552 bytes of payload at a time, not 556.
    assert_eq!(lengths, [572, 572, 396]);
    let (payload, begin, more) = join(&fragments);
    assert_eq!((&payload[..], begin, more), (&packet[20..], 0, false));
    for fragment in &fragments {
        let view = Ipv4Packet::parse(&fragment[..]).unwrap();
        assert!(view.verify_header_checksum());
        assert_eq!((view.id(), view.ttl(), view.tos()), (0x1234, 61, 0xb9));
        assert_eq!(view.protocol(), 17);
        assert_eq!(view.src().octets(), [192, 0, 2, 1]);
        assert_eq!(view.dst().octets(), [198, 51, 100, 2]);
    }
}

#[test]
fn rfc4787_req13_dont_fragment_is_kept() {
    let packet = packet(&[], 1480, 0x4000, 0);
    assert_eq!(cut(&packet, 1499), Err(CutError::DontFragment));
    assert_eq!(cut(&packet, 1500).unwrap(), [&packet[..]], "it fits");
}

#[test]
fn what_fits_is_unchanged_but_for_padding() {
    let packet = packet(&[], 6, 0x2000, 64);
    let mut padded = packet.clone();
    padded.extend_from_slice(&[0xee; 20]);
    assert_eq!(cut(&padded, 28).unwrap(), [&packet[..]]);
}

#[test]
fn rfc791_options_only_the_copied_ones_follow() {
    // Record route of 7 bytes, which is not copied, and a stream id, which is; end.
    let options = [7, 7, 4, 0, 0, 0, 0, 136, 4, 1, 2, 0];
    let packet = packet(&options, 100, 0, 0);
    let fragments = cut(&packet, 68).unwrap();
    let views: Vec<_> = fragments
        .iter()
        .map(|fragment| Ipv4Packet::parse(&fragment[..]).unwrap())
        .collect();
    assert_eq!(views[0].options(), options);
    for view in &views[1..] {
        assert_eq!(view.options(), [136, 4, 1, 2]);
        assert!(view.verify_header_checksum());
    }
    // 68 - 32 leaves 32 for the first; 68 - 24 leaves 40 for the others, and 44 for the last.
    let lengths: Vec<_> = views.iter().map(|view| view.payload().len()).collect();
    assert_eq!(lengths, [32, 40, 28]);
    assert_eq!(join(&fragments).0, packet[32..]);
}

#[test]
fn the_last_fragment_fills_the_mtu() {
    // 48 bytes of payload first; the last may have 50.
    let fragments = cut(&packet(&[], 98, 0x8000, 0), 70).unwrap();
    let lengths: Vec<_> = fragments.iter().map(Vec::len).collect();
    assert_eq!(lengths, [68, 70]);
    // The reserved flag is nobody's to clear.
    assert_eq!((fragments[0][6], fragments[1][6]), (0xa0, 0x80));
}

#[test]
fn fragments_can_be_cut_again() {
    let datagram = packet(&[], 4000, 0, 0);
    let again: Vec<_> = cut(&datagram, 1500)
        .unwrap()
        .iter()
        .flat_map(|fragment| cut(fragment, 576).unwrap())
        .collect();
    assert_eq!(again.len(), 3 + 3 + 2);
    let (payload, begin, more) = join(&again);
    assert_eq!((&payload[..], begin, more), (&datagram[20..], 0, false));
}

#[test]
fn mtu_that_leaves_no_room_is_refused() {
    let small = packet(&[], 0, 0, 0);
    for mtu in 0..MIN_MTU {
        assert_eq!(cut(&small, mtu), Err(CutError::Mtu), "{mtu}");
    }
    assert_eq!(cut(&small, MIN_MTU).unwrap().len(), 1);
    let options = packet(&[1; 40], 100, 0, 0);
    assert_eq!(cut(&options, 67), Err(CutError::Mtu));
    let fragments = cut(&options, 68).unwrap();
    assert_eq!(fragments.len(), 1 + 2, "the others have no options");
}

#[test]
fn malformed_packets_are_refused() {
    let good = packet(&[], 100, 0, 0);
    for len in 0..good.len() {
        assert_eq!(cut(&good[..len], 68), Err(CutError::Malformed), "{len}");
    }
    // A length that is not a multiple of 8, and yet more follows.
    assert_eq!(
        cut(&packet(&[], 100, 0x2000, 0), 68),
        Err(CutError::Malformed)
    );
    // Behind the longest datagram there is.
    assert_eq!(
        cut(&packet(&[], 100, 0, 65_528), 68),
        Err(CutError::Malformed)
    );
    // An option that passes the end of the header.
    assert_eq!(
        cut(&packet(&[137, 5, 4, 0], 100, 0, 0), 68),
        Err(CutError::Malformed)
    );
}

#[test]
fn a_short_buffer_loses_nothing() {
    let packet = packet(&[], 100, 0, 0);
    let mut fragments = Fragments::new(&packet, 68).unwrap();
    let mut buffer = [0u8; 68];
    let mut written = Vec::new();
    while let Some(len) = fragments.next_len() {
        for short in 0..len {
            let result = fragments.write_next(&mut buffer[..short]);
            assert_eq!(result, Err(CutError::Buffer));
        }
        assert_eq!(fragments.write_next(&mut buffer), Ok(Some(len)));
        written.push(buffer[..len].to_vec());
    }
    assert_eq!(fragments.write_next(&mut buffer), Ok(None));
    assert_eq!(written, cut(&packet, 68).unwrap());
}

/// Options of a header: any of these, cut to 40 bytes and padded.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1u8]),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..10)).prop_map(|(kind, data)| {
            let mut option = vec![kind.max(2), data.len() as u8 + 2];
            option.extend(data);
            option
        }),
    ];
    prop::collection::vec(option, 0..6).prop_map(|parts| {
        let mut all = Vec::new();
        for part in parts {
            if all.len() + part.len() <= 40 {
                all.extend(part);
            }
        }
        all.resize(all.len().next_multiple_of(4), 0);
        all
    })
}

proptest! {
    #[test]
    fn cut_and_joined_is_the_same(
        options in options(),
        payload in prop_oneof![0usize..200, 0usize..10_000, 65_000usize..65_475],
        mtu in prop_oneof![68usize..200, 68usize..1600, 68usize..70_000],
        more in any::<bool>(),
        offset in 0usize..100,
    ) {
        let payload = if more { payload & !7 } else { payload };
        let offset = if payload < 60_000 { offset * 8 } else { 0 };
        let original = packet(&options, payload, if more { 0x2000 } else { 0 }, offset);
        let fragments = cut(&original, mtu).unwrap();
        let header = 20 + options.len();
        prop_assert_eq!(join(&fragments), (original[header..].to_vec(), offset, more));
        let last = fragments.len() - 1;
        for (index, fragment) in fragments.iter().enumerate() {
            let view = Ipv4Packet::parse(&fragment[..]).unwrap();
            prop_assert!(view.verify_header_checksum());
            prop_assert!(fragment.len() <= mtu);
            prop_assert_eq!(fragment.len(), view.total_len());
            if index == 0 {
                prop_assert_eq!(view.options(), &options[..]);
            }
            if index < last {
                // None is smaller than it must be.
                prop_assert!(fragment.len() + 8 > mtu);
            }
        }
    }

    /// Whatever the bytes are: no panic, and only whole fragments come out.
    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 20..300),
        mtu in 0usize..200,
        honest_length in any::<bool>(),
    ) {
        bytes[0] = 0x40 | (bytes[0] & 0x0f).max(5);
        if honest_length {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[6] &= 0x9f;
        }
        for fragment in fragments_v4(&bytes, mtu).into_iter().flatten() {
            prop_assert!(fragment.len() <= mtu);
            prop_assert!(Ipv4Packet::parse(&fragment[..]).is_ok());
        }
    }
}
