//! What a table that is attacked costs, and whom.

use proptest::prelude::*;

use super::*;

#[test]
fn rfc4787_req14a_bounded_under_flood() {
    let config = FragmentConfig::default();
    let mut bench = Bench::new(config);
    // A floods: first fragments that nothing follows, fragments whose first never comes.
    for id in 0..20_000u16 {
        let result = if id % 2 == 0 {
            bench.first(A, id, 1).err()
        } else {
            match bench.later(A, &fragment(A, id, 1480, true, 1480)) {
                Later::Dropped(reason) => Some(reason),
                _ => None,
            }
        };
        if let Some(reason) = result {
            assert!(matches!(reason, OwnerFull | OwnerHeldFull), "{reason:?}");
        }
        // B notices nothing, whatever the order of its fragments.
        if id % 100 == 0 {
            let rest = rest(B, id, 3);
            assert_eq!(bench.later(B, &rest[1]), Later::Held);
            assert_eq!(bench.first(B, id, 2), Ok(()));
            assert_eq!(bench.out.pop().as_ref(), Some(&rest[1]));
            assert_eq!(bench.later(B, &rest[0]), Later::Translate(2));
            assert_eq!(bench.later(B, &rest[2]), Later::Translate(2));
        }
    }
    let (datagrams, packets, bytes) = bench.table.load();
    assert_eq!(datagrams, config.datagrams_per_owner);
    assert!(packets <= config.held_packets_per_owner);
    assert!(bytes <= config.held_bytes_per_owner);
    assert!(bench.refused(OwnerFull) > 19_000);
    // After the flood A is well again.
    bench.now += config.timeout;
    assert_eq!(bench.first(A, 1, 3), Ok(()));
}

/// The share of an owner is free again when it is due, however many of others' are older.
#[test]
fn a_full_share_is_cleared_before_it_is_refused() {
    let mut bench = Bench::new(FragmentConfig::default());
    for owner in [A, B] {
        for id in 0..128 {
            assert_eq!(bench.first(owner, id, 1), Ok(()));
        }
        assert_eq!(bench.first(owner, 128, 1), Err(OwnerFull));
    }
    bench.now += seconds(15);
    assert_eq!(bench.first(B, 128, 1), Ok(()));
}

#[test]
fn memory_cap_of_bytes() {
    let config = FragmentConfig {
        held_bytes: 10_000,
        held_bytes_per_owner: 4_000,
        ..FragmentConfig::default()
    };
    let mut bench = Bench::new(config);
    for owner in 1..=2 {
        for id in 0..2 {
            let packet = fragment(owner, id, 1480, true, 1480);
            assert_eq!(bench.later(owner, &packet), Later::Held);
        }
        let packet = fragment(owner, 2, 1480, true, 1480);
        assert_eq!(bench.later(owner, &packet), Later::Dropped(OwnerHeldFull));
        // Exactly up to the share.
        let packet = fragment(owner, 2, 1480, false, 980);
        assert_eq!(bench.later(owner, &packet), Later::Held);
    }
    assert_eq!(bench.table.load(), (6, 6, 8_000));
    assert_eq!(
        bench.later(3, &fragment(3, 0, 1480, false, 1980)),
        Later::Held
    );
    assert_eq!(
        bench.later(3, &fragment(3, 1, 1480, true, 8)),
        Later::Dropped(HeldFull)
    );
    assert_eq!(
        bench.table.load(),
        (7, 7, 10_000),
        "no empty datagram is left"
    );
    // Records of datagrams cost no bytes, and those held are free once the first has come.
    assert_eq!(bench.first(1, 0, 1), Ok(()));
    assert_eq!(bench.later(3, &fragment(3, 1, 1480, true, 8)), Later::Held);
}

#[test]
fn memory_cap_of_packets() {
    let config = FragmentConfig {
        held_packets: 10,
        held_packets_per_owner: 6,
        held_per_datagram: 4,
        ..FragmentConfig::default()
    };
    let mut bench = Bench::new(config);
    let tiny = |owner, id, index: usize| fragment(owner, id, 8 + 8 * index, true, 8);
    for index in 0..4 {
        assert_eq!(bench.later(A, &tiny(A, 1, index)), Later::Held);
    }
    assert_eq!(
        bench.later(A, &tiny(A, 1, 4)),
        Later::Dropped(DatagramHeldFull)
    );
    assert_eq!(bench.later(A, &tiny(A, 2, 0)), Later::Held);
    assert_eq!(bench.later(A, &tiny(A, 3, 0)), Later::Held);
    assert_eq!(
        bench.later(A, &tiny(A, 4, 0)),
        Later::Dropped(OwnerHeldFull)
    );
    for index in 0..4 {
        assert_eq!(bench.later(B, &tiny(B, 1, index)), Later::Held);
    }
    assert_eq!(bench.later(B, &tiny(B, 2, 0)), Later::Dropped(HeldFull));
    assert_eq!(bench.table.load().1, 10);
}

#[test]
fn a_full_table_evicts_nobody() {
    let config = FragmentConfig {
        datagrams: 4,
        datagrams_per_owner: 2,
        ..FragmentConfig::default()
    };
    let mut bench = Bench::new(config);
    for owner in 1..=2 {
        assert_eq!(bench.first(owner, 0, 1), Ok(()));
        assert_eq!(bench.first(owner, 1, 1), Ok(()));
        assert_eq!(bench.first(owner, 2, 1), Err(OwnerFull));
    }
    assert_eq!(bench.first(3, 0, 1), Err(TableFull));
    assert_eq!(bench.later(3, &rest(3, 0, 2)[0]), Later::Dropped(TableFull));
    assert_eq!(bench.refused(TableFull), 2);
    for owner in 1..=2 {
        for id in 0..2 {
            let packet = &rest(owner, id, 2)[0];
            assert_eq!(bench.later(owner, packet), Later::Translate(1));
        }
    }
}

/// Strangers' fragments are charged to them, until the first shows for whom they are.
#[test]
fn a_datagram_moves_to_the_owner_of_its_first_fragment() {
    let strangers = 99;
    let config = FragmentConfig {
        datagrams_per_owner: 1,
        ..FragmentConfig::default()
    };
    let mut bench = Bench::new(config);
    assert_eq!(bench.later(strangers, &rest(A, 1, 3)[0]), Later::Held);
    assert_eq!(
        bench.later(strangers, &rest(A, 2, 3)[0]),
        Later::Dropped(OwnerFull)
    );
    assert_eq!(bench.first(A, 1, 1), Ok(()));
    assert_eq!(bench.later(strangers, &rest(A, 2, 3)[0]), Later::Held);
    // Now A has one, and may not have the other.
    assert_eq!(bench.first(A, 2, 1), Err(OwnerFull));
    assert_eq!(bench.out.len(), 1);
    assert_eq!(bench.table.load(), (2, 1, 1500), "it goes on waiting");
}

#[test]
fn who_adds_to_a_waiting_datagram_adds_to_the_use_of_its_owner() {
    let config = FragmentConfig {
        held_packets_per_owner: 1,
        ..FragmentConfig::default()
    };
    let mut bench = Bench::new(config);
    let rest = rest(A, 1, 3);
    assert_eq!(bench.later(A, &rest[0]), Later::Held);
    assert_eq!(bench.later(B, &rest[1]), Later::Dropped(OwnerHeldFull));
}

#[test]
fn impossible_fragments_are_counted() {
    let mut bench = Bench::new(FragmentConfig::default());
    let mut check = |offset, more, len| {
        let (_, piece) = read(&fragment(A, 1, offset, more, len));
        bench.table.check(&piece)
    };
    let huge = Err(FragmentRefusal::Oversize);
    assert_eq!(check(65_528, false, 1), huge, "offset overflow");
    assert_eq!(check(65_528, true, 1480), huge);
    assert_eq!(check(8, true, 65_512), huge, "huge");
    assert_eq!(check(0, true, 65_512), Ok(Kind::First), "huge first");
    assert_eq!(check(8, false, 0), Err(FragmentRefusal::Empty));
    assert_eq!(check(8, true, 9), Err(FragmentRefusal::Ragged));
    assert_eq!(bench.refused(FragmentRefusal::Oversize), 3);
    assert_eq!(bench.refused(FragmentRefusal::Empty), 1);
    assert_eq!(bench.refused(FragmentRefusal::Ragged), 1);
    assert_eq!(bench.table.counters().refused_total(), 5);
}

#[test]
fn huge_first_fragments_end_their_record_only_when_complete() {
    let mut bench = Bench::new(FragmentConfig::default());
    let huge = fragment(A, 1, 0, true, 65_512);
    let (key, piece) = read(&huge);
    let result = bench
        .table
        .first(key, &piece, A, 1, bench.now, &mut |_| unreachable!());
    assert_eq!(result, Ok(()));
    // Overlaps from behind; where the datagram ends is not known yet.
    for offset in [8, 1480, 65_504] {
        let packet = fragment(A, 1, offset, true, 8);
        assert_eq!(bench.later(A, &packet), Later::Translate(1));
    }
    assert_eq!(bench.table.load(), (1, 0, 0));
    let last = fragment(A, 1, 65_512, false, 3);
    assert_eq!(bench.later(A, &last), Later::Translate(1));
    assert_eq!(bench.table.load(), (0, 0, 0));
}

/// What anybody may send, at any time.
#[derive(Debug, Clone)]
struct Event {
    owner: u32,
    id: u16,
    block: usize,
    blocks: usize,
    more: bool,
    translation: u32,
    wait: u64,
}

fn event() -> impl Strategy<Value = Event> {
    (
        (1u32..5, 0u16..6, prop_oneof![Just(0), 0usize..20]),
        (1usize..40, any::<bool>(), 0u32..2),
        prop_oneof![4 => Just(0), 1 => 0u64..6_000],
    )
        .prop_map(
            |((owner, id, block), (blocks, more, translation), wait)| Event {
                owner,
                id,
                block,
                blocks,
                more,
                translation,
                wait,
            },
        )
}

proptest! {
    /// Fragments of any kind in any order: the bounds hold, no fragment is lost or doubled, a
    /// translation is that of a first fragment that came within the timeout.
    #[test]
    fn rfc4787_req14a_any_order(events in prop::collection::vec(event(), 1..300)) {
        let config = FragmentConfig {
            datagrams: 12,
            datagrams_per_owner: 4,
            held_packets: 20,
            held_packets_per_owner: 8,
            held_per_datagram: 3,
            held_bytes: 2_500,
            held_bytes_per_owner: 1_000,
            timeout: seconds(15),
        };
        let mut bench = Bench::new(config);
        // The last accepted first fragment of each datagram.
        let mut firsts = std::collections::HashMap::new();
        for event in events {
            bench.now += Duration::from_millis(event.wait);
            let datagram = (event.owner, event.id);
            let more = event.more || event.block == 0;
            let len = event.blocks * 8;
            let bytes = fragment(event.owner, event.id, event.block * 8, more, len);
            let (key, piece) = read(&bytes);
            match bench.table.check(&piece).unwrap() {
                Kind::Whole => unreachable!("the first block always has more"),
                Kind::First => {
                    let before = bench.table.translation(&key, bench.now);
                    let out = &mut bench.out;
                    let result = bench.table.first(
                        key, &piece, event.owner, event.translation, bench.now,
                        &mut |packet| out.push(packet),
                    );
                    if let Some(before) = before {
                        let expected = if before == event.translation { Ok(()) } else { Err(Conflict) };
                        prop_assert_eq!(result, expected);
                    } else if result.is_ok() {
                        firsts.insert(datagram, (event.translation, bench.now));
                    }
                    for packet in bench.out.drain(..) {
                        prop_assert_eq!(read(&packet).0, key);
                    }
                }
                Kind::Later => {
                    let result = bench.table.later(key, &piece, event.owner, &bytes, bench.now);
                    if let Later::Translate(translation) = result {
                        let (expected, since) = firsts[&datagram];
                        prop_assert_eq!(translation, expected);
                        prop_assert!(bench.now < since + config.timeout);
                    }
                }
            }
            let entries = bench.table.store.validate();
            prop_assert!(entries.is_sorted_by_key(|entry| entry.deadline));
            let mut per_owner = [(0, 0, 0); 5];
            for entry in entries {
                let cost = entry.cost();
                prop_assert!(cost.packets <= config.held_per_datagram);
                let sums = &mut per_owner[entry.owner as usize];
                *sums = (sums.0 + cost.datagrams, sums.1 + cost.packets, sums.2 + cost.bytes);
            }
            for (datagrams, packets, bytes) in per_owner {
                prop_assert!(datagrams <= config.datagrams_per_owner);
                prop_assert!(packets <= config.held_packets_per_owner);
                prop_assert!(bytes <= config.held_bytes_per_owner);
            }
            let (datagrams, packets, bytes) = bench.table.load();
            prop_assert!(datagrams <= config.datagrams);
            prop_assert!(packets <= config.held_packets);
            prop_assert!(bytes <= config.held_bytes);
            let counters = bench.table.counters();
            prop_assert_eq!(
                counters.held,
                counters.released + counters.expired_packets + packets as u64
            );
        }
        bench.now += config.timeout;
        bench.table.expire(bench.now);
        prop_assert_eq!(bench.table.load(), (0, 0, 0));
    }
}
