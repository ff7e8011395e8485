//! From the guest to the host: acceptance, windows, trimming.

use super::lab::{ACK, FIN, Lab, RST, Seg, ms};

#[test]
fn row53_a_partial_write_acknowledges_what_was_accepted() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.host.far(conn.socket).outbox_size = 1000;
    let bytes: Vec<u8> = (0..1400u32).map(|i| i as u8).collect();
    lab.push(&mut conn, &bytes, ACK);
    let first = conn.seq.wrapping_sub(1400);
    let ack = lab.one();
    assert_eq!(ack.ack, first.wrapping_add(1000));
    // There is room again: the guest hears of it, and is asked for the rest with duplicates.
    assert_eq!(lab.arrived(&conn), bytes[..1000]);
    let acks = lab.taken();
    assert_eq!(acks.len(), 4, "{acks:?}");
    assert!(acks.iter().all(|seg| seg.ack == first.wrapping_add(1000)));
    let again = Seg {
        payload: bytes,
        ..lab.seg(first, conn.ack, ACK)
    };
    lab.give(&again);
    assert_eq!(lab.one().ack, conn.seq);
    assert_eq!(lab.arrived(&conn), again.payload);
}

#[test]
fn row53_a_fin_is_acknowledged_only_with_all_of_its_data() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.host.far(conn.socket).outbox_size = 600;
    let first = conn.seq;
    lab.push(&mut conn, &[5; 1000], FIN);
    assert_eq!(lab.one().ack, first.wrapping_add(600));
    assert!(!lab.host.far(conn.socket).write_ended);
    lab.arrived(&conn);
    lab.taken();
    conn.seq = first;
    lab.push(&mut conn, &[5; 1000], FIN);
    assert_eq!(lab.one().ack, first.wrapping_add(1001));
    assert!(lab.host.far(conn.socket).write_ended);
    assert_eq!(lab.arrived(&conn), [5; 1000]);
}

#[test]
fn a_retransmission_is_not_delivered_twice_and_an_overlap_is_trimmed() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    let first = conn.seq;
    lab.push(&mut conn, b"abcdef", ACK);
    conn.seq = first;
    lab.push(&mut conn, b"abcdef", ACK);
    conn.seq = first.wrapping_add(3);
    lab.push(&mut conn, b"defghi", ACK);
    conn.seq = first.wrapping_sub(5);
    lab.push(&mut conn, b"?????abcdefghijk", ACK);
    assert_eq!(lab.taken().last().unwrap().ack, first.wrapping_add(11));
    assert_eq!(lab.arrived(&conn), b"abcdefghijk");
}

#[test]
fn a_segment_behind_a_hole_is_dropped_with_a_duplicate_ack() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    let first = conn.seq;
    conn.seq = first.wrapping_add(4);
    lab.push(&mut conn, b"efgh", ACK);
    assert_eq!(lab.one().ack, first);
    lab.push(&mut conn, b"ijkl", FIN);
    assert_eq!(lab.one().ack, first);
    conn.seq = first;
    lab.push(&mut conn, b"abcdefghijkl", FIN);
    assert_eq!(lab.one().ack, first.wrapping_add(13));
    assert_eq!(lab.arrived(&conn), b"abcdefghijkl");
}

#[test]
fn what_lies_beyond_the_window_is_not_taken() {
    let mut lab = Lab::new();
    let mut conn = lab.open_with(false, 1000);
    let window = 57_344;
    let first = conn.seq;
    // The first byte behind the right edge, and one far away.
    for seq in [first.wrapping_add(window), first.wrapping_add(1 << 30)] {
        lab.now += ms(1000);
        conn.seq = seq;
        lab.push(&mut conn, b"x", ACK);
        assert_eq!(lab.one().ack, first);
    }
    // Across the edge: the part within counts.
    lab.host.far(conn.socket).outbox_size = 1 << 20;
    conn.seq = first;
    lab.push(&mut conn, &vec![7; 60_000], FIN);
    assert_eq!(lab.taken()[0].ack, first.wrapping_add(window));
    assert!(!lab.host.far(conn.socket).write_ended);
    assert_eq!(lab.arrived(&conn).len(), window as usize);
}

#[test]
fn row52_a_closed_window_reopens_and_probes_are_answered() {
    let mut lab = Lab::new();
    let mut conn = lab.open_with(false, 1000);
    lab.host.far(conn.socket).outbox_size = 57_344;
    lab.push(&mut conn, &vec![1; 57_344], ACK);
    let closed = lab.one();
    assert_eq!((closed.ack, closed.window), (conn.seq, 0));
    for _ in 0..3 {
        lab.now += ms(1000);
        let probe = Seg {
            payload: vec![2],
            ..lab.seg(conn.seq, conn.ack, ACK)
        };
        lab.give(&probe);
        let answer = lab.one();
        assert_eq!((answer.ack, answer.window), (conn.seq, 0));
    }
    let calls = lab.host.calls;
    lab.wait(ms(60_000));
    assert_eq!(lab.host.calls, calls, "a stalled flow does no work");
    lab.nothing();
    lab.host.drain(conn.socket, 40_000);
    lab.settle();
    let opened = lab.taken();
    assert!(opened[0].window > 30_000, "{opened:?}");
    lab.push(&mut conn, &[2; 1000], ACK);
    assert_eq!(lab.arrived(&conn).len(), 58_344);
}

#[test]
fn acks_of_one_batch_are_one_ack() {
    let mut lab = Lab::new();
    let conn = lab.open();
    for i in 0..20u32 {
        let seg = Seg {
            payload: vec![i as u8; 1000],
            ..lab.seg(conn.seq.wrapping_add(i * 1000), conn.ack, ACK)
        };
        lab.give_packet(
            super::wire::PORT,
            &seg.packet(),
            net_datapath::VirtioNetHdr::PLAIN,
        );
    }
    lab.nothing();
    assert_eq!(lab.relay.next_deadline(), Some(core::time::Duration::ZERO));
    lab.settle();
    assert_eq!(lab.one().ack, conn.seq.wrapping_add(20_000));
}

#[test]
fn row52_urgent_bytes_stay_in_the_stream() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.push(&mut conn, b"be", ACK);
    lab.push(&mut conn, b"quick", net_wire::tcp::TcpFlags::URG);
    lab.push(&mut conn, b"!", ACK);
    assert_eq!(lab.arrived(&conn), b"bequick!");
}

#[test]
fn bad_checksums_and_broken_segments_are_counted_and_dropped() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let good = Seg {
        payload: b"data".to_vec(),
        ..lab.seg(conn.seq, conn.ack, ACK)
    };
    let mut packet = good.packet();
    *packet.last_mut().unwrap() ^= 1;
    lab.give_packet(
        super::wire::PORT,
        &packet,
        net_datapath::VirtioNetHdr::PLAIN,
    );
    assert_eq!(lab.relay.statistics().bad_checksum, 1);
    // With a partial checksum there is nothing to verify.
    let partial = net_datapath::VirtioNetHdr {
        flags: net_datapath::VirtioNetHdr::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..net_datapath::VirtioNetHdr::PLAIN
    };
    lab.give_packet(super::wire::PORT, &packet, partial);
    lab.settle();
    assert_eq!(lab.arrived(&conn), b"dat`");
    let mut malformed = 0;
    for flags in [
        net_wire::tcp::TcpFlags(0),
        net_wire::tcp::TcpFlags::SYN | FIN,
        net_wire::tcp::TcpFlags::SYN | RST,
    ] {
        malformed += 1;
        let bad = lab.seg(1, 2, flags);
        lab.give(&bad);
        assert_eq!(lab.relay.statistics().malformed, malformed);
    }
    let packet = good.packet();
    for len in 0..40 {
        // A frame that ends early is malformed, whatever the IP header claims.
        lab.give_packet(
            super::wire::PORT,
            &packet[..len],
            net_datapath::VirtioNetHdr::PLAIN,
        );
        assert_eq!(lab.relay.statistics().malformed, malformed + len as u64 + 1);
    }
}

#[test]
fn the_window_scale_of_both_sides_counts() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    assert_eq!(conn.shift, 8);
    lab.host.far(conn.socket).outbox_size = 8 << 20;
    lab.push(&mut conn, b"x", ACK);
    let ack = lab.one();
    assert!(usize::from(ack.window) << conn.shift > 6 << 20);
    // And the guest's: 512 units of 128 bytes.
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.feed(&conn, &vec![0; 100_000]);
    let sent: usize = lab.taken().iter().map(|seg| seg.payload.len()).sum();
    assert!((64_000..=65_536).contains(&sent), "{sent}");
}

#[test]
fn segments_of_a_burst_are_held_until_its_end_or_that_of_the_batch() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let burst = |i: u32, flags| Seg {
        payload: vec![i as u8; 100],
        ..lab.seg(conn.seq.wrapping_add(i * 100), conn.ack, flags)
    };
    let push = ACK | net_wire::tcp::TcpFlags::PSH;
    let segs = [burst(0, ACK), burst(1, ACK), burst(2, push), burst(3, ACK)];
    let mut held = Vec::new();
    for seg in &segs {
        let packet = seg.packet();
        lab.give_packet(
            super::wire::PORT,
            &packet,
            net_datapath::VirtioNetHdr::PLAIN,
        );
        held.push(lab.host.far(conn.socket).held);
    }
    assert_eq!(held, [100, 200, 0, 100]);
    lab.settle();
    assert_eq!(lab.host.far(conn.socket).held, 0);
}

#[test]
fn row51_segments_that_change_places_are_not_asked_for_again() {
    let mut lab = Lab::new();
    let conn = lab.open();
    let part = |i: u32| Seg {
        payload: vec![b'a' + i as u8; 100],
        ..lab.seg(conn.seq.wrapping_add(i * 100), conn.ack, ACK)
    };
    let parts = [part(0), part(1), part(2), part(3)];
    for early in [2, 1, 3] {
        lab.give(&parts[early]);
        assert_eq!(lab.one().ack, conn.seq, "nothing is acknowledged early");
    }
    lab.give(&parts[0]);
    assert_eq!(lab.one().ack, conn.seq.wrapping_add(400));
    let got = lab.host.far(conn.socket).outbox.clone();
    let expected: Vec<u8> = (0..4).flat_map(|i| [b'a' + i; 100]).collect();
    assert_eq!(got.into_iter().collect::<Vec<u8>>(), expected);
}
