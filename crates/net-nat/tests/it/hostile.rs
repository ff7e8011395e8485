//! What hostile guests and strangers try, and what went wrong elsewhere.

use net_nat::config::Dependence;
use net_nat::{Direction, DropReason, NatEngine, Side, Verdict};

use crate::lab::build::{Ip, udp_l4};
use crate::lab::{
    ACK, BOTH, ECHO, FIN, Lab, RST, SYN, Tcp, V4, V6, at, echo, fragments, icmp_error, secs, see,
    sum, tcp, udp,
};

#[test]
fn every_protocol_cut_off_at_every_byte() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        let kind = if family == V4 { (3, 3) } else { (1, 4) };
        let syn = Tcp {
            flags: SYN,
            options: &[2, 4, 5, 180, 1, 3, 3, 7, 4, 2],
            data: b"data",
            ..Tcp::default()
        };
        let mut options = Ip::new(me.ip(), remote.ip(), 17);
        (options.options, options.extension) = match family {
            V4 => (vec![1, 1, 1, 0], 0),
            V6 => (vec![17, 0, 1, 4, 0, 0, 0, 0], 60),
        };
        let packets = [
            (udp(me, remote, b"data"), Direction::Outbound),
            (tcp(me, remote, &syn), Direction::Outbound),
            (echo(me.ip(), remote.ip(), ECHO, 7, 1), Direction::Outbound),
            (options.seal(udp_l4(5000, 53, b"x")), Direction::Outbound),
            (
                fragments(&udp(me, remote, &[0; 100]), 48, 1)[1].clone(),
                Direction::Outbound,
            ),
            (udp(remote, outside, b"data"), Direction::Inbound),
            (
                icmp_error(
                    remote.ip(),
                    outside.ip(),
                    kind,
                    [0; 4],
                    &udp(outside, remote, b"x"),
                ),
                Direction::Inbound,
            ),
        ];
        for (packet, direction) in packets {
            for len in 0..packet.len() {
                // Once as a packet that lies about its length, once as one that does not.
                let cut = &packet[..len];
                let done = lab.send(cut, direction);
                assert!(!done.is_sent(), "{len} of {} bytes pass", packet.len());
                if len < family.header() {
                    continue;
                }
                let mut honest = cut.to_vec();
                let (at, length) = match family {
                    V4 => (2, len as u16),
                    V6 => (4, (len - 40) as u16),
                };
                honest[at..at + 2].copy_from_slice(&length.to_be_bytes());
                let _ = lab.send(&honest, direction);
            }
            lab.validate();
        }
        assert_eq!(lab.call_udp(remote, outside), Ok(me));
    }
}

#[test]
fn a_udp_length_beyond_the_packet_opens_nothing() {
    for family in BOTH {
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        for (length, ok) in [
            (0u16, false),
            (7, false),
            (8, true),
            (12, true),
            (13, false),
            (u16::MAX, false),
        ] {
            let mut l4 = udp_l4(5000, 53, b"data");
            l4[4..6].copy_from_slice(&length.to_be_bytes());
            let mut engine = NatEngine::new(family.config()).unwrap();
            let mut packet = Ip::new(me.ip(), remote.ip(), 17).carry(&l4);
            let verdict = engine.translate(&mut packet, Direction::Outbound, secs(1));
            assert_eq!(
                verdict == Verdict::Translated(Side::Outside),
                ok,
                "{length}: {verdict:?}"
            );
        }
    }
}

#[test]
fn arcbox_conntrack_the_table_is_bounded() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.sessions = 100;
            c.limits.icmp_per_second = 0;
        });
        let bytes = lab.engine().usage().bytes;
        for n in 0..20_000u16 {
            let _ = lab.out(udp(
                at(family.inside(2), 5000),
                at(family.remote(n), 53),
                b"x",
            ));
        }
        let usage = lab.engine().usage();
        assert_eq!(usage.sessions, 100);
        // Two MiB of them are for whom the ports of eight addresses are.
        assert!(
            usage.bytes < bytes + (3 << 20),
            "{} bytes became {}",
            bytes,
            usage.bytes
        );
    }
}

#[test]
fn arcbox_conntrack_icmp_never_leaves_with_the_private_source() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (family.inside(2), family.remote(1));
        // Every type there is, as a message and as an error about something.
        for kind in 0..=255u8 {
            for code in [0, 1, 13] {
                let quoted = udp(at(remote, 53), at(me, 5000), b"x");
                let message = icmp_error(me, remote, (kind, code), [0, 7, 0, 1], &quoted);
                let done = lab.out(&message);
                match done.verdict {
                    Verdict::Translated(side) => {
                        let seen = see(&done.packet);
                        assert_eq!((side, seen.src), (Side::Outside, family.outside(1)));
                    }
                    Verdict::Drop(_) => {}
                    other => panic!("type {kind}: {other:?}"),
                }
            }
        }
        // Nor does what it quotes name the guest.
        let sent = lab.out(udp(at(me, 5000), at(remote, 53), b"x")).sent();
        let got = lab.inn(udp(at(remote, 53), sent.src(), b"y")).sent();
        let kind = if family == V4 { (3, 3) } else { (1, 4) };
        let seen = lab
            .out(icmp_error(me, remote, kind, [0; 4], &got.packet))
            .sent();
        assert_eq!(
            (seen.src, seen.quoted().dst()),
            (family.outside(1), sent.src())
        );
    }
}

#[test]
fn arcbox_conntrack_a_bare_reset_opens_no_flow() {
    for family in BOTH {
        for pickup in [false, true] {
            let mut lab = Lab::with(family, |c| c.tcp_pickup = pickup);
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
            for flags in [RST, RST | ACK, RST | SYN, FIN, 0, SYN | FIN] {
                let segment = Tcp {
                    flags,
                    ..Tcp::default()
                };
                let done = lab.out(tcp(me, remote, &segment));
                assert_eq!(done.dropped(), DropReason::NotOpening, "flags {flags:02x}");
            }
            let usage = lab.engine().usage();
            assert_eq!((usage.sessions, usage.mappings, usage.hosts), (0, 0, 0));
        }
    }
}

#[test]
fn arcbox_conntrack_a_strangers_answer_never_reaches_another_guest() {
    // Guest after guest opens from one source port to one server; each answer finds its own.
    for family in BOTH {
        let mut lab = Lab::of(family);
        let server = at(family.remote(1), 53);
        let flows: Vec<_> = (2..1002)
            .map(|n| at(family.inside(n), 5000))
            .map(|me| (me, lab.map_udp(me, server)))
            .collect();
        for &(me, outside) in &flows {
            assert_eq!(lab.call_udp(server, outside), Ok(me));
        }
    }
}

#[test]
fn an_error_flood_is_rationed_and_the_table_unchanged() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.icmp_per_second = 5;
            c.mtu = [1500, 1000];
        });
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let mut ip = Ip::new(me.ip(), remote.ip(), 17);
        ip.dont_fragment = true;
        let long = ip.seal(udp_l4(5000, 53, &[0; 1200]));
        let replies = (0..1000)
            .filter(|_| lab.out(&long).verdict == Verdict::Reply)
            .count();
        assert_eq!(replies, 5);
        assert_eq!(lab.outputs().len(), 5);
        lab.wait(secs(1));
        let replies = (0..1000)
            .filter(|_| lab.out(&long).verdict == Verdict::Reply)
            .count();
        assert_eq!(replies, 5);
    }
}

#[test]
fn outputs_nobody_fetches_are_bounded() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.limits.outputs = 10;
            c.limits.icmp_per_second = 1000;
            c.limits.sessions_per_host = 1;
        });
        lab.map_udp(at(family.inside(2), 1), at(family.remote(1), 53));
        for n in 0..500 {
            let _ = lab.out(udp(
                at(family.inside(2), 1000 + n),
                at(family.remote(1), 53),
                b"x",
            ));
        }
        assert_eq!(lab.engine().counters().outputs_lost, 490);
        assert_eq!(lab.outputs().len(), 10);
    }
}

#[test]
fn strangers_do_not_keep_a_door_open() {
    // Whoever is admitted may answer, but does not refresh (RFC 4787, REQ-6): not by new flows of
    // its own either, each from another port.
    for family in BOTH {
        for filtering in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
        ] {
            let mut lab = Lab::with(family, |c| c.udp.filtering = filtering);
            let me = at(family.inside(2), 5000);
            let outside = lab.map_udp(me, at(family.remote(1), 53));
            let mut admitted = 0;
            for n in 0..30 {
                lab.live(secs(60));
                let stranger = at(family.remote(1), 1000 + n);
                admitted += u32::from(lab.call_udp(stranger, outside).is_ok());
            }
            assert!(
                admitted < 12,
                "admitted for {admitted} minutes, 5 after the last word"
            );
        }
    }
}

#[test]
fn a_call_that_was_answered_counts_like_one_from_inside() {
    for family in BOTH {
        for filtering in [
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
        ] {
            let mut lab = Lab::with(family, |c| c.udp.filtering = filtering);
            let (me, caller) = (at(family.inside(2), 5000), at(family.remote(1), 1000));
            let outside = lab.map_udp(me, at(family.remote(1), 53));
            assert_eq!(lab.call_udp(caller, outside), Ok(me));
            for n in 0..10 {
                assert_eq!(lab.map_udp(me, caller), outside);
                lab.live(secs(200));
                // The caller's other port, and by option anybody's.
                let port = at(family.remote(1), 2000 + n);
                assert_eq!(lab.call_udp(port, outside), Ok(me));
                let other = lab.call_udp(at(family.remote(2), 7), outside);
                assert_eq!(other.is_ok(), filtering == Dependence::EndpointIndependent);
            }
        }
    }
}

#[test]
fn checksums_of_the_lab_can_fail() {
    let (me, remote) = (at(V4.inside(2), 5000), at(V4.remote(1), 53));
    let right = udp(me, remote, b"x");
    sum::check(&right).unwrap();
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        // A length that changes is not a packet any more, and fragments cannot be judged.
        if (0..4).contains(&(bit / 8)) || (6..8).contains(&(bit / 8)) || bit / 8 == 9 {
            continue;
        }
        assert!(sum::check(&wrong).is_err(), "bit {bit}");
    }
}
