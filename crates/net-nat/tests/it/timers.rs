//! How long what is silent is remembered.

use net_nat::config::{Dependence, Timeouts};
use net_nat::{ConfigError, DropReason, NatEngine, TcpState};

use crate::lab::{ACK, BOTH, ECHO, FIN, Lab, RST, SYN, Tcp, V4, at, echo, raw, secs, tcp};

/// Opens a TCP connection by its three segments, `seq` and `ack` being 1000 and 5000 afterwards.
fn connect(
    lab: &mut Lab,
    me: std::net::SocketAddr,
    remote: std::net::SocketAddr,
) -> std::net::SocketAddr {
    let outside = lab.out(tcp(me, remote, &segment(SYN, 999, 0))).sent().src();
    let _ = lab
        .inn(tcp(remote, outside, &segment(SYN | ACK, 4999, 1000)))
        .sent();
    let _ = lab.out(tcp(me, remote, &segment(ACK, 1000, 5000))).sent();
    outside
}

pub(crate) fn segment(flags: u8, seq: u32, ack: u32) -> Tcp<'static> {
    Tcp {
        flags,
        seq,
        ack,
        ..Tcp::default()
    }
}

#[test]
fn rfc4787_req5_udp_lives_five_minutes_by_default_and_two_at_least() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        lab.live(secs(300));
        assert_eq!(lab.call_udp(remote, outside), Ok(me));
        lab.live(secs(1));
        assert_eq!(lab.call_udp(remote, outside), Err(DropReason::NoMapping));
    }
    let mut config = V4.config();
    config.timeouts.udp = secs(119);
    assert!(matches!(
        NatEngine::new(config.clone()).err(),
        Some(ConfigError::Timeout {
            name: "udp",
            least: 120,
            ..
        })
    ));
    config.timeouts.udp = secs(120);
    assert!(NatEngine::new(config).is_ok());
}

#[test]
fn rfc4787_req5a_only_well_known_ports_may_have_a_shorter_time() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.udp_short_ports = vec![53];
            c.timeouts.udp_short = secs(10);
        });
        let me = at(family.inside(2), 5000);
        lab.map_udp(me, at(family.remote(1), 53));
        lab.map_udp(me, at(family.remote(1), 54));
        lab.live(secs(11));
        let left: Vec<_> = lab.engine().sessions().map(|s| s.remote.port).collect();
        assert_eq!(left, [54]);
    }
    let mut config = V4.config();
    config.udp_short_ports = vec![53, 1024];
    assert_eq!(
        NatEngine::new(config).err(),
        Some(ConfigError::ShortPort(1024))
    );
}

#[test]
fn rfc4787_req6_outbound_refreshes_and_inbound_only_by_option() {
    for family in BOTH {
        for inbound_refresh in [false, true] {
            let mut lab = Lab::with(family, |c| c.inbound_refresh = inbound_refresh);
            let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
            let outside = lab.map_udp(me, remote);
            for _ in 0..5 {
                lab.live(secs(299));
                assert_eq!(lab.map_udp(me, remote), outside, "what leaves refreshes");
            }
            lab.live(secs(299));
            assert_eq!(lab.call_udp(remote, outside), Ok(me));
            lab.live(secs(2));
            let expected = if inbound_refresh {
                Ok(me)
            } else {
                Err(DropReason::NoMapping)
            };
            assert_eq!(lab.call_udp(remote, outside), expected);
        }
    }
}

#[test]
fn what_expires_is_dead_at_once_even_if_nobody_calls_expire() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 53));
        let outside = lab.map_udp(me, remote);
        lab.wait(secs(301));
        assert_eq!(lab.call_udp(remote, outside), Err(DropReason::NoMapping));
        assert_eq!(lab.engine().sessions().count(), 0);
        // Nor does it open the door to others.
        let mut lab = Lab::with(family, |c| {
            c.udp.filtering = Dependence::EndpointIndependent;
            c.timeouts.port_hold = secs(0);
        });
        let outside = lab.map_udp(me, remote);
        lab.wait(secs(301));
        let stranger = at(family.remote(2), 53);
        assert_eq!(lab.call_udp(stranger, outside), Err(DropReason::NoMapping));
    }
}

#[test]
fn rfc7857_section2_opening_and_closing_have_times_of_their_own() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| {
            c.timeouts.tcp_opening = secs(250);
            c.timeouts.tcp_closing = secs(400);
        });
        let remote = at(family.remote(1), 80);
        let [opening, established, closing] = [1, 2, 3].map(|n| at(family.inside(2), n));
        lab.out(tcp(opening, remote, &segment(SYN, 1, 0))).sent();
        connect(&mut lab, established, remote);
        let outside = connect(&mut lab, closing, remote);
        lab.out(tcp(closing, remote, &segment(FIN | ACK, 1000, 5000)))
            .sent();
        lab.inn(tcp(remote, outside, &segment(FIN | ACK, 5000, 1001)))
            .sent();
        lab.out(tcp(closing, remote, &segment(ACK, 1001, 5001)))
            .sent();
        let left = |lab: &Lab| {
            [opening, established, closing].map(|me| lab.session(6, me, remote).is_some())
        };
        let expires = |lab: &Lab, me| lab.session(6, me, remote).unwrap().expires_in;
        assert_eq!(expires(&lab, opening), secs(250));
        assert_eq!(expires(&lab, established), secs(7440));
        assert_eq!(expires(&lab, closing), secs(400));
        lab.live(secs(251));
        assert_eq!(left(&lab), [false, true, true]);
        lab.live(secs(150));
        assert_eq!(left(&lab), [false, true, false]);
        lab.live(secs(7039));
        assert_eq!(left(&lab), [false, true, false]);
        lab.live(secs(1));
        assert_eq!(left(&lab), [false, false, false]);
    }
}

#[test]
fn rfc7857_section2_2_a_reset_is_translated_checked_and_held_and_data_revives() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let outside = connect(&mut lab, me, remote);
        let expires = |lab: &Lab| lab.session(6, me, remote).map(|s| s.expires_in);
        // One that does not belong, by its number, changes nothing.
        let _ = lab.inn(tcp(remote, outside, &segment(RST, 0x7000_0000, 0)));
        assert_eq!(expires(&lab), Some(secs(7440)));
        assert_eq!(
            lab.session(6, me, remote).unwrap().tcp,
            Some(TcpState::Established)
        );
        // Nor does one from elsewhere.
        assert!(
            !lab.inn(tcp(
                at(family.remote(2), 80),
                outside,
                &segment(RST, 5000, 0)
            ))
            .is_sent()
        );
        assert_eq!(expires(&lab), Some(secs(7440)));
        // One that belongs is translated; the session is held for four minutes.
        let seen = lab.inn(tcp(remote, outside, &segment(RST, 5000, 0))).sent();
        assert_eq!((seen.dst(), seen.flags()), (me, RST));
        assert_eq!(expires(&lab), Some(secs(240)));
        // Sent again, from either side, it does not prolong its life.
        lab.live(secs(100));
        let _ = lab.out(tcp(me, remote, &segment(RST, 1000, 0)));
        let _ = lab.inn(tcp(remote, outside, &segment(RST, 5000, 0)));
        assert_eq!(expires(&lab), Some(secs(140)));
        // Data from both ends: the reset was not theirs.
        let data = Tcp {
            data: b"alive",
            ..segment(ACK, 1000, 5000)
        };
        assert_eq!(lab.out(tcp(me, remote, &data)).sent().src(), outside);
        let data = Tcp {
            data: b"me too",
            ..segment(ACK, 5000, 1005)
        };
        lab.inn(tcp(remote, outside, &data)).sent();
        assert_eq!(expires(&lab), Some(secs(7440)));
        // And the end, without data.
        lab.inn(tcp(remote, outside, &segment(RST, 5006, 0))).sent();
        lab.live(secs(240));
        assert!(expires(&lab).is_some());
        lab.live(secs(1));
        assert!(expires(&lab).is_none());
    }
}

#[test]
fn rfc7857_section7_1_an_outbound_reset_refreshes_nothing() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let (me, remote) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        lab.out(tcp(me, remote, &segment(SYN, 1, 0))).sent();
        for _ in 0..4 {
            lab.live(secs(60));
            let _ = lab.out(tcp(me, remote, &segment(RST, 2, 0)));
        }
        lab.live(secs(1));
        assert!(lab.session(6, me, remote).is_none());
    }
}

#[test]
fn every_time_is_configurable_and_kept_to_the_second() {
    let family = V4;
    let times = Timeouts {
        udp: secs(5),
        udp_short: secs(2),
        tcp_opening: secs(3),
        tcp_established: secs(9),
        tcp_closing: secs(4),
        icmp: secs(6),
        other: secs(7),
        below_minimum: true,
        ..Timeouts::default()
    };
    let mut lab = Lab::with(family, |c| {
        c.timeouts = times;
        c.udp_short_ports = vec![53];
    });
    let remote = family.remote(1);
    let me = |n| at(family.inside(2), n);
    lab.map_udp(me(1), at(remote, 99));
    lab.map_udp(me(2), at(remote, 53));
    lab.out(tcp(me(3), at(remote, 80), &segment(SYN, 1, 0)))
        .sent();
    connect(&mut lab, me(4), at(remote, 80));
    let outside = connect(&mut lab, me(5), at(remote, 80));
    lab.inn(tcp(at(remote, 80), outside, &segment(RST, 5000, 0)))
        .sent();
    lab.out(echo(family.inside(2), remote, ECHO, 6, 1)).sent();
    lab.out(raw(family.inside(2), remote, 47, &[0; 8])).sent();
    let mut left = Vec::new();
    for _ in 0..10 {
        left.push(lab.engine().sessions().count());
        lab.live(secs(1));
    }
    // Gone after 2 (short UDP), 3, 4, 5, 6, 7 and 9 seconds, each in the second that follows.
    assert_eq!(left, [7, 7, 7, 6, 5, 4, 3, 2, 1, 1]);
    assert_eq!(lab.engine().sessions().count(), 0);
}
