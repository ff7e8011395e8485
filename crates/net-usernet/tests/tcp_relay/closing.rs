//! The ends of a connection: FIN, RST, TIME-WAIT.

use super::lab::{ACK, Conn, FIN, ISS, Lab, RST, SYN, Seg, config, ms};

#[test]
fn row52_the_guest_ends_first_and_still_receives() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.push(&mut conn, b"question", FIN);
    assert_eq!(lab.one().ack, conn.seq);
    assert!(lab.host.far(conn.socket).write_ended);
    assert_eq!(lab.arrived(&conn), b"question");
    lab.wait(ms(30_000));
    lab.feed(&conn, b"answer");
    assert_eq!(lab.data(conn.ack), b"answer");
    conn.ack = conn.ack.wrapping_add(6);
    lab.host.end(conn.socket);
    lab.settle();
    assert!(lab.one().has(FIN));
    let ack = lab.seg(conn.seq, conn.ack.wrapping_add(1), ACK);
    lab.give(&ack);
    // The guest holds TIME-WAIT; here nothing is left.
    assert!(lab.host.far(conn.socket).closed && !lab.host.far(conn.socket).reset);
    assert_eq!(lab.relay.statistics().flows, 0);
}

#[test]
fn row52_the_host_ends_first_and_still_receives() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.host.feed(conn.socket, b"last words");
    lab.host.end(conn.socket);
    lab.settle();
    let sent = lab.taken();
    assert_eq!(sent[0].payload, b"last words");
    assert!(sent[1].has(FIN) && sent.len() == 2);
    conn.ack = conn.ack.wrapping_add(11);
    lab.push(&mut conn, b"and yet", ACK);
    assert_eq!(lab.arrived(&conn), b"and yet");
    lab.push(&mut conn, b"", FIN);
    let last = lab.taken();
    assert_eq!(last.last().unwrap().ack, conn.seq);
    assert!(lab.host.far(conn.socket).closed && lab.host.far(conn.socket).write_ended);
    // TIME-WAIT is ours: a FIN again is acknowledged again, and in the end nothing is left.
    conn.seq = conn.seq.wrapping_sub(1);
    lab.push(&mut conn, b"", FIN);
    assert_eq!(lab.one().ack, conn.seq);
    lab.wait(config().time_wait + ms(1));
    assert_eq!(lab.relay.statistics().flows, 0);
}

#[test]
fn both_ends_at_once() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.host.end(conn.socket);
    lab.settle();
    assert!(lab.one().has(FIN));
    // The guest's FIN crosses ours, which it has not seen.
    lab.push(&mut conn, b"", FIN);
    assert_eq!(lab.one().ack, conn.seq);
    assert!(!lab.host.far(conn.socket).closed);
    let ack = lab.seg(conn.seq, conn.ack.wrapping_add(1), ACK);
    lab.give(&ack);
    assert!(lab.host.far(conn.socket).closed);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.host.feed(conn.socket, b"abc");
    lab.host.end(conn.socket);
    lab.settle();
    lab.taken();
    lab.wait(ms(1100));
    let again = lab.taken();
    assert_eq!(again[0].payload, b"abc");
    assert!(again[1].has(FIN) && again[1].seq == conn.ack.wrapping_add(3));
}

#[test]
fn row52_a_reset_of_the_guest_resets_the_host() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let reset = lab.seg(conn.seq, conn.ack, RST);
    lab.give(&reset);
    lab.nothing();
    assert!(lab.host.far(conn.socket).reset);
    assert_eq!(lab.relay.statistics().resets_received, 1);
}

#[test]
fn row52_a_reset_of_the_host_resets_the_guest() {
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.host.fail(conn.socket);
    lab.settle();
    let reset = lab.one();
    assert!(
        reset.has(RST) && reset.seq == conn.ack,
        "exactly in sequence: {reset:?}"
    );
    assert_eq!((lab.host.open(), lab.relay.statistics().flows), (0, 0));
    // While the guest writes, it is the write that fails.
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.host.far(conn.socket).failed = true;
    lab.push(&mut conn, b"into the void", ACK);
    assert!(lab.one().has(RST));
}

#[test]
fn rfc5961_an_inexact_reset_draws_a_challenge_and_nothing_else() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let reset = lab.seg(conn.seq.wrapping_add(100), conn.ack, RST);
    lab.give(&reset);
    let challenge = lab.one();
    assert_eq!(
        (challenge.flags, challenge.seq, challenge.ack),
        (ACK, conn.ack, conn.seq)
    );
    // Outside the window: nothing at all.
    for seq in [conn.seq.wrapping_sub(1), conn.seq.wrapping_add(1 << 28)] {
        let reset = lab.seg(seq, conn.ack, RST);
        lab.give(&reset);
        lab.nothing();
    }
    assert_eq!(lab.host.open(), 1);
}

#[test]
fn rfc5961_a_syn_on_a_live_flow_draws_a_challenge() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    for seq in [ISS, 77, conn.seq] {
        lab.now += ms(1000);
        let syn = lab.seg(seq, 0, SYN);
        lab.give(&syn);
        let challenge = lab.one();
        assert_eq!((challenge.flags, challenge.ack), (ACK, conn.seq));
    }
    lab.push(&mut conn, b"still here", ACK);
    assert_eq!(lab.arrived(&conn), b"still here");
    // A guest that has restarted answers the challenge with a reset, and may then begin anew.
    let reset = lab.seg(conn.seq, 0, RST);
    lab.give(&reset);
    assert!(lab.host.far(conn.socket).reset);
}

#[test]
fn rfc5961_an_ack_of_what_was_never_sent_draws_a_challenge() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let ack = lab.seg(conn.seq, conn.ack.wrapping_add(1), ACK);
    lab.give(&ack);
    assert_eq!(lab.one().seq, conn.ack);
    // Not again at once: two confused ends must not keep each other busy.
    lab.give(&ack);
    lab.nothing();
    lab.feed(&conn, b"ok");
    assert_eq!(lab.data(conn.ack), b"ok");
}

#[test]
fn a_segment_of_no_flow_is_reset() {
    let mut lab = Lab::new();
    let stray = lab.seg(1000, 2000, ACK);
    lab.give(&stray);
    let reset = lab.one();
    assert_eq!((reset.flags, reset.seq), (RST, 2000));
    let stray = lab.seg(1000, 0, FIN);
    lab.give(&stray);
    let reset = lab.one();
    assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, 0, 1001));
    let stray = lab.seg(1000, 0, RST);
    lab.give(&stray);
    lab.nothing();
}

fn into_time_wait(lab: &mut Lab) -> Conn {
    let mut conn = lab.open();
    lab.host.end(conn.socket);
    lab.settle();
    conn.ack = conn.ack.wrapping_add(1);
    lab.push(&mut conn, b"", FIN);
    lab.taken();
    assert_eq!(lab.relay.statistics().flows, 1);
    conn
}

#[test]
fn row52_time_wait_is_reused_by_a_newer_syn_only() {
    let mut lab = Lab::new();
    let conn = into_time_wait(&mut lab);
    let old = Seg {
        seq: conn.seq.wrapping_sub(5),
        ..lab.syn(true)
    };
    lab.give(&old);
    assert_eq!(lab.one().flags, ACK, "an old duplicate");
    lab.host.instant = true;
    let new = Seg {
        seq: conn.seq.wrapping_add(1),
        ..lab.syn(true)
    };
    lab.give(&new);
    let answer = lab.one();
    assert_eq!(
        (answer.flags, answer.ack),
        (SYN | ACK, new.seq.wrapping_add(1))
    );
    assert!(
        answer.seq.wrapping_sub(conn.ack) < 1 << 31,
        "a sequence number ahead of the old one"
    );
    assert_eq!(lab.relay.statistics().flows, 1);
}

#[test]
fn a_reset_behind_an_accepted_fin_does_not_cut_off_what_was_acknowledged() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.push(&mut conn, b"precious", FIN);
    let reset = lab.seg(conn.seq, conn.ack, RST);
    lab.give(&reset);
    assert!(lab.host.far(conn.socket).closed && !lab.host.far(conn.socket).reset);
}
