//! What becomes of a packet, out and back.

use net_datapath::gso::complete_checksum;
use net_wire::{MacAddr, icmpv4};

use super::frames::{self, Ends, echo_in, echo_out, tcp_out, udp_in, udp_out};
use super::*;

const PEER: (Ipv4Addr, u16) = (FAR, 7000);

#[test]
fn a_datagram_goes_out_under_the_outside_address_and_its_answer_comes_back() {
    let mut world = World::new(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"ask"));
    // It waits until the router is known.
    let asked = world.outside();
    assert_eq!(asked.len(), 1);
    let question = asked[0].arp().unwrap();
    assert_eq!(
        (question.operation, question.target_ip),
        (arp::REQUEST, ROUTER)
    );
    assert_eq!(asked[0].dst_mac(), MacAddr::BROADCAST);
    world.router_says(ROUTER);
    let sent = world.outside();
    assert_eq!(sent.len(), 1);
    let Ends { src, dst } = sent[0].ends();
    assert_eq!((src.0, dst), (OUTSIDE, PEER));
    assert_eq!(sent[0].dst_mac(), ROUTER_MAC);
    assert_eq!(sent[0].ip().ttl(), 63);
    assert_eq!(&sent[0].bytes[6..12], &OUTSIDE_MAC.0);

    world.outside_sends(&udp_in(PEER, src.1, b"answer"));
    let back = world.guest(0);
    assert_eq!(back.len(), 1);
    let Ends { src, dst } = back[0].ends();
    assert_eq!((src, dst), (PEER, (guest_ip(0), 5000)));
    assert_eq!((back[0].dst_mac(), back[0].ip().ttl()), (guest_mac(0), 63));
    assert_eq!(&back[0].bytes[6..12], &GATEWAY_MAC.0);
    // The second one needs no question.
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"again"));
    assert_eq!(world.outside().len(), 1);
}

#[test]
fn many_packets_keep_their_order() {
    let mut world = World::connected(2, 1500);
    for n in 0..300u32 {
        let who = n as usize % 2;
        transmit(
            &mut world.guests[who].0,
            &udp_out(who, 5000, FAR, 7000, &n.to_be_bytes()),
        );
    }
    world.turn();
    let sent = world.outside();
    assert_eq!(sent.len(), 300);
    for parity in 0..2 {
        let numbers = sent.iter().map(|frame| {
            let data = &frame.bytes[42..46];
            u32::from_be_bytes(*data.first_chunk().unwrap())
        });
        let numbers: Vec<u32> = numbers.filter(|n| n % 2 == parity).collect();
        assert_eq!(numbers.len(), 150);
        assert!(numbers.is_sorted());
    }
}

#[test]
fn who_does_not_answer_is_unreachable() {
    let mut world = World::connected(1, 1500);
    let silent = Ipv4Addr::new(198, 51, 100, 77);
    world.guest_sends(0, &udp_out(0, 5000, silent, 7000, b"hello"));
    // The worker is never called to the moment.
    for _ in 0..4 {
        world.now += Duration::from_millis(1_050);
        world.turn();
    }
    let questions = world.outside();
    assert_eq!(questions.len(), 3);
    assert!(questions.iter().all(|frame| frame.arp().is_some()));
    let told = world.guest(0);
    assert_eq!(told.len(), 1);
    let (kind, code, _, quoted) = told[0].icmp();
    assert_eq!((kind, code), (icmpv4::UNREACHABLE, icmpv4::CODE_HOST));
    // The packet as the guest sent it, bit for bit.
    assert_eq!(quoted, udp_out(0, 5000, silent, 7000, b"hello").bytes[14..]);
    assert_eq!(told[0].ip().src(), GATEWAY);
}

#[test]
fn without_a_router_only_the_outside_network_is_reached() {
    let mut world = World::with(1, 1500, true, |config| {
        config.uplink.as_mut().unwrap().via = None;
    });
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"far"));
    assert!(world.outside().is_empty());
    let (kind, code, ..) = world.guest(0)[0].icmp();
    assert_eq!((kind, code), (icmpv4::UNREACHABLE, icmpv4::CODE_NET));
    world.guest_sends(0, &udp_out(0, 5000, ROUTER, 7000, b"near"));
    world.router_says(ROUTER);
    let sent = world.outside();
    assert_eq!(sent[1].ends().dst, (ROUTER, 7000));
}

#[test]
fn what_no_router_carries_stays() {
    let mut world = World::connected(1, 1500);
    for dst in [
        [169, 254, 169, 254],
        [198, 51, 100, 255],
        [198, 51, 100, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 9],
        [240, 0, 0, 1],
        [0, 0, 0, 1],
        [255, 255, 255, 255],
    ] {
        world.guest_sends(0, &udp_out(0, 5000, dst.into(), 7000, b"no"));
        assert!(world.outside().is_empty(), "{dst:?}");
    }
}

#[test]
fn the_time_to_live_ends_here_in_both_directions() {
    let mut world = World::connected(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"x").with_ttl(2));
    let sent = world.outside();
    assert_eq!(sent[0].ip().ttl(), 1);
    let port = sent[0].ends().src.1;
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"x").with_ttl(1));
    assert!(world.outside().is_empty());
    assert_eq!(world.guest(0)[0].icmp().0, icmpv4::TIME_EXCEEDED);
    world.outside_sends(&udp_in(PEER, port, b"x").with_ttl(1));
    assert!(world.guest(0).is_empty());
    let told = world.outside();
    assert_eq!(told[0].icmp().0, icmpv4::TIME_EXCEEDED);
    assert_eq!((told[0].ip().src(), told[0].ip().dst()), (OUTSIDE, FAR));
}

#[test]
fn echo_passes_and_the_outside_address_answers() {
    let mut world = World::connected(1, 1500);
    world.guest_sends(0, &echo_out(0, FAR));
    let sent = world.outside();
    assert_eq!(sent[0].ip().src(), OUTSIDE);
    assert_eq!(sent[0].icmp().0, icmpv4::ECHO_REQUEST);

    let expected = {
        let (_, code, rest, data) = echo_in(ROUTER).icmp();
        (icmpv4::ECHO_REPLY, code, rest, data)
    };
    world.outside_sends(&echo_in(ROUTER));
    let answer = world.outside();
    assert_eq!(answer[0].icmp(), expected);
    assert_eq!(
        (answer[0].ip().src(), answer[0].ip().dst()),
        (OUTSIDE, ROUTER)
    );
    world.guest_sends(0, &echo_out(0, OUTSIDE));
    let answer = world.guest(0);
    assert_eq!(answer[0].icmp(), expected);
    assert_eq!(answer[0].ip().dst(), guest_ip(0));
    // One whose checksum is wrong gets none.
    let mut wrong = echo_in(ROUTER);
    *wrong.bytes.last_mut().unwrap() ^= 1;
    world.outside_sends(&wrong);
    assert!(world.outside().is_empty());
}

#[test]
fn too_long_for_the_outside_is_said_or_cut() {
    let mut world = World::connected(1, 1400);
    let long = vec![5; 1400];
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, &long));
    assert!(world.outside().is_empty());
    let (kind, code, rest, _) = world.guest(0)[0].icmp();
    assert_eq!(
        (kind, code, rest),
        (icmpv4::UNREACHABLE, icmpv4::CODE_FRAG_NEEDED, 1400)
    );
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, &long).may_fragment());
    let pieces = world.outside();
    assert_eq!(pieces.len(), 2);
    let mut whole = vec![0; 1408];
    for piece in &pieces {
        let ip = piece.ip();
        assert!(ip.total_len() <= 1400);
        assert_eq!(ip.src(), OUTSIDE);
        let at = ip.fragment_offset();
        whole[at..at + ip.payload().len()].copy_from_slice(ip.payload());
    }
    assert_eq!(whole[8..], long);
}

#[test]
fn a_super_frame_stays_one_unless_its_pieces_are_too_long() {
    let mut world = World::connected(1, 1500);
    let syn = tcp_out(0, 4000, PEER, (2, 999, 0), b"");
    world.guest_sends(0, &syn);
    let port = world.outside()[0].ends().src.1;
    let frame = frames::super_out(0, 4000, PEER, 20_000, 1460);
    world.guest_sends(0, &frame);
    let sent = world.outside();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].header, frame.header);
    assert_eq!(sent[0].bytes.len(), frame.bytes.len());
    // What is partial is right once it is completed.
    let mut whole = sent[0].clone();
    complete_checksum(&mut whole.bytes, &frame.header).unwrap();
    whole.header = VirtioNetHdr::PLAIN;
    assert_eq!(whole.ends().src, (OUTSIDE, port));

    world.guest_sends(0, &frames::super_out(0, 4000, PEER, 20_000, 1461));
    assert!(world.outside().is_empty());
    let (kind, code, rest, _) = world.guest(0)[0].icmp();
    assert_eq!(
        (kind, code, rest),
        (icmpv4::UNREACHABLE, icmpv4::CODE_FRAG_NEEDED, 1500)
    );
    assert_eq!(world.status().drops.too_big, 1);
}
