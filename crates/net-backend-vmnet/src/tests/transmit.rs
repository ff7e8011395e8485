//! Writing: batches, pieces, back-pressure, and the packet that cannot go.

use std::time::Duration;

use net_backend::{NetworkBackend, TxFrame};
use net_datapath::IoSegment;

use super::{frame, shared, tick};
use crate::fake::{Fake, Script, reply};
use crate::key::{Key, Value};
use crate::{Vmnet, VmnetError};

/// Offers each frame in one piece; how many were taken.
fn offer(vmnet: &mut Vmnet, frames: &[Vec<u8>]) -> usize {
    let segments: Vec<[IoSegment<'_>; 1]> = frames.iter().map(|f| [f[..].into()]).collect();
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    vmnet.transmit(&offer).unwrap()
}

/// Offers each frame in two pieces and an empty one between.
fn offer_in_pieces(vmnet: &mut Vmnet, frames: &[Vec<u8>]) -> usize {
    let segments: Vec<[IoSegment<'_>; 3]> = frames
        .iter()
        .map(|f| [f[..14].into(), IoSegment::EMPTY, f[14..].into()])
        .collect();
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    vmnet.transmit(&offer).unwrap()
}

fn numbered(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|seed| frame(seed, 60)).collect()
}

fn arrived(fake: &Fake) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| fake.taken()).collect()
}

#[test]
fn many_packets_in_one_write() {
    let (fake, mut vmnet) = shared(Script::default());
    assert_eq!(offer(&mut vmnet, &numbered(64)), 64);
    assert_eq!(fake.state().writes, [(64, 1)]);
    assert_eq!(arrived(&fake), numbered(64));
    let stats = vmnet.statistics();
    assert_eq!(
        (stats.tx_calls, stats.tx_frames, stats.tx_bytes),
        (1, 64, 64 * 60)
    );
}

#[test]
fn no_more_than_the_framework_allows() {
    let mut reply = crate::key::Dictionary::default();
    reply.set(Key::WriteMaxPackets, Value::Number(10));
    let (fake, mut vmnet) = shared(Script {
        reply,
        write_most: 10,
        ..Script::default()
    });
    assert_eq!(offer(&mut vmnet, &numbered(25)), 25);
    assert_eq!(fake.state().writes, [(10, 1), (10, 1), (5, 1)]);
}

/// No call carries more than the 256 KiB that the framework documents.
#[test]
fn no_more_bytes_than_documented() {
    let (fake, mut vmnet) = shared(Script {
        reply: reply(9000, 65_550),
        ..Script::default()
    });
    let frames: Vec<_> = (0..8).map(|seed| frame(seed, 65_000)).collect();
    assert_eq!(offer(&mut vmnet, &frames), 8);
    assert_eq!(fake.state().writes, [(4, 1), (4, 1)]);
}

/// A framework that allows less than it said is offered less and less, and loses nothing.
#[test]
fn too_many_packets_are_halved() {
    let (fake, mut vmnet) = shared(Script {
        write_most: 5,
        ..Script::default()
    });
    assert_eq!(offer(&mut vmnet, &numbered(20)), 20);
    let writes: Vec<usize> = fake
        .state()
        .writes
        .iter()
        .map(|(count, _)| *count)
        .collect();
    assert_eq!(writes, [20, 10, 5, 5, 5, 5]);
    assert_eq!(arrived(&fake), numbered(20));
    assert_eq!(vmnet.statistics().tx_dropped(), 0);
}

#[test]
fn pieces_go_as_they_are() {
    let (fake, mut vmnet) = shared(Script::default());
    assert_eq!(offer_in_pieces(&mut vmnet, &numbered(3)), 3);
    assert_eq!(fake.state().writes, [(3, 2)]);
    assert_eq!(arrived(&fake), numbered(3));
}

/// A framework that takes one piece only: found out once, gathered from then on; a frame that lies
/// in one piece still goes as it is.
#[test]
fn pieces_are_gathered_where_they_must_be() {
    let (fake, mut vmnet) = shared(Script {
        one_piece: true,
        ..Script::default()
    });
    assert_eq!(offer_in_pieces(&mut vmnet, &numbered(3)), 3);
    assert_eq!(fake.state().writes, [(3, 2), (3, 1)]);
    assert_eq!(arrived(&fake), numbered(3));
    assert_eq!(offer_in_pieces(&mut vmnet, &numbered(3)), 3);
    assert_eq!(offer(&mut vmnet, &numbered(2)), 2);
    assert_eq!(fake.state().writes[2..], [(3, 1), (2, 1)]);
    assert_eq!(vmnet.statistics().tx_dropped(), 0);
}

/// A frame of a great many pieces is gathered on any system.
#[test]
fn a_great_many_pieces() {
    let (fake, mut vmnet) = shared(Script::default());
    let frame = frame(5, 1500);
    let segments: Vec<IoSegment<'_>> = frame.chunks(10).map(IoSegment::from).collect();
    assert_eq!(vmnet.transmit(&[TxFrame::plain(&segments)]).unwrap(), 1);
    assert_eq!(fake.state().writes, [(1, 1)]);
    assert_eq!(arrived(&fake), [frame]);
}

/// A refusal that had nothing to do with pieces does not make everything gathered.
#[test]
fn pieces_are_not_to_blame() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.state().next_writes.extend([1003, 1003]);
    assert_eq!(offer_in_pieces(&mut vmnet, &numbered(1)), 1);
    assert_eq!(vmnet.statistics().tx_invalid, 1);
    assert_eq!(offer_in_pieces(&mut vmnet, &numbered(2)), 2);
    assert_eq!(fake.state().writes, [(1, 2), (1, 1), (2, 2)]);
}

/// One packet that the framework refuses costs itself, not those around it.
#[test]
fn the_packet_that_cannot_go() {
    let (fake, mut vmnet) = shared(Script::default());
    // The batch is refused; then, one by one, the third.
    fake.state().next_writes.extend([1006, 1000, 1000, 1006]);
    assert_eq!(offer(&mut vmnet, &numbered(5)), 5);
    let mut rest = numbered(5);
    rest.remove(2);
    assert_eq!(arrived(&fake), rest);
    let stats = vmnet.statistics();
    assert_eq!((stats.tx_invalid, stats.tx_frames), (1, 4));
    // The next batch goes as one again.
    assert_eq!(offer(&mut vmnet, &numbered(5)), 5);
    assert_eq!(fake.state().writes.last(), Some(&(5, 1)));
}

#[test]
fn a_full_interface() {
    let (fake, mut vmnet) = shared(Script {
        room: 3,
        ..Script::default()
    });
    let frames = numbered(8);
    let mut now = Duration::ZERO;
    assert_eq!(offer(&mut vmnet, &frames), 3);
    assert_eq!(vmnet.statistics().tx_blocked, 1);
    assert!(!vmnet.wants_write(), "the descriptor says nothing of it");
    assert_eq!(offer(&mut vmnet, &frames[3..]), 0);
    assert_eq!(
        fake.state().writes.len(),
        1,
        "no calls while there is no hope"
    );
    tick(&mut vmnet, &mut now);
    assert_eq!(
        now,
        Duration::from_micros(202),
        "a pause of 200 microseconds"
    );
    // Zero packets written with success is full as well.
    assert_eq!(offer(&mut vmnet, &frames[3..]), 0);
    let mut got = arrived(&fake);
    tick(&mut vmnet, &mut now);
    assert_eq!(offer(&mut vmnet, &frames[3..]), 3);
    got.extend(arrived(&fake));
    tick(&mut vmnet, &mut now);
    assert_eq!(offer(&mut vmnet, &frames[6..]), 2);
    got.extend(arrived(&fake));
    assert_eq!(got, frames);
    assert_eq!(vmnet.statistics().tx_dropped(), 0);
}

/// The same where being full is a status.
#[test]
fn exhausted_buffers() {
    let (fake, mut vmnet) = shared(Script {
        room: 4,
        exhausted: true,
        ..Script::default()
    });
    let mut now = Duration::ZERO;
    assert_eq!(offer(&mut vmnet, &numbered(3)), 3);
    assert_eq!(offer(&mut vmnet, &numbered(3)), 0);
    assert_eq!(arrived(&fake), numbered(3));
    tick(&mut vmnet, &mut now);
    assert_eq!(offer(&mut vmnet, &numbered(3)), 3);
    assert_eq!(arrived(&fake), numbered(3));
}

#[test]
fn packet_by_packet() {
    let (fake, mut vmnet) = shared(Script {
        room: 1,
        ..Script::default()
    });
    assert_eq!(vmnet.write_packet(&frame(1, 1514)).unwrap(), 1514);
    assert_eq!(vmnet.write_packet(&frame(2, 60)).unwrap(), 0);
    assert_eq!(fake.taken(), Some(frame(1, 1514)));
    tick(&mut vmnet, &mut Duration::from_secs(1));
    assert_eq!(vmnet.write_packet(&frame(2, 60)).unwrap(), 60);
    tick(&mut vmnet, &mut Duration::from_secs(2));
    for len in [0, 13, 1515] {
        let error = vmnet.write_packet(&vec![2; len]).unwrap_err();
        assert!(matches!(error, VmnetError::PacketLength { len: l, most: 1514 } if l == len));
    }
}
