//! How long connections are remembered (RFC 5382, REQ-5).

use net_nat::config::Timeouts;
use net_nat::{ConfigError, DropReason, NatEngine};

use crate::lab::{ACK, BOTH, FIN, Lab, RST, SYN, V4, secs};
use crate::tcp_lab::{Flow, OPEN, Script, play};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;

#[test]
fn rfc5382_req5_an_idle_connection_lives_two_hours_and_four_minutes() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established(&mut lab, family);
        for _ in 0..3 {
            lab.live(secs(2 * 3600 + 4 * 60 - 1));
            assert!(flow.inn(&mut lab, (ACK, 1, 1, 0)).is_sent());
        }
        lab.live(secs(2 * 3600 + 4 * 60));
        assert_eq!(flow.left(&lab), Some(secs(0)));
        lab.live(secs(1));
        assert_eq!(flow.view(&lab), None);
        assert_eq!(
            flow.inn(&mut lab, (ACK, 1, 1, 0)).dropped(),
            DropReason::NoMapping
        );
    }
}

#[test]
fn rfc5382_req5_transitory_connections_live_four_minutes() {
    let reach: [(&str, Script); 4] = [
        ("opening", &[]),
        ("answered", &[(false, (SYN_ACK, 0, 1, 0))]),
        (
            "closing",
            &[
                (false, (SYN_ACK, 0, 1, 0)),
                (true, (ACK, 1, 1, 0)),
                (true, (FIN_ACK, 1, 1, 0)),
                (false, (FIN_ACK, 1, 2, 0)),
                (true, (ACK, 2, 2, 0)),
            ],
        ),
        (
            "reset",
            &[
                (false, (SYN_ACK, 0, 1, 0)),
                (true, (ACK, 1, 1, 0)),
                (false, (RST, 1, 0, 0)),
            ],
        ),
    ];
    for family in BOTH {
        for (what, script) in reach {
            let mut lab = Lab::of(family);
            let flow = Flow::syn(&mut lab, family);
            play(&mut lab, &flow, what, script);
            lab.live(secs(240));
            assert!(flow.view(&lab).is_some(), "{what}");
            lab.live(secs(1));
            assert_eq!(flow.view(&lab), None, "{what}");
        }
    }
}

#[test]
fn rfc5382_req5_times_are_configurable_but_not_below_the_minimum() {
    let with = |change: fn(&mut Timeouts)| {
        let mut config = V4.config();
        change(&mut config.timeouts);
        NatEngine::new(config).map(drop)
    };
    for (change, name) in [
        (
            (|t| t.tcp_established = secs(7439)) as fn(&mut Timeouts),
            "tcp_established",
        ),
        (|t| t.tcp_opening = secs(239), "tcp_opening"),
        (|t| t.tcp_closing = secs(239), "tcp_closing"),
    ] {
        let refused = with(change).unwrap_err();
        assert!(
            matches!(refused, ConfigError::Timeout { name: n, .. } if n == name),
            "{refused}"
        );
    }
    let mut lab = Lab::with(V4, |config| {
        config.timeouts.tcp_established = secs(86_400);
        config.timeouts.tcp_opening = secs(300);
        config.timeouts.tcp_closing = secs(600);
    });
    let flow = Flow::syn(&mut lab, V4);
    assert_eq!(flow.left(&lab), Some(secs(300)));
    play(&mut lab, &flow, "open", OPEN);
    assert_eq!(flow.left(&lab), Some(secs(86_400)));
    play(
        &mut lab,
        &flow,
        "end",
        &[(true, (FIN_ACK, 1, 1, 0)), (false, (FIN_ACK, 1, 2, 0))],
    );
    assert_eq!(flow.left(&lab), Some(secs(600)));
}
