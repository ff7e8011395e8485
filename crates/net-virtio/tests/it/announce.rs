//! A guest that is announced, by its driver or by the device.

use net_backend::{NetworkBackend, Presence};
use net_virtio::{Announcement, DeviceConfig, QueueState, VirtioNet};
use net_wire::MacAddr;

use crate::guest::{Guest, Shape};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 7]);
const LINK_UP: u8 = 1;
const ANNOUNCE: u8 = 2;

fn status(device: &VirtioNet) -> u8 {
    let space = device.config_space();
    assert_eq!(space[7], 0);
    space[6]
}

/// Everything that a device lends.
pub(crate) fn lent(device: &mut dyn NetworkBackend) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut keep = |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
        for packet in batch {
            let mut bytes = vec![0; packet.len()];
            packet.copy_range(0, &mut bytes);
            frames.push(bytes);
        }
    };
    while device.receive(64, &mut keep).unwrap() > 0 {}
    frames
}

/// Whether this frame says where `mac` is, to everybody.
pub(crate) fn is_rarp(frame: &[u8], mac: MacAddr) -> bool {
    frame[..6] == [0xff; 6] && frame[6..12] == mac.0 && frame[12..14] == [0x80, 0x35]
}

fn device(guest: &Guest, mac: Option<MacAddr>) -> VirtioNet {
    let mut config = DeviceConfig::default();
    config.mac = mac;
    let mut device = VirtioNet::new(config);
    guest.attach(&mut device);
    device
}

#[test]
fn a_driver_that_can_is_asked_until_it_answers() {
    let mut guest = Guest::new(Shape::default());
    let mut device = device(&guest, Some(MAC));
    assert_eq!(status(&device), LINK_UP);
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(device.announce(), Announcement::ByDriver);
            assert_eq!(status(&device), LINK_UP | ANNOUNCE);
            assert!(device.is_announcing());
        }
        // Nothing else stops the question.
        assert_eq!(guest.command(&mut device, &[0, 0, 1]), 0);
        assert_eq!(guest.command(&mut device, &[3, 1]), 1);
        assert!(device.is_announcing());
        assert_eq!(guest.command(&mut device, &[3, 0]), 0);
        assert_eq!(status(&device), LINK_UP);
        assert!(!device.is_announcing());
    }
    assert!(lent(&mut device).is_empty());
    assert_eq!(device.announce(), Announcement::ByDriver);
    device.reset();
    assert_eq!(status(&device), LINK_UP);
}

#[test]
fn for_a_driver_that_cannot_the_device_does() {
    let shape = Shape {
        announces: false,
        ..Shape::default()
    };
    let mut guest = Guest::new(shape);
    let mut device = device(&guest, Some(MAC));
    for _ in 0..2 {
        assert_eq!(device.announce(), Announcement::ByDevice);
        assert_eq!(device.announce(), Announcement::ByDevice);
        assert_eq!(status(&device), LINK_UP);
        let frames = lent(&mut device);
        assert!(matches!(&frames[..], [frame] if is_rarp(frame, MAC)));
    }
    assert_eq!(device.statistics().rx_frames, 2);
    // A driver that did not take the feature has no command for it.
    assert_eq!(guest.command(&mut device, &[3, 0]), 1);
    // The address that the driver has given itself.
    let other = MacAddr([2, 0, 0, 0, 0, 9]);
    let set = [&[1, 1][..], &other.0].concat();
    assert_eq!(guest.command(&mut device, &set), 0);
    assert_eq!(device.announce(), Announcement::ByDevice);
    assert!(is_rarp(&lent(&mut device)[0], other));
    // One that was not lent is not that of the next driver.
    assert_eq!(device.announce(), Announcement::ByDevice);
    device.reset();
    assert!(lent(&mut device).is_empty());
    assert_eq!(device.announce(), Announcement::ByNobody);
}

#[test]
fn whom_nobody_knows_nobody_announces() {
    let shape = Shape {
        announces: false,
        ..Shape::default()
    };
    let guest = Guest::new(shape);
    let mut device = device(&guest, None);
    assert_eq!(device.announce(), Announcement::ByNobody);
    let mut empty = VirtioNet::new(DeviceConfig::default().with_mac(MAC));
    assert_eq!(empty.announce(), Announcement::ByNobody);
    assert!(lent(&mut device).is_empty() && lent(&mut empty).is_empty());
}

#[test]
fn a_device_knows_whether_its_guest_is_there() {
    let guest = Guest::new(Shape::default());
    let mut device = VirtioNet::new(DeviceConfig::default());
    assert_eq!(device.presence(), Presence::Absent);
    guest.attach(&mut device);
    assert_eq!(device.presence(), Presence::Here);
    let states: Vec<_> = (0..3).map(|index| device.stop_queue(index)).collect();
    assert_eq!(device.presence(), Presence::Left);
    // On another device, where it stood.
    let mut other = VirtioNet::new(DeviceConfig::default());
    other.set_features(device.acknowledged()).unwrap();
    let mut setup = guest.transmit.setup();
    setup.state = states[1].unwrap();
    assert_ne!(setup.state, QueueState::Fresh);
    let memory = guest.ram.memory().unwrap();
    other
        .start_queue(1, &setup, memory, Box::new(|| {}))
        .unwrap();
    assert_eq!(other.presence(), Presence::Moved);
    other.reset();
    assert_eq!(other.presence(), Presence::Left);
    guest.attach(&mut other);
    assert_eq!(other.presence(), Presence::Here);
}
