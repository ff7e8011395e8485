//! Datagrams in order, out of order, hostile, late and too many.

use alloc::vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use net_wire::ip_proto;
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
use net_wire::ipv6::Ipv6Packet;

use super::*;
use crate::direction::Direction;
use FragmentRefusal::{
    Conflict, DatagramHeldFull, Duplicate, HeldFull, OwnerFull, OwnerHeldFull, TableFull,
};

mod hostile;

const SECRET: [u8; 16] = [0x5a; 16];
const A: u32 = 1;
const B: u32 = 2;

type Table = FragmentTable<Ipv4Addr, u32>;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A table, the packets that came out of it, and the clock.
struct Bench {
    table: Table,
    out: Vec<Vec<u8>>,
    now: Duration,
}

impl Bench {
    fn new(config: FragmentConfig) -> Self {
        Self {
            table: Table::new(config, &SECRET),
            out: Vec::new(),
            now: seconds(1000),
        }
    }

    fn first(&mut self, owner: u32, id: u16, translation: u32) -> Result<(), FragmentRefusal> {
        let bytes = fragment(owner, id, 0, true, 1480);
        let (key, piece) = read(&bytes);
        assert_eq!(self.table.check(&piece), Ok(Kind::First));
        let out = &mut self.out;
        let result = self
            .table
            .first(key, &piece, owner, translation, self.now, &mut |packet| {
                out.push(packet)
            });
        self.table.store.validate();
        result
    }

    fn later(&mut self, owner: u32, bytes: &[u8]) -> Later<u32> {
        let (key, piece) = read(bytes);
        assert_eq!(self.table.check(&piece), Ok(Kind::Later));
        let result = self.table.later(key, &piece, owner, bytes, self.now);
        self.table.store.validate();
        result
    }

    fn refused(&self, reason: FragmentRefusal) -> u64 {
        self.table.counters().refused(reason)
    }
}

/// A fragment of host `owner`'s datagram `id`.
fn fragment(owner: u32, id: u16, offset: usize, more: bool, len: usize) -> Vec<u8> {
    let mut bytes = vec![id as u8; 20 + len];
    Ipv4Repr {
        src: Ipv4Addr::from_bits(0x0a00_0000 + owner),
        dst: [192, 0, 2, 1].into(),
        protocol: ip_proto::UDP,
        ttl: 64,
        tos: 0,
        id,
        dont_fragment: false,
        payload_len: len,
    }
    .emit(&mut bytes);
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    Ipv4Packet::parse(&mut bytes[..])
        .unwrap()
        .fill_header_checksum();
    bytes
}

fn read(bytes: &[u8]) -> (FragmentKey<Ipv4Addr>, Piece) {
    let packet = Ipv4Packet::parse(bytes).unwrap();
    (
        FragmentKey::v4(Direction::Outbound, &packet),
        Piece::v4(&packet),
    )
}

/// The fragments of a datagram behind the first: of 1,480 bytes, the last of 100.
fn rest(owner: u32, id: u16, count: usize) -> Vec<Vec<u8>> {
    (1..=count)
        .map(|index| {
            let last = index == count;
            fragment(
                owner,
                id,
                index * 1480,
                !last,
                if last { 100 } else { 1480 },
            )
        })
        .collect()
}

#[test]
fn rfc4787_req14_fragments_in_order() {
    let mut bench = Bench::new(FragmentConfig::default());
    assert_eq!(bench.first(A, 7, 70), Ok(()));
    let rest = rest(A, 7, 3);
    assert_eq!(bench.later(A, &rest[0]), Later::Translate(70));
    assert_eq!(bench.later(A, &rest[1]), Later::Translate(70));
    assert_eq!(bench.table.load(), (1, 0, 0));
    assert_eq!(bench.later(A, &rest[2]), Later::Translate(70));
    assert_eq!(bench.table.load(), (0, 0, 0), "all of it has passed");
    assert!(bench.out.is_empty());
    assert_eq!(bench.table.counters().recorded, 1);
    assert_eq!(bench.table.counters().translated, 3);
}

#[test]
fn rfc4787_req14_fragments_out_of_order() {
    let mut bench = Bench::new(FragmentConfig::default());
    let rest = rest(A, 7, 3);
    for packet in [&rest[2], &rest[0]] {
        assert_eq!(bench.later(A, packet), Later::Held);
    }
    assert_eq!(bench.table.load(), (1, 2, 120 + 1500));
    assert_eq!(bench.first(A, 7, 70), Ok(()));
    assert_eq!(bench.out, [&rest[2][..], &rest[0]], "in order of arrival");
    assert_eq!(bench.table.load(), (1, 0, 0));
    assert_eq!(bench.later(A, &rest[1]), Later::Translate(70));
    assert_eq!(bench.table.load(), (0, 0, 0));
    let counters = bench.table.counters();
    assert_eq!((counters.held, counters.released), (2, 2));
    assert_eq!(counters.expired, 0);
}

#[test]
fn rfc4787_req14_first_fragment_last() {
    let mut bench = Bench::new(FragmentConfig::default());
    for packet in rest(A, 7, 3).iter().rev() {
        assert_eq!(bench.later(A, packet), Later::Held);
    }
    assert_eq!(bench.first(A, 7, 70), Ok(()));
    assert_eq!(bench.out.len(), 3);
    assert_eq!(bench.table.load(), (0, 0, 0), "nothing more can come");
}

#[test]
fn datagrams_are_told_apart() {
    let mut bench = Bench::new(FragmentConfig::default());
    assert_eq!(bench.first(A, 7, 70), Ok(()));
    assert_eq!(bench.first(A, 8, 80), Ok(()));
    assert_eq!(bench.first(B, 7, 90), Ok(()));
    assert_eq!(bench.later(A, &rest(A, 7, 2)[0]), Later::Translate(70));
    assert_eq!(bench.later(A, &rest(A, 8, 2)[0]), Later::Translate(80));
    assert_eq!(bench.later(B, &rest(B, 7, 2)[0]), Later::Translate(90));
    assert_eq!(bench.later(A, &rest(A, 9, 2)[0]), Later::Held);

    // Another direction, another protocol.
    let bytes = &rest(A, 7, 2)[1];
    let packet = Ipv4Packet::parse(&bytes[..]).unwrap();
    let inbound = FragmentKey::v4(Direction::Inbound, &packet);
    assert_eq!(bench.table.translation(&inbound, bench.now), None);
    let mut icmp = bytes.clone();
    icmp[9] = ip_proto::ICMP;
    assert_eq!(bench.table.translation(&read(&icmp).0, bench.now), None);
    assert_eq!(bench.table.translation(&read(bytes).0, bench.now), Some(70));
}

#[test]
fn rfc8200_ipv6_datagrams_ignore_the_protocol() {
    let mut table: FragmentTable<Ipv6Addr, u32> =
        FragmentTable::new(FragmentConfig::default(), &SECRET);
    // Fragment header, destination options, UDP header and 8 bytes; the later fragment's payload
    // begins where the first one's ends.
    let mut bytes = [0u8; 40 + 8 + 8 + 16];
    bytes[0] = 0x60;
    bytes[5] = 32;
    bytes[6] = ip_proto::IPV6_FRAGMENT;
    bytes[24] = 0x20;
    bytes[40] = ip_proto::IPV6_OPTS;
    bytes[43] = 1;
    bytes[44..48].copy_from_slice(&0xdead_beefu32.to_be_bytes());
    bytes[48] = ip_proto::UDP;
    let mut last = bytes;
    last[43] = 24;
    let read = |bytes: &[u8]| {
        let packet = Ipv6Packet::parse(bytes).unwrap();
        let upper = packet.upper_layer().unwrap();
        let id = upper.fragment.unwrap().id;
        let key = FragmentKey::v6(Direction::Inbound, &packet, id);
        (key, Piece::v6(&packet, &upper).unwrap())
    };
    let (key, piece) = read(&last);
    assert_eq!(table.check(&piece), Ok(Kind::Later));
    assert_eq!(table.later(key, &piece, A, &last, seconds(1)), Later::Held);
    let (key, piece) = read(&bytes);
    assert_eq!(piece.protocol, ip_proto::UDP);
    assert_eq!(table.check(&piece), Ok(Kind::First));
    let mut out = Vec::new();
    let result = table.first(key, &piece, A, 5, seconds(1), &mut |packet| {
        out.push(packet)
    });
    assert_eq!((result, &out[..]), (Ok(()), &[last.to_vec()][..]));

    // The last bit of the identification makes another datagram.
    last[47] ^= 1;
    assert_eq!(table.translation(&read(&last).0, seconds(1)), None);
    last[47] ^= 1;
    assert_eq!(
        table.later(read(&last).0, &read(&last).1, A, &last, seconds(1)),
        Later::Translate(5),
        "8 bytes of destination options are not counted as seen, so the record is still there"
    );
}

#[test]
fn records_and_held_fragments_expire() {
    let mut bench = Bench::new(FragmentConfig::default());
    assert_eq!(bench.first(A, 1, 10), Ok(()));
    assert_eq!(bench.later(A, &rest(A, 2, 2)[0]), Later::Held);
    bench.now += seconds(15) - Duration::from_nanos(1);
    let table = &mut bench.table;
    table.expire(bench.now);
    assert_eq!(table.load(), (2, 1, 1500));
    bench.now += Duration::from_nanos(1);
    table.expire(bench.now);
    assert_eq!(table.load(), (0, 0, 0));
    assert_eq!(table.counters().expired, 2);
    assert_eq!(table.counters().expired_packets, 1);
}

#[test]
fn an_expired_record_is_never_used_though_nobody_called_expire() {
    let mut bench = Bench::new(FragmentConfig::default());
    // More than the lazy budget reaches.
    for id in 0..20 {
        assert_eq!(bench.first(A, id, 10), Ok(()));
    }
    bench.now += seconds(15);
    let (key, _) = read(&rest(A, 19, 2)[0]);
    assert_eq!(bench.table.translation(&key, bench.now), None);
    assert_eq!(bench.later(A, &rest(A, 19, 2)[0]), Later::Held);
    assert_eq!(bench.first(A, 19, 11), Ok(()), "not a conflict any more");
    assert_eq!(bench.out, [&rest(A, 19, 2)[0][..]]);
}

#[test]
fn a_record_lives_for_the_timeout_from_its_first_fragment() {
    let mut bench = Bench::new(FragmentConfig::default());
    assert_eq!(bench.later(A, &rest(A, 1, 3)[0]), Later::Held);
    assert_eq!(bench.later(A, &rest(A, 2, 3)[0]), Later::Held);
    bench.now += seconds(14);
    assert_eq!(bench.first(A, 1, 10), Ok(()));
    bench.now += seconds(14);
    assert_eq!(bench.later(A, &rest(A, 1, 3)[1]), Later::Translate(10));
    assert_eq!(bench.table.counters().expired, 1, "the one still waiting");
    // Sent again, it does not live longer.
    assert_eq!(bench.first(A, 1, 10), Ok(()));
    bench.now += seconds(1);
    bench.table.expire(bench.now);
    assert_eq!(bench.table.load(), (0, 0, 0));
}

#[test]
fn duplicates_cost_nothing() {
    let mut bench = Bench::new(FragmentConfig::default());
    let rest = rest(A, 1, 3);
    assert_eq!(bench.later(A, &rest[0]), Later::Held);
    let inside = fragment(A, 1, 1480 + 8, true, 800);
    for packet in [&rest[0], &inside, &rest[0]] {
        assert_eq!(bench.later(A, packet), Later::Dropped(Duplicate));
    }
    assert_eq!(bench.refused(Duplicate), 3);
    assert_eq!(bench.first(A, 1, 10), Ok(()));
    assert_eq!(bench.first(A, 1, 10), Ok(()), "a retransmission");
    assert_eq!(bench.out.len(), 1);
    assert_eq!(bench.later(A, &rest[1]), Later::Translate(10));
    assert_eq!(bench.later(A, &rest[1]), Later::Translate(10), "as it came");
    assert_eq!(bench.table.counters().recorded, 1);
    assert_eq!(bench.table.load(), (1, 0, 0), "the last one is missing");
}

#[test]
fn overlap_a_second_first_fragment_changes_nothing() {
    let mut bench = Bench::new(FragmentConfig::default());
    assert_eq!(bench.first(A, 1, 10), Ok(()));
    assert_eq!(bench.first(A, 1, 11), Err(Conflict));
    assert_eq!(bench.first(B, 1, 11), Ok(()), "another datagram");
    assert_eq!(bench.later(A, &rest(A, 1, 2)[0]), Later::Translate(10));
    assert_eq!(bench.refused(Conflict), 1);
    assert_eq!(bench.table.counters().recorded, 2);
}

#[test]
fn an_identification_can_be_used_again_once_its_datagram_has_passed() {
    let mut bench = Bench::new(FragmentConfig::default());
    for flow in 0..10_000 {
        assert_eq!(bench.first(A, 1, flow), Ok(()));
        for packet in rest(A, 1, 2) {
            assert_eq!(bench.later(A, &packet), Later::Translate(flow));
        }
    }
    assert_eq!(bench.table.load(), (0, 0, 0));
    assert_eq!(bench.table.counters().refused_total(), 0);
}
