//! Reading: batches, buffers, lengths that are not true, and packets one by one.

use net_backend::NetworkBackend;

use super::{frame, received, shared};
use crate::VmnetError;
use crate::fake::{Script, reply};
use crate::key::{Dictionary, Key, Value};

/// A reply that allows `packets` in one read.
fn at_most(packets: u64) -> Dictionary {
    let mut reply = Dictionary::default();
    reply.set(Key::Mtu, Value::Number(1500));
    reply.set(Key::MaxPacketSize, Value::Number(1514));
    reply.set(Key::ReadMaxPackets, Value::Number(packets));
    reply
}

#[test]
fn many_packets_in_one_read() {
    let (fake, mut vmnet) = shared(Script::default());
    for seed in 0..64 {
        fake.deliver(&frame(seed, 100));
    }
    let frames = received(&mut vmnet, 64);
    assert_eq!(
        frames,
        (0..64).map(|seed| frame(seed, 100)).collect::<Vec<_>>()
    );
    assert_eq!(fake.state().reads, 1);
    assert_eq!(vmnet.statistics().rx_calls, 1);
}

/// The size of each slot is set before every read, not only before the first: the fake refuses one
/// that is shorter than the longest packet.
#[test]
fn sizes_are_set_before_each_read() {
    let (fake, mut vmnet) = shared(Script::default());
    for (seed, len) in [(1, 60), (2, 1514), (3, 14), (4, 1514)] {
        fake.deliver(&frame(seed, len));
        assert_eq!(received(&mut vmnet, 1), [frame(seed, len)]);
    }
}

#[test]
fn no_more_than_the_framework_allows() {
    let (fake, mut vmnet) = shared(Script {
        reply: at_most(10),
        read_most: 10,
        ..Script::default()
    });
    for seed in 0..25 {
        fake.deliver(&frame(seed, 60));
    }
    assert_eq!(received(&mut vmnet, 100).len(), 25);
    assert_eq!(fake.state().most_read, 10);
    assert_eq!(vmnet.statistics().rx_malformed, 0);
}

/// A framework that allows less than it said is asked for less and less.
#[test]
fn too_many_packets_are_halved() {
    let (fake, mut vmnet) = shared(Script {
        read_most: 5,
        ..Script::default()
    });
    for seed in 0..9 {
        fake.deliver(&frame(seed, 60));
    }
    assert_eq!(received(&mut vmnet, 64).len(), 9);
    // 64, 32, 16 and 8 are refused; from then on 4 at a time.
    assert_eq!(vmnet.read_packets, 4);
    assert!(vmnet.next_deadline().is_none());
}

#[test]
fn a_budget_is_kept() {
    let (fake, mut vmnet) = shared(Script::default());
    for seed in 0..7 {
        fake.deliver(&frame(seed, 60));
    }
    assert_eq!(received(&mut vmnet, 3).len(), 3);
    assert_eq!(
        fake.state().most_read,
        3,
        "nothing is read that is not lent"
    );
    assert_eq!(received(&mut vmnet, 3).len(), 3);
    assert_eq!(received(&mut vmnet, 3).len(), 1);
    assert_eq!(received(&mut vmnet, 0).len(), 0);
}

/// A length that is more than the slot holds, or too little for a frame: counted, never lent.
#[test]
fn lengths_that_are_not_true() {
    let (fake, mut vmnet) = shared(Script::default());
    for len in [1, 13, 1515, 4000] {
        fake.state().inbound.push_back(vec![2; len]);
        fake.deliver(&frame(9, 60));
    }
    assert_eq!(received(&mut vmnet, 64), vec![frame(9, 60); 4]);
    assert_eq!(vmnet.statistics().rx_malformed, 4);
    assert_eq!(vmnet.statistics().rx_frames, 4);
}

/// A frame longer than any back end carries is refused, though the framework may send one.
#[test]
fn longer_than_any_frame() {
    let (fake, mut vmnet) = shared(Script {
        reply: reply(1500, 65_562),
        ..Script::default()
    });
    fake.deliver(&frame(1, 65_551));
    fake.deliver(&frame(2, 65_550));
    assert_eq!(received(&mut vmnet, 4), [frame(2, 65_550)]);
    assert_eq!(vmnet.statistics().rx_malformed, 1);
}

#[test]
fn packet_by_packet() {
    let (fake, mut vmnet) = shared(Script::default());
    let mut buffer = [0; 2000];
    assert_eq!(vmnet.read_packet(&mut buffer).unwrap(), 0);
    fake.deliver(&frame(1, 60));
    fake.deliver(&frame(2, 1514));
    assert_eq!(vmnet.read_packet(&mut buffer).unwrap(), 60);
    assert_eq!(buffer[..60], frame(1, 60));
    assert_eq!(vmnet.read_packet(&mut buffer).unwrap(), 1514);
    assert_eq!(buffer[..1514], frame(2, 1514));
    assert_eq!(vmnet.read_packet(&mut buffer).unwrap(), 0);
}

/// A buffer that could be too short is refused before a packet is read and lost.
#[test]
fn a_short_buffer() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.deliver(&frame(1, 60));
    let error = vmnet.read_packet(&mut [0; 1513]).unwrap_err();
    assert!(matches!(
        error,
        VmnetError::ShortBuffer {
            len: 1513,
            need: 1514
        }
    ));
    assert_eq!(fake.state().reads, 0);
    assert_eq!(vmnet.read_packet(&mut [0; 1514]).unwrap(), 60);
}
