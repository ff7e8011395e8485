//! A guest that was moved here: what the front-end says of it, and what becomes of that.

use net_backend::{NetworkBackend, Presence};
use net_virtio::DeviceConfig;
use net_wire::MacAddr;

use super::*;
use crate::announce::is_rarp;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 7]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 8]);
const RARP: u64 = 1 << 2;

fn body(mac: MacAddr) -> Vec<u8> {
    [&mac.0[..], &[0; 2]].concat()
}

#[test]
fn an_address_is_announced_when_the_front_end_says_so() {
    let mut host = Host::new(DeviceConfig::default());
    let machine = Machine::new(&host.path, Shape::default());
    assert_ne!(machine.front.ask_u64(GET_PROTOCOL_FEATURES) & RARP, 0);
    assert_ne!(
        machine.front.ask_u64(GET_FEATURES) & net_virtio::features::GUEST_ANNOUNCE,
        0
    );
    assert!(host.received().is_empty());
    machine.front.tell(SEND_RARP, &body(MAC), &[]);
    assert!(host.is_rung());
    let frames = host.received();
    assert!(matches!(&frames[..], [frame] if is_rarp(frame, MAC) && frame.len() == 60));
    // However often it says so before somebody looks, and without a wait.
    for mac in [OTHER, OTHER, MAC] {
        machine.front.send(SEND_RARP, PLAIN, &body(mac), &[]);
    }
    machine.front.ask_u64(GET_FEATURES);
    let frames = host.received();
    assert!(matches!(&frames[..], [frame] if is_rarp(frame, MAC)));
}

#[test]
fn only_a_guest_is_announced_and_only_the_one_of_the_port() {
    let mut host = Host::new(DeviceConfig::default().with_mac(MAC));
    let machine = Machine::new(&host.path, Shape::default());
    machine.front.tell(SEND_RARP, &body(OTHER), &[]);
    assert!(host.received().is_empty());
    machine.front.tell(SEND_RARP, &body(MAC), &[]);
    assert_eq!(host.received().len(), 1);
    drop(machine);
    host.until_disconnected();
    // No guest's address; a message of another length, with a descriptor, without the feature.
    let eventfd = EventFd::new(0).unwrap();
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    for (body, fds, feature) in [
        (body(MacAddr::ZERO), vec![], RARP),
        (body(MacAddr::BROADCAST), vec![], RARP),
        (body(group), vec![], RARP),
        (MAC.0.to_vec(), vec![], RARP),
        ([body(MAC), vec![0]].concat(), vec![], RARP),
        (body(MAC), vec![eventfd.as_raw_fd()], RARP),
        (body(MAC), vec![], 0),
    ] {
        let front = Front::connect(&host.path);
        front.ask_u64(GET_FEATURES);
        front.send(SET_PROTOCOL_FEATURES, PLAIN, &words(&[feature]), &[]);
        front.send(SET_FEATURES, PLAIN, &words(&[PROTOCOL]), &[]);
        front.send(SEND_RARP, PLAIN, &body, &fds);
        assert!(front.is_closed(), "{body:?} {fds:?} {feature}");
        host.until_disconnected();
        assert!(host.received().is_empty());
    }
}

#[test]
fn the_front_end_tells_a_guest_that_goes_on_from_one_that_begins() {
    let [here, there] = [0; 2].map(|_| Host::new(DeviceConfig::default()));
    let (mut here, mut there) = (here, there);
    assert_eq!(here.port.presence(), Presence::Absent);
    let mut machine = Machine::new(&here.path, Shape::default());
    assert_eq!(here.port.presence(), Presence::Here);
    machine.send(net_datapath::VirtioNetHdr::PLAIN, &[1; 60]);
    assert_eq!(here.received().len(), 1);
    // More memory, or other descriptors, make no other guest of it.
    machine.front.share(&machine.memory);
    assert_eq!(here.port.presence(), Presence::Here);
    let bases = [0, 1].map(|index| machine.front.stop(index));
    assert_eq!(here.port.presence(), Presence::Left);
    let Machine {
        guest,
        memory,
        front,
        ..
    } = machine;
    let moved = Machine::attach(&there.path, guest, memory, bases);
    assert_eq!(there.port.presence(), Presence::Moved);
    drop(front);
    here.until_disconnected();
    assert_eq!(here.port.presence(), Presence::Left);
    // It starts anew: from the beginning.
    for index in [0, 1] {
        moved.front.stop(index);
    }
    assert_eq!(there.port.presence(), Presence::Left);
    for (index, queue) in [(0, &moved.guest.receive), (1, &moved.guest.transmit)] {
        moved.front.start_silently(index, &queue.setup(), 0);
    }
    assert_eq!(there.port.presence(), Presence::Here);
    // Its front-end ends without a word.
    drop(moved);
    there.until_disconnected();
    assert_eq!(there.port.presence(), Presence::Absent);
}
