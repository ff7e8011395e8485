//! Row 50: whole lives of connections, and ten thousand segments that are none.

use std::sync::{Arc, Mutex};

use net_nat::config::OutOfWindow;
use net_nat::{Direction, DropReason, Event, NatEngine, TcpState, Verdict};

use crate::lab::{ACK, BOTH, FIN, Lab, PSH, RST, SYN, Tcp, V4, at, secs, sum, tcp, udp};
use crate::tcp_lab::{Flow, OFFER, mine, strict, theirs};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;
const HOUR: u64 = 3600;

#[test]
fn row50_a_whole_life() {
    for family in BOTH {
        let mut lab = strict(family);
        let events = Arc::new(Mutex::new(Vec::new()));
        lab.both(|engine: &mut NatEngine| {
            let events = Arc::clone(&events);
            engine.observe(move |event| events.lock().unwrap().push(*event));
        });
        let flow = Flow::syn(&mut lab, family);
        let left = |lab: &Lab| flow.left(lab).map(|left| left.as_secs());
        assert_eq!(left(&lab), Some(240));
        lab.live(secs(200));
        assert!(flow.out(&mut lab, (SYN, 0, 0, 0)).is_sent());
        assert_eq!(left(&lab), Some(240), "a repeated SYN counts as life");
        assert!(flow.inn(&mut lab, (SYN_ACK, 0, 1, 0)).is_sent());
        assert_eq!(left(&lab), Some(240));
        assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert_eq!(left(&lab), Some(124 * 60));
        for hour in 0..3u32 {
            lab.live(secs(2 * HOUR));
            assert!(flow.out(&mut lab, (PSH | ACK, 1 + hour, 1, 1)).is_sent());
            assert!(flow.inn(&mut lab, (ACK, 1, 2 + hour, 0)).is_sent());
            assert_eq!(left(&lab), Some(124 * 60));
        }
        assert!(flow.out(&mut lab, (FIN_ACK, 4, 1, 0)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 5, 0)).is_sent());
        assert_eq!(
            flow.state(&lab),
            Some(TcpState::HalfClosed(Direction::Outbound))
        );
        for hour in 0..5u32 {
            lab.live(secs(2 * HOUR));
            assert!(flow.inn(&mut lab, (ACK, 1 + hour * 10, 5, 10)).is_sent());
            assert!(flow.out(&mut lab, (ACK, 5, 11 + hour * 10, 0)).is_sent());
            assert_eq!(left(&lab), Some(124 * 60), "half closed is not closing");
        }
        assert!(flow.inn(&mut lab, (FIN_ACK, 51, 5, 0)).is_sent());
        assert_eq!(left(&lab), Some(240));
        assert!(flow.out(&mut lab, (ACK, 5, 52, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Closing));
        lab.live(secs(241));
        assert_eq!(flow.view(&lab), None);

        let events = events.lock().unwrap();
        let states: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Opened(view) => (true, view.tcp),
                Event::Closed(view) => (false, view.tcp),
                other => panic!("{other:?}"),
            })
            .collect();
        // Of each of the two engines.
        let opened = (true, Some(TcpState::SynSent(Direction::Outbound)));
        let closed = (false, Some(TcpState::Closing));
        assert_eq!(states, [opened, opened, closed, closed]);
    }
}

#[test]
fn row50_a_reset_is_held_and_data_revives() {
    for family in BOTH {
        let mut lab = strict(family);
        let flow = Flow::established(&mut lab, family);
        assert!(flow.inn(&mut lab, (RST, 1, 0, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Reset));
        lab.live(secs(239));
        // Nothing without data does it, and the time goes on.
        assert!(flow.out(&mut lab, (ACK, 1, 1, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Reset));
        assert!(flow.out(&mut lab, (PSH | ACK, 1, 1, 40)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
        assert_eq!(flow.left(&lab), Some(secs(124 * 60)));
        lab.live(secs(2 * HOUR));
        assert!(flow.inn(&mut lab, (ACK, 1, 41, 0)).is_sent());
    }
}

#[test]
fn row50_mapping_and_port_survive_a_reset_until_the_hold_is_over() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established(&mut lab, family);
        assert!(flow.out(&mut lab, (RST, 1, 0, 0)).is_sent());
        lab.live(secs(241));
        assert_eq!(flow.view(&lab), None);
        assert_eq!(lab.engine().usage().mappings, 1);
        // The port rests: it is its owner's if that comes back, and nobody else's.
        lab.live(secs(110));
        let again = Flow::syn(&mut lab, family);
        assert_eq!(again.seen, flow.seen);
        assert!(again.inn(&mut lab, (RST | ACK, 0, 1, 0)).is_sent());
        lab.live(secs(241 + 121));
        assert_eq!(lab.engine().usage().mappings, 0);
        assert_eq!(lab.engine().usage().hosts, 0);
    }
}

/// A generator of its own, so that nothing here depends on the crates under test.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as u32
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next() as usize % all.len()]
    }
}

#[test]
fn row50_ten_thousand_random_segments_leave_the_tables_sound() {
    for (seed, mode) in [(1, OutOfWindow::Drop), (2, OutOfWindow::Pass)] {
        for family in BOTH {
            let mut noise = Noise(seed);
            let mut lab = Lab::with(family, |config| {
                config.out_of_window = mode;
                config.limits.sessions = 64;
                config.timeouts.port_hold = secs(1);
            });
            let published = at(family.outside(1), 8080);
            lab.forward(6, published, at(family.inside(1), 80)).unwrap();
            for n in 0..10_000 {
                let data = vec![0; noise.of(&[0, 0, 1, 100, 1400]) as usize];
                let segment = Tcp {
                    flags: noise.of(&[
                        SYN,
                        SYN_ACK,
                        ACK,
                        ACK,
                        ACK,
                        FIN_ACK,
                        RST,
                        RST | ACK,
                        0,
                        0x3f,
                    ]),
                    seq: noise
                        .of(&[0, 1, 2, 100, 70_000, u32::MAX])
                        .wrapping_mul(noise.next() % 3),
                    ack: noise.of(&[0, 1, 2, 100, 70_000, u32::MAX]),
                    window: noise.next() as u16,
                    options: noise.of(&[
                        &[][..],
                        OFFER,
                        &[3, 3, 14, 1],
                        &[3, 9, 0, 0],
                        &[8, 0, 0, 0],
                    ]),
                    data: &data,
                };
                let inside = at(
                    family.inside(noise.next() as u16 % 4 + 1),
                    noise.of(&[80, 5000]),
                );
                let remote = at(
                    family.remote(noise.next() as u16 % 4 + 1),
                    noise.of(&[80, 6000]),
                );
                let seen = lab
                    .engine()
                    .sessions()
                    .map(|s| (s.outside, s.remote))
                    .next();
                let done = match (noise.next() % 4, seen) {
                    (0, _) => lab.out(tcp(inside, published, &segment)),
                    (1, _) => lab.inn(tcp(remote, published, &segment)),
                    (2, Some((to, from))) => lab.inn(tcp(
                        at(from.addr, from.port),
                        at(to.addr, to.port),
                        &segment,
                    )),
                    _ => lab.out(tcp(inside, remote, &segment)),
                };
                drop(done);
                if n % 7 == 0 {
                    lab.live(secs(noise.of(&[0, 1, 5, 300])));
                }
                if n % 500 == 0 {
                    lab.validate();
                    drop(lab.outputs());
                }
            }
            lab.live(secs(3 * HOUR));
            assert_eq!(lab.engine().usage().sessions, 0);
        }
    }
}

#[test]
fn row50_a_batch_keeps_the_order_of_a_life() {
    let (me, them) = (at(V4.inside(2), 5000), at(V4.remote(1), 80));
    let mut engine = NatEngine::new(V4.config()).unwrap();
    let now = secs(1);
    // Both families' worth of others between them: UDP, what is no packet, and another guest.
    let mut packets = Vec::new();
    for brief in [
        (SYN, 0, 0, 0),
        (SYN, 0, 0, 0),
        (ACK, 1, 1, 0),
        (PSH | ACK, 1, 1, 10),
        (FIN_ACK, 11, 1, 0),
    ] {
        packets.push(tcp(me, them, &mine(brief, &vec![3; brief.3])));
        packets.push(udp(at(V4.inside(3), 5000), them, b"between"));
        packets.push(vec![0x99; 40]);
    }
    let mut verdicts = vec![Verdict::Pass; packets.len()];
    engine.translate_batch(&mut packets, Direction::Outbound, now, &mut verdicts);
    for (packet, verdict) in packets.iter().zip(&verdicts) {
        if packet[0] == 0x99 {
            assert_eq!(*verdict, Verdict::Drop(DropReason::Malformed));
        } else {
            assert!(matches!(verdict, Verdict::Translated(_)), "{verdict:?}");
            sum::check(packet).unwrap();
        }
    }
    engine.validate().unwrap();
    assert_eq!(engine.usage().sessions, 2);
    let view = engine.sessions().find(|s| s.protocol == 6).unwrap();
    // Nobody has answered: what came behind the SYN changes nothing.
    assert_eq!(view.tcp, Some(TcpState::SynSent(Direction::Outbound)));
    let seen = at(view.outside.addr, view.outside.port);
    let mut answers: Vec<_> = [(SYN_ACK, 0, 1, 0), (ACK, 1, 12, 0), (FIN_ACK, 1, 12, 0)]
        .map(|brief| tcp(them, seen, &theirs(brief, &[])))
        .into();
    let mut verdicts = vec![Verdict::Pass; answers.len()];
    engine.translate_batch(&mut answers, Direction::Inbound, now, &mut verdicts);
    for (answer, verdict) in answers.iter().zip(&verdicts) {
        assert_eq!(*verdict, Verdict::Translated(net_nat::Side::Inside));
        assert_eq!(crate::lab::see(answer).dst(), me);
        sum::check(answer).unwrap();
    }
}
