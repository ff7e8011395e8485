use super::*;
use crate::testing::{config, frame};
use net_datapath::VirtioNetHdr;
use net_wire::ip_proto;
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;

/// A fragment as an Ethernet frame; `v6` chooses the family.
fn fragment(v6: bool, id: u16, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut l3 = Vec::new();
    if v6 {
        l3.extend_from_slice(&[0x60, 0, 0, 0]);
        l3.extend_from_slice(&((8 + data.len()) as u16).to_be_bytes());
        l3.extend_from_slice(&[ip_proto::IPV6_FRAGMENT, 64]);
        l3.extend_from_slice(&[0xfd; 16]);
        l3.extend_from_slice(&[0x20; 16]);
        l3.extend_from_slice(&[ip_proto::UDP, 0]);
        l3.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        l3.extend_from_slice(&u32::from(id).to_be_bytes());
    } else {
        l3.extend_from_slice(&[0x45, 0]);
        l3.extend_from_slice(&((20 + data.len()) as u16).to_be_bytes());
        l3.extend_from_slice(&id.to_be_bytes());
        let bits = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        l3.extend_from_slice(&bits.to_be_bytes());
        l3.extend_from_slice(&[64, ip_proto::UDP, 0, 0, 10, 0, 2, 15, 192, 0, 2, 1]);
    }
    l3.extend_from_slice(data);
    frame(&l3)
}

fn push(
    reassembler: &mut Reassembler,
    port: PortId,
    bytes: &[u8],
    now: Duration,
) -> Option<Vec<u8>> {
    let packet = ZeroCopyPacket::from_slice(bytes, VirtioNetHdr::PLAIN).unwrap();
    reassembler.push(port, &packet, now)
}

/// The IP payload of a finished frame.
fn payload(frame: &[u8]) -> Vec<u8> {
    let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
    assert!(packet.meta().is_ip() && packet.verify_ip_checksum());
    assert_eq!(packet.fragment(), None);
    assert_eq!(packet.meta().l3_end as usize, frame.len());
    frame[usize::from(packet.meta().l4_offset)..].to_vec()
}

/// A UDP datagram, without IP header, of `len` bytes.
fn datagram(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|i| (i as u8).wrapping_mul(31) ^ seed)
        .collect();
    bytes[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    bytes
}

/// Cuts at multiples of 8.
fn pieces(v6: bool, id: u16, whole: &[u8], step: usize) -> Vec<Vec<u8>> {
    let step = step * 8;
    whole
        .chunks(step)
        .enumerate()
        .map(|(i, data)| fragment(v6, id, i * step, (i + 1) * step < whole.len(), data))
        .collect()
}

proptest! {
    /// Row 57: any order, with duplicates, two datagrams at once, two guests with the same
    /// addresses and identification.
    #[test]
    fn any_order_gives_the_datagram_back(
        v6: bool,
        len in 3200usize..20_000,
        step in 40usize..400,
        order: u64,
        repeats in 0usize..4,
    ) {
        let mut reassembler = Reassembler::new(&config(false));
        let wholes = [datagram(len, 1), datagram(len + 8, 2), datagram(len, 3)];
        let mut all: Vec<(usize, PortId, Vec<u8>)> = Vec::new();
        for (which, (port, id)) in [(1, 5), (1, 6), (2, 5)].into_iter().enumerate() {
            all.extend(pieces(v6, id, &wholes[which], step).into_iter().map(|p| (which, port, p)));
        }
        let mut state = order;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for i in (1..all.len()).rev() {
            all.swap(i, random(i + 1));
        }
        // A duplicate right behind its original, so that it never opens a new datagram.
        for _ in 0..repeats {
            let at = random(all.len());
            let again = all[at].clone();
            all.insert(at, again);
        }
        let mut complete = [0; 3];
        for (which, port, bytes) in &all {
            if let Some(frame) = push(&mut reassembler, *port, bytes, NOW) {
                prop_assert_eq!(payload(&frame), wholes[*which].clone());
                complete[*which] += 1;
            }
        }
        prop_assert!(complete.iter().all(|n| *n >= 1), "{complete:?}");
        let stats = reassembler.statistics();
        prop_assert_eq!((stats.overlapping, stats.malformed, stats.evicted), (0, 0, 0));
    }

    /// Whatever one guest sends, it stays within its quota, and a datagram of another guest that
    /// arrives meanwhile is not disturbed.
    #[test]
    fn hostile_fragments_stay_within_the_quota(
        steps in proptest::collection::vec((0u16..60, 0usize..8191, 0usize..1400, any::<bool>(), any::<bool>()), 1..400),
    ) {
        let mut config = config(false);
        config.limits.reassembly_bytes = 256 * 1024;
        let mut reassembler = Reassembler::new(&config);
        let whole = datagram(9000, 9);
        let mut honest = pieces(false, 1, &whole, 100).into_iter();
        let mut done = false;
        for (i, (id, offset, len, more, v6)) in steps.into_iter().enumerate() {
            let data = vec![id as u8; len];
            let bytes = fragment(v6, id, offset * 8, more, &data);
            push(&mut reassembler, 1, &bytes, NOW);
            if i % 8 == 0 && let Some(piece) = honest.next() {
                done |= push(&mut reassembler, 2, &piece, NOW).is_some();
            }
            let guest = reassembler.guests.get(&1);
            let bytes = guest.map_or(0, |g| g.pending.iter().map(|p| p.frame.len()).sum::<usize>());
            prop_assert_eq!(guest.map_or(0, |g| g.bytes), bytes);
            prop_assert!(bytes <= 256 * 1024);
            prop_assert!(guest.is_none_or(|g| g.pending.len() <= config.limits.reassembly_datagrams));
            prop_assert!(guest.is_none_or(|g| g.pending.iter().all(|p| p.ranges.len() <= MAX_RANGES)));
        }
        for piece in honest {
            done |= push(&mut reassembler, 2, &piece, NOW).is_some();
        }
        prop_assert!(done);
    }
}

#[test]
fn rfc5722_overlap_discards_the_datagram_and_what_follows() {
    for v6 in [false, true] {
        for (offset, len) in [(0, 32), (8, 16), (24, 16), (0, 64), (16, 8)] {
            let mut reassembler = Reassembler::new(&config(false));
            let whole = datagram(96, 0);
            assert!(
                push(
                    &mut reassembler,
                    1,
                    &fragment(v6, 1, 0, true, &whole[..32]),
                    NOW
                )
                .is_none()
            );
            let evil = vec![0xee; len];
            assert!(
                push(
                    &mut reassembler,
                    1,
                    &fragment(v6, 1, offset, true, &evil),
                    NOW
                )
                .is_none()
            );
            let stats = reassembler.statistics();
            assert_eq!(
                (stats.overlapping, stats.pending_bytes),
                (1, 0),
                "{v6} {offset} {len}"
            );
            // The rest, and even the whole again, does not bring it back before the time-out.
            for piece in pieces(v6, 1, &whole, 4) {
                assert!(push(&mut reassembler, 1, &piece, NOW).is_none());
            }
            let later = NOW + config(false).timeouts.reassembly;
            let mut last = None;
            for piece in pieces(v6, 1, &whole, 4) {
                last = push(&mut reassembler, 1, &piece, later);
            }
            assert_eq!(payload(&last.unwrap()), whole);
        }
    }
}

#[test]
fn contradicting_lengths_are_refused() {
    for v6 in [false, true] {
        let whole = datagram(64, 0);
        let cases: [(&str, Vec<Vec<u8>>); 5] = [
            (
                "two ends",
                vec![
                    fragment(v6, 1, 32, false, &whole[..8]),
                    fragment(v6, 1, 48, false, &whole[..8]),
                ],
            ),
            (
                "data behind the end",
                vec![
                    fragment(v6, 1, 32, false, &whole[..8]),
                    fragment(v6, 1, 40, true, &whole[..8]),
                ],
            ),
            (
                "an end before data",
                vec![
                    fragment(v6, 1, 40, true, &whole[..8]),
                    fragment(v6, 1, 8, false, &whole[..8]),
                ],
            ),
            (
                "no multiple of 8",
                vec![fragment(v6, 1, 0, true, &whole[..20])],
            ),
            (
                "past 65,535",
                vec![fragment(v6, 1, 65_528, false, &whole[..8])],
            ),
        ];
        for (what, fragments) in cases {
            let mut reassembler = Reassembler::new(&config(false));
            for bytes in &fragments {
                assert!(push(&mut reassembler, 1, bytes, NOW).is_none());
            }
            assert_eq!(reassembler.statistics().malformed, 1, "{what}");
        }
    }
}

#[test]
fn the_largest_datagram_is_put_together_and_fits_the_quota() {
    for v6 in [false, true] {
        let mut reassembler = Reassembler::new(&config(false));
        let whole = datagram(65_535 - if v6 { 40 } else { 20 }, 0);
        let mut last = None;
        for piece in pieces(v6, 1, &whole, 181) {
            last = push(&mut reassembler, 1, &piece, NOW);
        }
        assert_eq!(payload(&last.unwrap()), whole);
        assert_eq!(reassembler.statistics().pending_datagrams, 0);
    }
}

#[test]
fn incomplete_datagrams_end_with_the_time_out_and_with_the_guest() {
    let mut reassembler = Reassembler::new(&config(false));
    let timeout = config(false).timeouts.reassembly;
    let first = |id| fragment(false, id, 0, true, &datagram(64, 0));
    push(&mut reassembler, 1, &first(1), NOW);
    push(&mut reassembler, 1, &first(2), Duration::from_secs(1));
    push(&mut reassembler, 2, &first(1), Duration::from_secs(2));
    assert_eq!(reassembler.next_deadline(), Some(timeout));
    reassembler.on_deadline(timeout);
    assert_eq!(
        reassembler.next_deadline(),
        Some(timeout + Duration::from_secs(1))
    );
    assert_eq!(reassembler.statistics().timed_out, 1);
    reassembler.guest_gone(1);
    assert_eq!(reassembler.statistics().pending_datagrams, 1);
    reassembler.on_deadline(timeout + Duration::from_secs(2));
    assert_eq!(
        (
            reassembler.next_deadline(),
            reassembler.statistics().pending_bytes
        ),
        (None, 0)
    );
}

/// Too many datagrams: the oldest of the same guest goes.
#[test]
fn the_oldest_of_the_same_guest_makes_room() {
    let mut config = config(false);
    config.limits.reassembly_datagrams = 3;
    let mut reassembler = Reassembler::new(&config);
    let whole = datagram(64, 0);
    push(
        &mut reassembler,
        2,
        &fragment(false, 0, 0, true, &whole[..32]),
        NOW,
    );
    for id in 0..10 {
        push(
            &mut reassembler,
            1,
            &fragment(false, id, 0, true, &whole[..32]),
            NOW,
        );
    }
    let stats = reassembler.statistics();
    assert_eq!((stats.evicted, stats.pending_datagrams), (7, 4));
    let rest = |id| fragment(false, id, 32, false, &whole[32..]);
    assert!(push(&mut reassembler, 2, &rest(0), NOW).is_some());
    assert!(push(&mut reassembler, 1, &rest(9), NOW).is_some());
    assert!(push(&mut reassembler, 1, &rest(0), NOW).is_none());
}

/// Every second fragment of a datagram, for as long as there is room in it.
#[test]
fn gaps_are_bounded() {
    let mut reassembler = Reassembler::new(&config(false));
    for i in 0..200usize {
        push(
            &mut reassembler,
            1,
            &fragment(false, 1, i * 16, true, &[0; 8]),
            NOW,
        );
    }
    let stats = reassembler.statistics();
    assert_eq!((stats.malformed, stats.pending_bytes), (1, 0));
}
