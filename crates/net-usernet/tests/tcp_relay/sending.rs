//! From the host to the guest: windows, retransmission, readiness.

use super::lab::{ACK, Lab, RST, Seg, ms};
use super::wire::PORT;

#[test]
fn nothing_is_sent_beyond_the_window_and_data_is_consumed_when_acknowledged() {
    let mut lab = Lab::new();
    // 8 units of 128 bytes.
    let conn = lab.open_with(true, 8);
    let bytes: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
    lab.feed(&conn, &bytes);
    assert_eq!(lab.data(conn.ack), bytes[..1024]);
    assert_eq!(
        lab.host.far(conn.socket).inbox.len(),
        3000,
        "kept until acknowledged"
    );
    let mut ack = lab.seg(conn.seq, conn.ack.wrapping_add(1024), ACK);
    ack.window = 8;
    lab.give(&ack);
    assert_eq!(lab.host.far(conn.socket).inbox.len(), 1976);
    assert_eq!(lab.data(conn.ack.wrapping_add(1024)), bytes[1024..2048]);
}

#[test]
fn row52_zero_window_is_probed_and_its_opening_resumes() {
    let mut lab = Lab::new();
    let conn = lab.open_with(true, 0);
    lab.feed(&conn, &[9; 5000]);
    lab.nothing();
    let peeks = lab.host.peeks;
    lab.wait(ms(100_000));
    let probes = lab.taken();
    assert!((4..20).contains(&probes.len()), "{} probes", probes.len());
    for probe in &probes {
        assert_eq!(
            probe.seq,
            conn.ack.wrapping_sub(1),
            "a probe must be answered"
        );
        assert!(probe.payload.is_empty());
    }
    assert_eq!(
        lab.host.peeks, peeks,
        "a stalled flow does not look at the host"
    );
    // The guest answers the probes for hours, and the flow stays.
    for _ in 0..200 {
        let mut ack = lab.seg(conn.seq, conn.ack, ACK);
        ack.window = 0;
        lab.give(&ack);
        lab.wait(ms(60_000));
    }
    lab.taken();
    let ack = lab.seg(conn.seq, conn.ack, ACK);
    lab.give(&ack);
    assert_eq!(lab.data(conn.ack), [9; 5000]);
}

#[test]
fn three_duplicate_acks_send_the_missing_segment_again() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let bytes: Vec<u8> = (0..14_600u32).map(|i| (i / 3) as u8).collect();
    lab.feed(&conn, &bytes);
    assert_eq!(lab.data(conn.ack), bytes);
    let mut ack = lab.seg(conn.seq, conn.ack, ACK);
    ack.window = 512;
    lab.give(&ack);
    lab.give(&ack);
    lab.nothing();
    lab.give(&ack);
    let again = lab.one();
    assert_eq!((again.seq, &again.payload[..]), (conn.ack, &bytes[..1460]));
    // More duplicates are of the same loss.
    lab.give(&ack);
    lab.nothing();
    // A partial acknowledgment shows the next hole.
    ack.ack = conn.ack.wrapping_add(2920);
    lab.give(&ack);
    let again = lab.one();
    assert_eq!(
        (again.seq, &again.payload[..]),
        (ack.ack, &bytes[2920..4380])
    );
    ack.ack = conn.ack.wrapping_add(14_600);
    lab.give(&ack);
    lab.nothing();
    assert_eq!(lab.relay.statistics().retransmits, 2);
    assert!(lab.host.far(conn.socket).inbox.is_empty());
}

#[test]
fn a_time_out_goes_back_backs_off_and_gives_up_with_resets() {
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.feed(&conn, b"hello");
    assert_eq!(lab.data(conn.ack), b"hello");
    let mut last = lab.now;
    let mut gaps = Vec::new();
    loop {
        let at = lab.relay.next_deadline().unwrap();
        lab.wait(at.saturating_sub(lab.now));
        let segs = lab.taken();
        if segs.iter().any(|seg| seg.has(RST)) {
            break;
        }
        for seg in segs {
            assert_eq!(seg.payload, b"hello");
            gaps.push((lab.now - last).as_millis());
            last = lab.now;
        }
    }
    assert!(
        gaps.len() >= 10 && gaps.windows(2).all(|pair| pair[0] <= pair[1]),
        "{gaps:?}"
    );
    assert!(
        gaps.iter().sum::<u128>() > 100_000,
        "at least 100 seconds (RFC 1122, 4.2.3.5)"
    );
    assert!(lab.host.far(conn.socket).reset);
}

#[test]
fn a_full_guest_queue_stops_the_flow_until_there_is_room() {
    for tells_ready in [true, false] {
        let mut lab = Lab::new();
        let conn = lab.open();
        lab.wire.tells_ready = tells_ready;
        lab.wire.room = 3;
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i / 7) as u8).collect();
        lab.feed(&conn, &bytes);
        assert_eq!(lab.wire.sent.len(), 3);
        let peeks = lab.host.peeks;
        lab.settle();
        assert_eq!(lab.host.peeks, peeks, "a stalled flow does no work");
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let more = lab.data(conn.ack.wrapping_add(got.len() as u32));
            assert!(!more.is_empty(), "stuck at {}", got.len());
            got.extend(more);
            lab.relay.guest_writable(PORT);
            lab.settle();
        }
        assert_eq!(got, bytes);
        assert_eq!(lab.relay.statistics().retransmits, 0);
    }
}

#[test]
fn a_paused_guest_is_waited_for_without_work() {
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.wire.room = 2;
    lab.feed(&conn, &[3; 9000]);
    let calls = lab.host.calls;
    // The virtual machine is stopped for an hour.
    assert!(lab.wait(ms(3_600_000)) < 5);
    assert_eq!(lab.host.calls, calls);
    let mut got = lab.data(conn.ack).len();
    for _ in 0..10 {
        lab.relay.guest_writable(PORT);
        lab.settle();
        got = got.max(lab.taken().iter().map(end_of(conn.ack)).max().unwrap_or(0));
    }
    assert_eq!(got, 9000);
    assert_eq!(lab.host.open(), 1);
}

fn end_of(first: u32) -> impl Fn(&Seg) -> usize {
    move |seg| seg.seq.wrapping_sub(first) as usize + seg.payload.len()
}

#[test]
fn row52_keep_alive_probes_of_the_guest_are_answered() {
    let mut lab = Lab::new();
    let conn = lab.open();
    for payload in [vec![], vec![0]] {
        let probe = Seg {
            payload,
            ..lab.seg(conn.seq.wrapping_sub(1), conn.ack, ACK)
        };
        lab.give(&probe);
        let answer = lab.one();
        assert_eq!((answer.seq, answer.ack), (conn.ack, conn.seq));
    }
    assert!(lab.arrived(&conn).is_empty());
}

#[test]
fn without_buffers_a_flow_tries_again_and_does_not_spin() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let held: Vec<_> =
        core::iter::from_fn(|| net_usernet::Egress::buffer(&mut lab.wire, 100)).collect();
    lab.feed(&conn, b"data");
    lab.nothing();
    assert!(lab.wait(ms(100)) < 250);
    drop(held);
    lab.wait(ms(2));
    assert_eq!(lab.data(conn.ack), b"data");
}

#[test]
fn host_data_of_many_small_writes_arrives_whole_with_a_short_reach() {
    let mut lab = Lab::new();
    lab.host.peek_limit = Some(3000);
    let conn = lab.open();
    let bytes: Vec<u8> = (0..50_000u32).map(|i| (i / 11) as u8).collect();
    lab.feed(&conn, &bytes);
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let more = lab.data(conn.ack.wrapping_add(got.len() as u32));
        assert!(!more.is_empty() && more.len() <= 3000 + 1460);
        got.extend(more);
        let ack = lab.seg(conn.seq, conn.ack.wrapping_add(got.len() as u32), ACK);
        lab.give(&ack);
    }
    assert_eq!(got, bytes);
}
