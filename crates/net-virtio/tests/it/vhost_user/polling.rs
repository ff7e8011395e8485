//! A machine's kicks, of the one that is polled and of the one that is not.

use net_backend::NetworkBackend;
use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;

use super::{Host, Machine};
use crate::guest::Shape;

const FRAME: [u8; 60] = [0x5a; 60];

#[test]
fn a_machine_is_there_to_be_asked_from_its_first_ring_until_it_goes() {
    let mut host = Host::new(DeviceConfig::default());
    assert!(host.port.shares_memory());
    assert!(!host.port.set_polling(true));
    let machine = Machine::new(&host.path, Shape::default());
    assert!(host.port.set_polling(true));
    drop(machine);
    host.until_disconnected();
    assert!(!host.port.set_polling(true));
}

#[test]
fn kicks_are_for_a_worker_that_sleeps() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    host.port.set_polling(true);
    assert!(host.received().is_empty());
    for _ in 0..100 {
        assert!(machine.send(VirtioNetHdr::PLAIN, &FRAME));
        assert_eq!(host.received(), [FRAME]);
    }
    assert!(machine.bells[1].kick.read().is_err(), "it was kicked");
    host.port.set_polling(false);
    assert!(host.received().is_empty());
    assert!(!host.is_rung());
    assert!(machine.send(VirtioNetHdr::PLAIN, &FRAME));
    assert!(host.is_rung());
    assert_eq!(host.received(), [FRAME]);
    assert_eq!(machine.bells[1].kick.read().unwrap(), 1);
}

/// Frames that found no room are offered again once there is some, of which the machine tells only a
/// worker that does not ask.
#[test]
fn room_is_told_to_a_worker_that_sleeps() {
    let shape = Shape {
        size: 8,
        ..Shape::default()
    };
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, shape);
    for polling in [true, false, true, false] {
        host.port.set_polling(polling);
        host.received();
        while host.transmit(&FRAME) {}
        assert!(host.port.wants_write());
        machine.guest.receive_kick = false;
        while machine.guest.recv().is_some() {}
        assert_eq!(machine.guest.receive_kick, !polling);
        assert!(host.transmit(&FRAME));
    }
}
