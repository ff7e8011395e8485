//! Every valid sequence of segments passes (RFC 5382, REQ-2), and is in its window for a NAT that drops
//! what is not.

use net_nat::{Direction, TcpState};

use crate::lab::{ACK, BOTH, FIN, PSH, RST, SYN, V4, tcp};
use crate::tcp_lab::{Flow, OPEN, Script, mine, play, strict};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;

/// Valid exchanges behind a handshake from the inside, by what is unusual in them.
const EXCHANGES: &[(&str, Script)] = &[
    (
        "data both ways",
        &[
            (true, (PSH | ACK, 1, 1, 100)),
            (false, (ACK, 1, 101, 0)),
            (false, (PSH | ACK, 1, 101, 1000)),
            (true, (ACK, 101, 1001, 0)),
        ],
    ),
    (
        "both speak at once",
        &[
            (true, (ACK, 1, 1, 100)),
            (false, (ACK, 1, 1, 100)),
            (true, (ACK, 101, 101, 0)),
            (false, (ACK, 101, 101, 0)),
        ],
    ),
    (
        "out of order, then the gap",
        &[
            (true, (ACK, 1001, 1, 1000)),
            (false, (ACK, 1, 1, 0)),
            (true, (ACK, 1, 1, 1000)),
            (false, (ACK, 1, 2001, 0)),
        ],
    ),
    (
        "retransmitted though acknowledged",
        &[
            (true, (ACK, 1, 1, 100)),
            (false, (ACK, 1, 101, 0)),
            (true, (ACK, 1, 1, 100)),
            (false, (ACK, 1, 101, 0)),
        ],
    ),
    (
        "keep-alive and its answer",
        &[
            (true, (ACK, 0, 1, 0)),
            (false, (ACK, 1, 1, 0)),
            (false, (ACK, 0, 1, 1)),
            (true, (ACK, 1, 1, 0)),
        ],
    ),
    (
        "the outside ends first",
        &[
            (false, (FIN_ACK, 1, 1, 0)),
            (true, (ACK, 1, 2, 0)),
            (true, (ACK, 1, 2, 500)),
            (false, (ACK, 2, 501, 0)),
            (true, (FIN_ACK, 501, 2, 0)),
            (false, (ACK, 2, 502, 0)),
        ],
    ),
    (
        "both end at once",
        &[
            (true, (FIN_ACK, 1, 1, 0)),
            (false, (FIN_ACK, 1, 1, 0)),
            (true, (ACK, 2, 2, 0)),
            (false, (ACK, 2, 2, 0)),
        ],
    ),
    (
        "a FIN with data, repeated",
        &[
            (true, (FIN_ACK, 1, 1, 10)),
            (true, (FIN_ACK, 1, 1, 10)),
            (false, (ACK, 1, 12, 0)),
            (false, (FIN_ACK, 1, 12, 10)),
            (true, (ACK, 12, 12, 0)),
            (false, (FIN_ACK, 1, 12, 10)),
            (true, (ACK, 12, 12, 0)),
        ],
    ),
    (
        "a reset instead of an end",
        &[(true, (PSH | ACK, 1, 1, 10)), (false, (RST, 1, 0, 0))],
    ),
    (
        "the handshake's last segment lost",
        &[(false, (SYN_ACK, 0, 1, 0)), (true, (ACK, 1, 1, 0))],
    ),
];

#[test]
fn rfc5382_req2_every_valid_sequence_passes() {
    for family in BOTH {
        for (what, script) in EXCHANGES {
            let mut lab = strict(family);
            let flow = Flow::syn(&mut lab, family);
            play(&mut lab, &flow, what, OPEN);
            play(&mut lab, &flow, what, script);
        }
    }
}

#[test]
fn rfc5382_req2_handshakes_that_are_not_usual() {
    let scripts: &[(&str, Script, TcpState)] = &[
        (
            "SYN repeated",
            &[
                (true, (SYN, 0, 0, 0)),
                (true, (SYN, 0, 0, 0)),
                (false, (SYN_ACK, 0, 1, 0)),
                (false, (SYN_ACK, 0, 1, 0)),
                (true, (ACK, 1, 1, 0)),
            ],
            TcpState::Established,
        ),
        (
            "data with the last segment",
            &[(false, (SYN_ACK, 0, 1, 0)), (true, (PSH | ACK, 1, 1, 300))],
            TcpState::Established,
        ),
        (
            "refused",
            &[(false, (RST | ACK, 0, 1, 0))],
            TcpState::Refused,
        ),
        (
            "refused, and tried again",
            &[
                (false, (RST | ACK, 0, 1, 0)),
                (true, (SYN, 0, 0, 0)),
                (false, (SYN_ACK, 0, 1, 0)),
                (true, (ACK, 1, 1, 0)),
            ],
            TcpState::Established,
        ),
        (
            "ended with the handshake's last segment",
            &[
                (false, (SYN_ACK, 0, 1, 0)),
                (true, (FIN_ACK, 1, 1, 0)),
                (false, (ACK, 1, 2, 0)),
            ],
            TcpState::HalfClosed(Direction::Outbound),
        ),
    ];
    for family in BOTH {
        for (what, script, state) in scripts {
            let mut lab = strict(family);
            let flow = Flow::syn(&mut lab, family);
            play(&mut lab, &flow, what, script);
            assert_eq!(flow.state(&lab), Some(*state), "{what}");
        }
    }
}

#[test]
fn rfc5382_req2_a_segment_in_fragments_and_its_acknowledgment() {
    let mut lab = strict(V4);
    let flow = Flow::established(&mut lab, V4);
    let data = vec![7; 3000];
    let segment = tcp(flow.me, flow.them, &mine((PSH | ACK, 1, 1, 0), &data));
    for piece in crate::lab::fragments(&segment, 1000, 9) {
        assert!(lab.out(piece).is_sent());
    }
    // The first fragment does not say how long the segment is.
    assert!(flow.inn(&mut lab, (ACK, 1, 3001, 0)).is_sent());
    assert!(flow.out(&mut lab, (ACK, 3001, 1, 100)).is_sent());
    assert!(flow.inn(&mut lab, (ACK, 1, 3101, 0)).is_sent());
}
