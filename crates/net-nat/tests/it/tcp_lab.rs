//! TCP connections on the bench: segments by numbers that count from each side's SYN.

use std::net::SocketAddr;
use std::time::Duration;

use net_nat::config::OutOfWindow;
use net_nat::{DropReason, SessionView, TcpState, Verdict};

use crate::lab::{ACK, Done, Family, Lab, SYN, Tcp, at, tcp};

/// Sequence numbers of the two SYNs; those of the outside wrap within the tests.
pub(crate) const MINE: u32 = 1_000_000;
pub(crate) const THEIRS: u32 = u32::MAX - 20;

/// Window scaling by 7 and SACK, as hosts offer them.
pub(crate) const OFFER: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0];

/// Flags, sequence number, acknowledgment number and length of the data.
pub(crate) type Brief = (u8, u32, u32, usize);

/// One connection between an inside and an outside host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) me: SocketAddr,
    pub(crate) them: SocketAddr,
    /// What the outside sees of `me`.
    pub(crate) seen: SocketAddr,
}

impl Flow {
    /// Inside host 2, port 5000, and outside host 1, port 80, after a SYN from the inside.
    #[track_caller]
    pub(crate) fn syn(lab: &mut Lab, family: Family) -> Self {
        Self::between(
            lab,
            at(family.inside(2), 5000),
            at(family.remote(1), 80),
            &[],
        )
    }

    /// After the three segments of a handshake.
    #[track_caller]
    pub(crate) fn established(lab: &mut Lab, family: Family) -> Self {
        Self::established_with(lab, family, &[])
    }

    /// With these options in both SYNs.
    #[track_caller]
    pub(crate) fn established_with(lab: &mut Lab, family: Family, options: &[u8]) -> Self {
        let (me, them) = (at(family.inside(2), 5000), at(family.remote(1), 80));
        let flow = Self::between(lab, me, them, options);
        let syn_ack = Tcp {
            options,
            ..theirs((SYN | ACK, 0, 1, 0), &[])
        };
        assert!(flow.inn_with(lab, &syn_ack).is_sent());
        assert!(flow.out(lab, (ACK, 1, 1, 0)).is_sent());
        assert_eq!(flow.state(lab), Some(TcpState::Established));
        flow
    }

    #[track_caller]
    pub(crate) fn between(lab: &mut Lab, me: SocketAddr, them: SocketAddr, options: &[u8]) -> Self {
        let syn = Tcp {
            options,
            ..mine((SYN, 0, 0, 0), &[])
        };
        let seen = lab.out(tcp(me, them, &syn)).sent();
        assert_eq!(seen.dst(), them);
        let seen = seen.src();
        Self { me, them, seen }
    }

    /// A segment from the inside.
    #[track_caller]
    pub(crate) fn out(&self, lab: &mut Lab, brief: Brief) -> Done {
        self.out_with(lab, &mine(brief, &payload(brief.3)))
    }

    /// A segment from the outside.
    #[track_caller]
    pub(crate) fn inn(&self, lab: &mut Lab, brief: Brief) -> Done {
        self.inn_with(lab, &theirs(brief, &payload(brief.3)))
    }

    #[track_caller]
    pub(crate) fn out_with(&self, lab: &mut Lab, segment: &Tcp<'_>) -> Done {
        let done = lab.out(tcp(self.me, self.them, segment));
        if let Verdict::Translated(_) = done.verdict {
            assert_eq!(done.packet, tcp_like(&done, self.seen, self.them, segment));
        }
        done
    }

    #[track_caller]
    pub(crate) fn inn_with(&self, lab: &mut Lab, segment: &Tcp<'_>) -> Done {
        let done = lab.inn(tcp(self.them, self.seen, segment));
        if let Verdict::Translated(_) = done.verdict {
            assert_eq!(done.packet, tcp(self.them, self.me, segment));
        }
        done
    }

    pub(crate) fn view(&self, lab: &Lab) -> Option<SessionView> {
        lab.session(6, self.me, self.them)
    }

    pub(crate) fn state(&self, lab: &Lab) -> Option<TcpState> {
        self.view(lab)?.tcp
    }

    /// How long the session lives on.
    pub(crate) fn left(&self, lab: &Lab) -> Option<Duration> {
        Some(self.view(lab)?.expires_in)
    }
}

/// The packet composed with the outside address, but for the identification, which is the engine's.
fn tcp_like(done: &Done, src: SocketAddr, dst: SocketAddr, segment: &Tcp<'_>) -> Vec<u8> {
    let mut ip = crate::lab::Ip::new(src.ip(), dst.ip(), 6);
    ip.id = crate::lab::see(&done.packet).id;
    ip.seal(segment.l4(src.port(), dst.port()))
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| n as u8).collect()
}

/// A segment of the inside host.
pub(crate) fn mine((flags, seq, ack, _): Brief, data: &[u8]) -> Tcp<'_> {
    Tcp {
        flags,
        seq: MINE.wrapping_add(seq),
        ack: if flags & ACK == 0 {
            0
        } else {
            THEIRS.wrapping_add(ack)
        },
        data,
        ..Tcp::default()
    }
}

/// A segment of the outside host.
pub(crate) fn theirs((flags, seq, ack, _): Brief, data: &[u8]) -> Tcp<'_> {
    Tcp {
        flags,
        seq: THEIRS.wrapping_add(seq),
        ack: if flags & ACK == 0 {
            0
        } else {
            MINE.wrapping_add(ack)
        },
        data,
        ..Tcp::default()
    }
}

/// The usual network, and segments outside their window are dropped.
pub(crate) fn strict(family: Family) -> Lab {
    Lab::with(family, |config| config.out_of_window = OutOfWindow::Drop)
}

/// Segments in the order the NAT sees them; `true` from the inside.
pub(crate) type Script = &'static [(bool, Brief)];

/// A handshake from the inside.
pub(crate) const OPEN: Script = &[
    (true, (SYN, 0, 0, 0)),
    (false, (SYN | ACK, 0, 1, 0)),
    (true, (ACK, 1, 1, 0)),
];

/// Sends the segments one by one; all of them must pass and lie in their windows.
#[track_caller]
pub(crate) fn play(lab: &mut Lab, flow: &Flow, what: &str, script: Script) {
    for (n, &(out, brief)) in script.iter().enumerate() {
        let done = if out {
            flow.out(lab, brief)
        } else {
            flow.inn(lab, brief)
        };
        assert!(done.is_sent(), "{what}, segment {n}: {:?}", done.verdict);
    }
    assert_eq!(lab.drops(DropReason::OutOfWindow), 0);
    assert_eq!(lab.engine().counters().out_of_window, 0, "{what}");
}
