//! Rows 53 and 54: a connection is opened for the guest as the host opens it.

use net_usernet::tcp::{ConnectError, HostSocket, RelayConfig, Unreachable};
use net_wire::icmpv4;

use super::lab::{ACK, GATEWAY, GATEWAY6, ISS, Lab, RST, SYN, Seg, config, ms};
use super::wire::PORT;

#[test]
fn row54_a_syn_is_answered_only_after_the_host_connected() {
    let mut lab = Lab::new();
    let syn = lab.syn(true);
    lab.give(&syn);
    lab.give(&syn);
    lab.wait(ms(5000));
    lab.nothing();
    assert_eq!(
        lab.host.sockets.len(),
        1,
        "a retransmitted SYN is no second connect"
    );
    let socket = HostSocket(1);
    assert_eq!(lab.host.far(socket).remote, Some(lab.remote));
    lab.host.far(socket).connected = Some(Ok(()));
    lab.host.events.push_back((socket, super::host::WRITABLE));
    lab.settle();
    let answer = lab.one();
    assert_eq!(answer.flags, SYN | ACK);
    assert_eq!(answer.ack, ISS.wrapping_add(1));
    assert_eq!((answer.mss(), answer.scale()), (Some(1460), Some(8)));
}

#[test]
fn row54_a_silent_host_is_not_answered_for() {
    let mut lab = Lab::new();
    let syn = lab.syn(true);
    lab.give(&syn);
    lab.wait(config().connect + ms(1));
    lab.nothing();
    assert_eq!(lab.host.open(), 0);
    let stats = lab.relay.statistics();
    assert_eq!((stats.flows, stats.timed_out), (0, 1));
}

#[test]
fn row53_a_refused_connect_is_reset_at_once() {
    // Known before the connect has begun.
    let mut lab = Lab::new();
    lab.host.refuse = Some(ConnectError::Refused);
    let syn = lab.syn(true);
    lab.give(&syn);
    let answer = lab.one();
    assert_eq!(answer.flags, RST | ACK);
    assert_eq!((answer.seq, answer.ack), (0, ISS.wrapping_add(1)));
    // Known later.
    let mut lab = Lab::new();
    lab.give(&syn);
    lab.nothing();
    lab.host.far(HostSocket(1)).connected = Some(Err(ConnectError::Refused));
    lab.host
        .events
        .push_back((HostSocket(1), super::host::WRITABLE));
    lab.settle();
    let answer = lab.one();
    assert_eq!((answer.flags, answer.ack), (RST | ACK, ISS.wrapping_add(1)));
    assert_eq!((lab.host.open(), lab.relay.statistics().flows), (0, 0));
}

#[test]
fn row53_an_unreachable_host_is_an_icmp_error_with_its_code() {
    for (why, code, code6) in [
        (Unreachable::Network, icmpv4::CODE_NET, 0),
        (Unreachable::Host, icmpv4::CODE_HOST, 3),
        (Unreachable::Prohibited, icmpv4::CODE_PROHIBITED, 1),
    ] {
        for v6 in [false, true] {
            let mut lab = Lab::new();
            if v6 {
                lab.guest = "[fd00::f]:40000".parse().unwrap();
                lab.remote = "[2001:db8::80]:80".parse().unwrap();
            }
            lab.host.refuse = Some(ConnectError::Unreachable(why));
            let syn = lab.syn(true);
            lab.give(&syn);
            let (_, _, packet) = lab.wire.sent.pop_front().unwrap();
            lab.nothing();
            let sent = syn.packet();
            let (message, quoted) = if v6 {
                let ip = net_wire::ipv6::Ipv6Packet::parse(&packet[..]).unwrap();
                assert_eq!((ip.src(), ip.next_header()), (GATEWAY6, 58));
                let pseudo =
                    net_wire::checksum::pseudo_v6(ip.src(), ip.dst(), 58, ip.payload_len());
                let icmp = net_wire::icmpv6::Icmpv6Message::parse(&packet[40..]).unwrap();
                assert!(icmp.verify_checksum(pseudo));
                ((icmp.kind(), icmp.code()), packet[48..].to_vec())
            } else {
                let ip = net_wire::ipv4::Ipv4Packet::parse(&packet[..]).unwrap();
                assert!(ip.src() == GATEWAY && ip.verify_header_checksum());
                let icmp = icmpv4::IcmpMessage::parse(&packet[20..]).unwrap();
                assert!(icmp.verify_checksum());
                ((icmp.kind(), icmp.code()), packet[28..].to_vec())
            };
            assert_eq!(message, if v6 { (1, code6) } else { (3, code) });
            // What a guest looks at: addresses, ports, sequence number.
            let at = if v6 { 40 } else { 20 };
            let addresses = if v6 { 8..40 } else { 12..20 };
            assert_eq!(quoted[addresses.clone()], sent[addresses]);
            assert_eq!(quoted[at..at + 8], sent[at..at + 8]);
        }
    }
}

#[test]
fn row52_the_smaller_mss_and_the_offer_of_scaling_are_honoured() {
    let mut lab = Lab::new();
    let conn = lab.open_with(false, 60_000);
    assert_eq!(
        conn.shift, 0,
        "scaling is not offered to who has not asked for it"
    );
    lab.feed(&conn, &[1; 10_000]);
    assert!(lab.taken().iter().all(|seg| seg.payload.len() <= 1460));
    for (offered, mtu, expect) in [
        (1460u16, 1500, 1460),
        (500, 1500, 500),
        (9000, 1500, 1460),
        (9000, 9000, 8960),
        (1, 1500, 48),
    ] {
        let mut lab = Lab::new();
        lab.wire.link_mut().mtu = mtu;
        lab.host.instant = true;
        let mut syn = lab.syn(true);
        syn.options[2..4].copy_from_slice(&offered.to_be_bytes());
        lab.give(&syn);
        let answer = lab.one();
        assert_eq!(
            answer.mss(),
            Some(mtu - 40),
            "ours is what the link carries"
        );
        let ack = lab.seg(ISS.wrapping_add(1), answer.seq.wrapping_add(1), ACK);
        lab.give(&ack);
        lab.host.feed(HostSocket(1), &[2; 50_000]);
        lab.settle();
        let longest = lab.taken().iter().map(|seg| seg.payload.len()).max();
        assert_eq!(longest, Some(expect));
    }
}

#[test]
fn row52_super_frames_are_cut_at_the_guests_mss() {
    for v6 in [false, true] {
        let mut lab = Lab::new();
        if v6 {
            lab.guest = "[fd00::f]:40000".parse().unwrap();
            lab.remote = "[2001:db8::80]:80".parse().unwrap();
        }
        lab.wire.offloads(true);
        lab.wire.link_mut().mtu = 65_535;
        let conn = lab.open_with(true, 4096);
        lab.wire.link_mut().mtu = 1500;
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
        lab.feed(&conn, &bytes);
        let frames = lab.wire.sent.len();
        assert!(frames <= 5, "{frames} packets for 200,000 bytes");
        assert_eq!(lab.data(conn.ack), bytes);
    }
}

#[test]
fn a_syn_ack_is_repeated_then_given_up() {
    let mut lab = Lab::new();
    lab.host.instant = true;
    let syn = lab.syn(true);
    lab.give(&syn);
    let first = lab.one();
    lab.give(&syn);
    assert_eq!(lab.one(), first, "a SYN again draws the SYN-ACK again");
    lab.wait(ms(200_000));
    let sent = lab.taken();
    assert!(sent.iter().filter(|seg| seg.has(SYN)).count() >= 5);
    assert_eq!((lab.host.open(), lab.relay.statistics().flows), (0, 0));
}

#[test]
fn another_syn_while_connecting_starts_again() {
    let mut lab = Lab::new();
    let syn = lab.syn(true);
    lab.give(&syn);
    let again = Seg { seq: 5, ..syn };
    lab.give(&again);
    assert!(lab.host.far(HostSocket(1)).reset);
    lab.host.far(HostSocket(2)).connected = Some(Ok(()));
    lab.host
        .events
        .push_back((HostSocket(2), super::host::WRITABLE));
    lab.settle();
    assert_eq!(lab.one().ack, 6);
}

#[test]
fn a_published_port_asks_the_guest_with_the_clients_address() {
    let mut lab = Lab::new();
    let socket = lab.host.add();
    lab.host.feed(socket, b"early");
    lab.accept(socket);
    lab.settle();
    let syn = lab.one();
    assert_eq!((syn.src, syn.dst, syn.flags), (lab.remote, lab.guest, SYN));
    assert_eq!((syn.mss(), syn.scale()), (Some(1460), Some(8)));
    lab.answer(&syn);
    let sent = lab.taken();
    assert_eq!(sent[0].ack, ISS.wrapping_add(1));
    assert_eq!(sent.last().unwrap().payload, b"early");
    assert_eq!(lab.relay.statistics().accepted, 1);
}

#[test]
fn a_published_port_that_is_withdrawn_ends_its_connections_at_both_ends() {
    let mut lab = Lab::new();
    let socket = lab.host.add();
    lab.accept(socket);
    let syn = lab.one();
    lab.answer(&syn);
    lab.taken();
    lab.relay.withdraw(socket);
    assert_eq!(lab.relay.next_deadline(), Some(ms(0)), "due at once");
    lab.settle();
    let reset = lab.one();
    assert_eq!((reset.src, reset.dst), (lab.remote, lab.guest));
    assert!(reset.has(RST));
    assert_eq!(reset.seq, syn.seq.wrapping_add(1));
    assert!(lab.host.far(socket).reset);
    assert_eq!(lab.relay.statistics().flows, 0);
    // Twice is no harm.
    lab.relay.withdraw(socket);
    lab.settle();
    assert!(lab.taken().is_empty());
}

#[test]
fn a_published_port_that_the_guest_refuses_is_reset() {
    let mut lab = Lab::new();
    let socket = lab.host.add();
    lab.accept(socket);
    let syn = lab.one();
    let wrong = lab.seg(0, syn.seq, RST | ACK);
    lab.give(&wrong);
    assert_eq!(
        lab.host.open(),
        1,
        "a reset that acknowledges something else is not believed"
    );
    let reset = lab.seg(0, syn.seq.wrapping_add(1), RST | ACK);
    lab.give(&reset);
    assert!(lab.host.far(socket).reset);
    assert_eq!(lab.relay.statistics().flows, 0);
}

#[test]
fn a_published_port_of_a_silent_guest_is_given_up() {
    let mut lab = Lab::new();
    lab.wire.link = None;
    let socket = lab.host.add();
    lab.accept(socket);
    lab.wait(ms(3500));
    // The neighbour shows up late, and is asked then.
    lab.wire = super::wire::Wire::new();
    lab.wait(ms(10_000));
    assert!(lab.taken().iter().all(|seg| seg.flags == SYN));
    lab.wait(ms(300_000));
    assert!(lab.host.far(socket).reset);
    assert_eq!(lab.relay.statistics().timed_out, 1);
}

#[test]
fn limits_refuse_with_a_reset_and_touch_no_other_flow() {
    let mut lab = Lab::with(RelayConfig {
        flows_per_port: 3,
        half_open_per_port: 2,
        flows: 5,
        ..config()
    });
    let mut results = Vec::new();
    for (port, source) in [(PORT, 1u16), (PORT, 2), (PORT, 3), (8, 4), (8, 5), (8, 6)] {
        lab.wire.link_mut().port = port;
        let mut syn = lab.syn(true);
        syn.src.set_ip([10, 0, 2, port as u8].into());
        syn.src.set_port(source);
        lab.give_packet(port, &syn.packet(), net_datapath::VirtioNetHdr::PLAIN);
        lab.settle();
        results.push(lab.taken().iter().any(|seg| seg.has(RST)));
    }
    assert_eq!(results, [false, false, true, false, false, true]);
    let stats = lab.relay.statistics();
    assert_eq!((stats.flows, stats.refused_limit), (4, 2));
    assert_eq!(lab.host.open(), 4);
    // One guest leaves: its flows go, the other's stay.
    lab.relay.guest_gone(&mut lab.host, PORT);
    assert_eq!((lab.relay.statistics().flows, lab.host.open()), (2, 2));
}

#[test]
fn another_port_cannot_touch_a_flow() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let reset = lab.seg(conn.seq, conn.ack, RST);
    lab.give_packet(PORT + 1, &reset.packet(), net_datapath::VirtioNetHdr::PLAIN);
    lab.settle();
    lab.nothing();
    assert_eq!((lab.host.open(), lab.relay.statistics().stray), (1, 1));
}
