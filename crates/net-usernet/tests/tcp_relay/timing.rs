//! What happens when nothing happens.

use net_usernet::tcp::RelayConfig;

use super::lab::{ACK, FIN, Lab, RST, config, ms};

#[test]
fn an_idle_flow_does_no_work() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.push(&mut conn, b"a", ACK);
    lab.feed(&conn, b"b");
    let ack = lab.seg(conn.seq, conn.ack.wrapping_add(1), ACK);
    lab.give(&ack);
    lab.taken();
    let calls = lab.host.calls;
    let wakes = lab.wait(config().established - ms(1));
    assert_eq!(lab.host.calls, calls);
    assert!(wakes <= 2, "{wakes} wake-ups in two hours");
    lab.nothing();
}

#[test]
fn row52_an_idle_guest_is_probed_and_stays_when_it_answers() {
    let mut lab = Lab::new();
    let conn = lab.open();
    for _ in 0..3 {
        lab.wait(config().established + ms(10));
        let probe = lab.one();
        assert_eq!((probe.seq, probe.flags), (conn.ack.wrapping_sub(1), ACK));
        let ack = lab.seg(conn.seq, conn.ack, ACK);
        lab.give(&ack);
        lab.nothing();
    }
    assert_eq!(lab.host.open(), 1);
}

#[test]
fn an_idle_guest_that_does_not_answer_is_given_up() {
    let mut lab = Lab::new();
    lab.open();
    lab.wait(config().established + config().probe_interval * 20);
    let sent = lab.taken();
    assert_eq!(sent.len(), usize::from(config().probes) + 1);
    assert!(sent.last().unwrap().has(RST));
    let stats = lab.relay.statistics();
    assert_eq!((stats.flows, stats.timed_out, lab.host.open()), (0, 1, 0));
    assert_eq!(lab.relay.next_deadline(), None, "nothing to wait for");
}

#[test]
fn a_half_closed_flow_is_probed_sooner() {
    let mut lab = Lab::new();
    let mut conn = lab.open();
    lab.push(&mut conn, b"", FIN);
    lab.taken();
    lab.wait(config().half_closed + ms(10));
    assert_eq!(lab.taken().len(), 1);
}

#[test]
fn thousands_of_flows_each_have_their_deadline() {
    let mut lab = Lab::with(RelayConfig {
        half_open_per_port: 10_000,
        flows_per_port: 10_000,
        ..config()
    });
    for i in 0..5000u16 {
        lab.guest.set_port(1000 + i);
        let syn = lab.syn(true);
        lab.give(&syn);
        lab.now += ms(1);
    }
    assert_eq!(lab.relay.statistics().flows, 5000);
    // The first was opened five seconds before the last.
    lab.wait(config().connect - ms(2500));
    assert_eq!(lab.relay.statistics().flows, 2499);
    lab.wait(ms(2600));
    assert_eq!((lab.relay.statistics().flows, lab.host.open()), (0, 0));
    assert_eq!(lab.relay.next_deadline(), None);
}

#[test]
fn a_guest_whose_address_moves_to_another_port_gets_nothing_of_the_flow() {
    let mut lab = Lab::new();
    let conn = lab.open();
    lab.wire.link_mut().port += 1;
    lab.feed(&conn, b"for the old guest only");
    lab.wait(ms(5000));
    lab.nothing();
}
