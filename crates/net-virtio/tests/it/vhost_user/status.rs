//! The device status, as a front-end that tells it has it.

use net_backend::NetworkBackend;
use net_backend::conformance::Peer;
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;

use super::{
    Front, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_STATUS, Host, Machine, PLAIN, PROTOCOL,
    SET_FEATURES, SET_PROTOCOL_FEATURES, SET_STATUS, words,
};
use crate::guest::Shape;

/// VIRTIO 1.3, 2.1.
const ACKNOWLEDGE: u64 = 1;
const DRIVER: u64 = 2;
const DRIVER_OK: u64 = 4;
const FEATURES_OK: u64 = 8;
const NEEDS_RESET: u64 = 64;
const FAILED: u64 = 128;

impl Front {
    fn status(&self) -> u64 {
        self.ask_u64(GET_STATUS)
    }

    fn set_status(&self, status: u64) {
        self.tell(SET_STATUS, &words(&[status]), &[]);
    }
}

fn sends(host: &mut Host, machine: &mut Machine, n: u8) -> bool {
    assert!(machine.send(VirtioNetHdr::PLAIN, &[n; 60]));
    host.received() == [[n; 60]]
}

/// The rings of a machine anew, as after a reset of its driver.
fn restart(machine: &mut Machine, bases: [u32; 2]) {
    let features = machine.front.ask_u64(GET_FEATURES) & machine.guest.shape.features();
    let body = words(&[features | PROTOCOL]);
    machine.front.tell(SET_FEATURES, &body, &[]);
    let setups = [&machine.guest.receive, &machine.guest.transmit].map(|queue| queue.setup());
    machine.bells = [0, 1].map(|at| machine.front.start(at as u32, &setups[at], bases[at]));
}

#[test]
fn features_are_ok_once_some_are_taken() {
    let host = Host::new(DeviceConfig::default());
    let front = Front::connect(&host.path);
    let protocol = front.ask_u64(GET_PROTOCOL_FEATURES);
    let body = words(&[protocol]);
    front.send(SET_PROTOCOL_FEATURES, PLAIN, &body, &[]);
    assert_eq!(front.status(), 0);
    let told = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    front.set_status(told);
    assert_eq!(front.status(), ACKNOWLEDGE | DRIVER);
    front.negotiate(0);
    front.set_status(told);
    assert_eq!(front.status(), told);
    front.set_status(0);
    front.set_status(told);
    assert_eq!(front.status(), ACKNOWLEDGE | DRIVER);
}

#[test]
fn no_ring_runs_before_its_driver_is_ready() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    assert!(sends(&mut host, &mut machine, 1), "it has not told");
    let before = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    machine.front.set_status(before);
    assert!(!sends(&mut host, &mut machine, 2));
    assert!(host.transmit(&[2; 60]) && machine.recv().is_none());
    machine.front.set_status(before | DRIVER_OK);
    assert_eq!(host.received(), [[2; 60]]);
    assert!(host.transmit(&[3; 60]));
    assert_eq!(machine.recv().unwrap().bytes, [3; 60]);
    machine.front.set_status(before | DRIVER_OK | FAILED);
    assert!(!sends(&mut host, &mut machine, 4), "it has given up");
    machine.front.set_status(before | DRIVER_OK);
    assert_eq!(host.received(), [[4; 60]]);
}

/// QEMU's way: rings stop one by one, then the status is 0, then everything is said again, but for who
/// is interrupted.
#[test]
fn a_reset_stops_rings_and_features_are_taken_anew() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    let ready = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
    machine.front.set_status(ready);
    for n in 0..5 {
        assert!(sends(&mut host, &mut machine, n));
        machine.front.set_status(0);
        assert_eq!(machine.front.status(), 0);
        assert!(!sends(&mut host, &mut machine, n + 100));
        let stops = host.port.statistics().disconnects;
        assert_eq!(stops, u64::from(n) + 1);
        let taken = 2 * u32::from(n) + 1;
        restart(&mut machine, [0, taken]);
        machine.front.set_status(ready);
        assert_eq!(host.received(), [[n + 100; 60]]);
    }
    // A ring is interrupted by whom it was told before the reset.
    let call = machine.bells[1].call.try_clone().unwrap();
    machine.front.set_status(0);
    machine.guest.transmit.want_interrupts(true);
    let setup = machine.guest.transmit.setup();
    let features = machine.front.ask_u64(GET_FEATURES) & machine.guest.shape.features();
    let body = words(&[features | PROTOCOL]);
    machine.front.tell(SET_FEATURES, &body, &[]);
    machine.bells[1] = machine.front.start_silently(1, &setup, 10);
    let _ = call.read();
    assert!(sends(&mut host, &mut machine, 9));
    assert_eq!(call.read().unwrap(), 1);
}

/// QEMU 7.2 stops the rings of the first pair, sends the reset, and then stops those of the second.
#[test]
fn a_ring_says_after_a_reset_where_it_stood() {
    for packed in [false, true] {
        let mut shape = Shape::default();
        shape.options.packed = packed;
        let mut host = Host::new(DeviceConfig::default());
        let mut machine = Machine::new(&host.path, shape);
        let ready = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        machine.front.set_status(ready);
        for n in 0..3 {
            assert!(sends(&mut host, &mut machine, n));
        }
        let receive = machine.front.stop(0);
        machine.front.set_status(0);
        let transmit = machine.front.stop(1);
        restart(&mut machine, [receive, transmit]);
        machine.front.set_status(ready);
        assert!(sends(&mut host, &mut machine, 9));
    }
}

#[test]
fn a_device_with_a_broken_ring_needs_a_reset() {
    let mut host = Host::new(DeviceConfig::default());
    let mut machine = Machine::new(&host.path, Shape::default());
    let ready = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
    machine.front.set_status(ready);
    let setup = machine.guest.transmit.setup();
    machine.guest.ram.publish(setup.driver + 2, 1000);
    assert!(host.received().is_empty());
    assert_eq!(machine.front.status(), ready | NEEDS_RESET);
    machine.front.set_status(ready | NEEDS_RESET);
    assert!(host.received().is_empty(), "it stays broken");
    machine.front.set_status(0);
    machine.guest.ram.publish(setup.driver + 2, 0);
    restart(&mut machine, [0; 2]);
    machine.front.set_status(ready);
    assert_eq!(machine.front.status(), ready);
    assert!(sends(&mut host, &mut machine, 1));
}
