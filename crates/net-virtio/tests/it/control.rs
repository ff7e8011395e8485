//! The control queue, over a ring.

use net_virtio::driver::DriverOptions;

use crate::guest::{Guest, Shape};
use crate::queues::transmit;

fn to(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&mac);
    frame
}

#[test]
fn commands_are_carried_out_and_answered() {
    for packed in [false, true] {
        let options = DriverOptions {
            packed,
            ..Default::default()
        };
        let mut guest = Guest::new(Shape {
            options,
            ..Shape::default()
        });
        let mut device = guest.device();
        let own = [2, 0, 0, 0, 0, 9];
        assert_eq!(guest.command(&mut device, &[&[1, 1][..], &own].concat()), 0);
        assert_eq!(device.mac().map(|mac| mac.0), Some(own));
        assert_eq!(device.config_space()[..6], own);
        assert_eq!(guest.command(&mut device, &[0, 0, 0]), 0);
        assert!(transmit(&mut device, &to([2, 0, 0, 0, 0, 8])));
        assert!(guest.recv().is_none(), "it asked for its own frames only");
        assert!(transmit(&mut device, &to(own)));
        assert!(guest.recv().is_some());
        assert_eq!(guest.command(&mut device, &[0, 0, 1]), 0);
        assert!(transmit(&mut device, &to([2, 0, 0, 0, 0, 8])));
        assert!(guest.recv().is_some());
        // A group's address, no class of ours, and a feature that was not agreed to.
        for refused in [&[1, 1, 1, 0, 0, 0, 0, 0][..], &[9, 0], &[4, 0, 1, 0]] {
            assert_eq!(guest.command(&mut device, refused), 1, "{refused:?}");
        }
        device.reset();
        assert_eq!(device.mac(), None);
    }
}
