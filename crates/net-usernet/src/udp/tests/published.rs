//! Ports of the host that lead to a guest.

use std::net::{SocketAddr, UdpSocket};

use super::{GATEWAY, World, receive, server};
use crate::testing::{config, run_until, udp_frame};
use crate::{Forward, Protocol};

fn publish(world: &mut World, bind: &str) -> SocketAddr {
    let forward = Forward {
        protocol: Protocol::Udp,
        bind: bind.parse().unwrap(),
        guest: "10.0.2.15:5000".parse().unwrap(),
    };
    let id = world.net.publish(forward).unwrap();
    world.net.forward_addr(id).unwrap()
}

/// Row 55: every client has one address at the guest, and gets its answers from where it wrote to.
#[test]
fn a_published_port_keeps_its_clients_apart() {
    for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut world = World::new(config(false));
        let at = publish(&mut world, bind);
        let (a, _) = server();
        let (b, _) = server();
        // An address of the host that the wildcard covers and the default source is not.
        let to = SocketAddr::new(
            if at.ip().is_unspecified() {
                [127, 0, 0, 9].into()
            } else {
                at.ip()
            },
            at.port(),
        );
        a.send_to(b"a1", to).unwrap();
        b.send_to(b"b1", to).unwrap();
        a.send_to(b"a2", to).unwrap();
        world.run_until_sent(3);
        let got = world.datagrams();
        let from = |text: &str| {
            got.iter()
                .find(|(_, _, payload)| payload == text.as_bytes())
                .unwrap()
                .0
        };
        assert_eq!(from("a1"), from("a2"));
        assert_ne!(from("a1"), from("b1"));
        assert_eq!(
            from("a1").ip().to_string(),
            GATEWAY,
            "loopback clients appear as the gateway"
        );
        assert!(
            got.iter()
                .all(|(_, to, _)| to.to_string() == "10.0.2.15:5000")
        );
        for (client, text) in [(&a, "a1"), (&b, "b1")] {
            world.send(&udp_frame(
                "10.0.2.15:5000",
                &from(text).to_string(),
                64,
                text.as_bytes(),
            ));
            assert_eq!(receive(client), (text.as_bytes().to_vec(), to));
        }
        let stats = world.net.statistics().udp;
        assert_eq!((stats.accepted, stats.opened, stats.flows), (2, 0, 2));
    }
}

#[test]
fn clients_of_a_published_port_are_bounded_and_end_when_idle() {
    let mut config = config(false);
    config.limits.udp_flows = 2;
    let timeout = config.timeouts.udp;
    let mut world = World::new(config);
    let at = publish(&mut world, "127.0.0.1:0");
    let clients: Vec<UdpSocket> = (0..5).map(|_| server().0).collect();
    for (i, client) in clients.iter().enumerate() {
        client.send_to(&[i as u8], at).unwrap();
        world.run_until_sent(i + 1);
    }
    let stats = world.net.statistics().udp;
    assert_eq!((stats.flows, stats.evicted, stats.accepted), (2, 3, 5));
    world.net.on_deadline(timeout, &mut world.out);
    assert_eq!(
        (world.net.statistics().udp.flows, world.net.next_deadline()),
        (0, None)
    );
}

#[test]
fn a_port_is_free_again_after_unpublish_and_a_taken_one_is_named() {
    let mut world = World::new(config(false));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let guest = "10.0.2.15:5000".parse().unwrap();
        let forward = Forward {
            protocol,
            bind: "127.0.0.1:0".parse().unwrap(),
            guest,
        };
        let id = world.net.publish(forward).unwrap();
        let bind = world.net.forward_addr(id).unwrap();
        let again = Forward { bind, ..forward };
        let error = world.net.publish(again).unwrap_err().to_string();
        assert!(
            error.contains(&bind.port().to_string()) && error.contains("127.0.0.1"),
            "{error}"
        );
        assert!(world.net.unpublish(id) && !world.net.unpublish(id));
        // Bound elsewhere or here, it is the same.
        let socket = crate::bind_published(protocol, bind).unwrap();
        assert!(crate::bind_published(protocol, bind).is_err());
        let id = world.net.publish_bound(again, socket).unwrap();
        assert_eq!(world.net.forward_addr(id), Some(bind));
        assert!(world.net.unpublish(id));
        let away = Forward {
            bind: "192.0.2.77:9999".parse().unwrap(),
            ..forward
        };
        let error = world.net.publish(away).unwrap_err().to_string();
        assert!(error.contains("not on this host"), "{error}");
        for guest in ["10.0.2.1:80", "10.0.2.15:0", "224.0.0.1:80"] {
            let forward = Forward {
                guest: guest.parse().unwrap(),
                ..forward
            };
            assert!(world.net.publish(forward).is_err(), "{guest}");
        }
    }
}

/// Datagrams for a guest that is not there are dropped, not kept for whoever comes next.
#[test]
fn nobody_at_home() {
    let mut world = World::new(config(false));
    let at = publish(&mut world, "127.0.0.1:0");
    let (client, _) = server();
    world.out.attached = false;
    client.send_to(b"x", at).unwrap();
    let World {
        poll,
        net,
        out,
        now,
    } = &mut world;
    run_until(poll, |events| {
        for event in events {
            net.ready(event, *now, out);
        }
        net.statistics().udp.guest_gone == 1
    });
    assert!(world.out.sent.is_empty());
}
