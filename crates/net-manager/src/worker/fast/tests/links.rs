//! The interface goes away and comes back, does not take offloads, or takes nothing for a while.

use net_backend::Offloads;
use net_wire::icmpv4;

use super::frames::{self, tcp_out, udp_in, udp_out};
use super::*;

impl World {
    /// Takes the interface away.
    pub(super) fn unplug(&mut self) {
        self.outside.disconnect();
        self.turn();
    }

    /// Puts one with these capabilities in its place.
    pub(super) fn plug(&mut self, capabilities: Capabilities) {
        let (near, far) = memory::pair_with(capabilities, 1024);
        *self.cable.lock().unwrap() = Some((near, 1500));
        self.outside = far;
    }
}

#[test]
fn sessions_outlive_the_interface() {
    let mut world = World::connected(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"x"));
    let port = world.outside()[0].ends().src.1;
    world.unplug();
    assert!(!world.status().connected);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"into the void"));
    let (kind, code, ..) = world.guest(0)[0].icmp();
    assert_eq!((kind, code), (icmpv4::UNREACHABLE, icmpv4::CODE_NET));
    world.pass(5);
    assert!(!world.status().connected);
    assert!(world.worker.core.uplink.packets().unwrap().reopen_at() > Some(world.now));

    world.plug(capabilities());
    world.pass(2);
    assert!(world.status().connected);
    // Said to everybody: the cable may lead elsewhere now.
    assert_eq!(world.outside()[0].arp().unwrap().sender_ip, OUTSIDE);
    world.outside_sends(&udp_in((FAR, 7000), port, b"still there"));
    assert_eq!(world.guest(0).len(), 1);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"again"));
    assert_eq!(world.outside()[0].arp().unwrap().target_ip, ROUTER);
    world.router_says(ROUTER);
    assert_eq!(world.outside()[0].ends().src, (OUTSIDE, port));
}

#[test]
fn offloads_end_at_the_interface_that_lacks_them() {
    let mut world = World::connected(1, 1500);
    let peer = (FAR, 7000);
    world.guest_sends(0, &tcp_out(0, 4000, peer, (2, 999, 0), b""));
    let port = world.outside()[0].ends().src.1;
    world.unplug();
    world.plug(Capabilities {
        offloads: Offloads::NONE,
        ..Capabilities::default()
    });
    world.pass(2);
    world.guest_sends(0, &udp_out(0, 9, FAR, 9, b"who is the router"));
    world.router_says(ROUTER);
    world.outside();
    world.guest_sends(0, &frames::super_out(0, 4000, peer, 14_600, 1460));
    let sent = world.outside();
    assert_eq!(sent.len(), 10);
    for frame in &sent {
        assert_eq!(frame.header, VirtioNetHdr::PLAIN);
        assert_eq!(frame.ip().total_len(), 1500);
        assert_eq!(frame.ends().src, (OUTSIDE, port));
    }
}

#[test]
fn a_slow_interface_gets_everything_in_order() {
    let mut world = World::connected(1, 1500);
    world.unplug();
    let (near, far) = memory::pair_with(capabilities(), 8);
    *world.cable.lock().unwrap() = Some((near, 1500));
    world.outside = far;
    world.pass(2);
    world.outside();
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, &[0xff]));
    world.router_says(ROUTER);
    for n in 0..200u8 {
        transmit(&mut world.guests[0].0, &udp_out(0, 5000, FAR, 7000, &[n]));
    }
    let mut got = Vec::new();
    for _ in 0..60 {
        world.turn();
        let frames = world.outside();
        got.extend(
            frames
                .iter()
                .filter(|it| it.arp().is_none())
                .map(|it| it.bytes[42]),
        );
        let device = world.worker.core.uplink.packets().unwrap().device().port();
        world.worker.core.ports.mark_dirty(device.unwrap());
    }
    assert_eq!(got[0], 0xff);
    assert_eq!(got[1..], (0..200).collect::<Vec<u8>>());
}

#[test]
fn a_network_without_its_interface_does_not_start() {
    let config = NetworkConfig {
        engine: Engine::Fast,
        ..NetworkConfig::default()
    };
    let (_commands, receiver) = mpsc::channel();
    let refused = Worker::new(&config, receiver).err().unwrap();
    assert!(matches!(refused, ManagerError::NoUplink));
}
