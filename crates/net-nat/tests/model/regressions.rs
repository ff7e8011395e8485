//! Faults that the reference found in the engine, each in the fewest packets.

use std::time::Duration;

use net_nat::config::{Behaviour, Dependence};
use net_nat::{Direction, DropReason, Endpoint, Side, Verdict};

use crate::differential::Rig;
use crate::generator::{Case, Step, empty};
use crate::packet::{Body, Packet};
use crate::world::{inside, outside, remote};

const IN: Verdict = Verdict::Translated(Side::Inside);
const OUT: Verdict = Verdict::Translated(Side::Outside);

/// Two guests, 4 and 5, have addresses of their own, 14 (open) and 15; nobody calls `expire`.
fn case() -> Case {
    let mut config = empty(false, 1, true);
    config.limits.mappings = 100;
    config.limits.hosts = 100;
    Case {
        v6: false,
        punctual: false,
        config,
        steps: Vec::new(),
    }
}

fn open_filter(case: &mut Case) {
    case.config.udp = Behaviour {
        mapping: Dependence::EndpointIndependent,
        filtering: Dependence::EndpointIndependent,
    };
}

/// A datagram between the `ends`: a guest or an outside address of ours, and a remote.
fn udp(direction: Direction, local: (u8, u16), other: (u8, u16)) -> Packet {
    let host = match direction {
        Direction::Outbound => inside(false, local.0),
        Direction::Inbound => outside(false, local.0),
    };
    let local = Endpoint::new(host, local.1);
    let other = match other.0 {
        // One of ours: hairpin.
        0 => Endpoint::new(outside(false, 1), other.1),
        10.. => Endpoint::new(outside(false, other.0), other.1),
        n => Endpoint::new(remote(false, n), other.1),
    };
    let (src, dst) = match direction {
        Direction::Outbound => (local, other),
        Direction::Inbound => (other, local),
    };
    Packet {
        src,
        dst,
        body: Body::Udp {
            with_checksum: true,
        },
        id: 0,
        dont_fragment: true,
        options: false,
        payload: vec![7],
    }
}

fn out(rig: &mut Rig, guest: (u8, u16), other: (u8, u16)) -> Verdict {
    let packet = udp(Direction::Outbound, guest, other);
    rig.send(Direction::Outbound, vec![packet])[0]
}

fn into(rig: &mut Rig, ours: (u8, u16), other: (u8, u16)) -> Verdict {
    let packet = udp(Direction::Inbound, ours, other);
    rig.send(Direction::Inbound, vec![packet])[0]
}

fn publish(rig: &mut Rig, outside: u8, guest: u8) {
    // UDP, the first published address and a port of the list.
    rig.step(&Step::Publish(0, outside, 0, guest, 0));
}

#[test]
fn a_mapping_cleared_away_while_it_is_called_is_not_used() {
    for hold in [0, 120] {
        let mut case = case();
        open_filter(&mut case);
        case.config.timeouts.port_hold = Duration::from_secs(hold);
        let mut rig = Rig::new(&case);
        // An address of its own keeps the port, so that it is known which one is called.
        assert_eq!(out(&mut rig, (5, 4000), (1, 53)), OUT);
        for wait in [301_000, 121_000] {
            rig.step(&Step::Wait(wait));
            let _ = into(&mut rig, (15, 4000), (2, 53));
            rig.compare_all();
        }
    }
}

#[test]
fn a_call_that_finds_no_room_leaves_no_mapping_behind() {
    let mut case = case();
    case.config.limits.sessions = 1;
    let mut rig = Rig::new(&case);
    assert_eq!(out(&mut rig, (1, 4000), (1, 53)), OUT);
    let full = Verdict::Drop(DropReason::TableFull);
    assert_eq!(into(&mut rig, (14, 80), (2, 53)), full);
    rig.compare_all();
    assert_eq!(rig.single.usage().mappings, 1);
}

#[test]
fn a_call_to_an_own_address_costs_one_token() {
    let mut case = case();
    case.config.limits.new_per_second = 1;
    case.config.limits.new_burst = 1;
    case.punctual = true;
    let mut rig = Rig::new(&case);
    assert_eq!(into(&mut rig, (14, 80), (2, 53)), IN);
    rig.compare_all();
}

#[test]
fn two_outside_ports_of_one_guest_port_do_not_share_a_remote() {
    let mut rig = Rig::new(&case());
    rig.step(&Step::Publish(0, 0, 0, 1, 0));
    rig.step(&Step::Publish(0, 0, 1, 1, 0));
    assert_eq!(into(&mut rig, (1, 80), (2, 6000)), IN);
    let refused = Verdict::Drop(DropReason::Filtered);
    assert_eq!(into(&mut rig, (1, 443), (2, 6000)), refused);
    assert_eq!(into(&mut rig, (1, 443), (2, 6001)), IN);
    rig.compare_all();
}

#[test]
fn an_own_address_keeps_its_port_whomever_it_talks_to() {
    let mut case = case();
    case.config.udp.mapping = Dependence::AddressAndPortDependent;
    let mut rig = Rig::new(&case);
    assert_eq!(out(&mut rig, (4, 4000), (1, 53)), OUT);
    assert_eq!(out(&mut rig, (4, 4000), (2, 53)), OUT);
    rig.compare_all();
}

#[test]
fn a_forward_taken_back_lets_nobody_new_in() {
    let mut case = case();
    open_filter(&mut case);
    let mut rig = Rig::new(&case);
    publish(&mut rig, 0, 1);
    assert_eq!(into(&mut rig, (1, 80), (2, 6000)), IN);
    rig.step(&Step::Withdraw(0));
    assert_eq!(into(&mut rig, (1, 80), (2, 6000)), IN);
    let refused = Verdict::Drop(DropReason::Filtered);
    assert_eq!(into(&mut rig, (1, 80), (3, 6000)), refused);
    rig.compare_all();
}

#[test]
fn a_port_that_rests_after_a_forward_is_not_yet_its_address_owners() {
    let mut rig = Rig::new(&case());
    // Address 14 is guest 4's; its port 80 was guest 1's.
    publish(&mut rig, 2, 1);
    rig.step(&Step::Withdraw(0));
    let nobody = Verdict::Drop(DropReason::NoMapping);
    assert_eq!(into(&mut rig, (14, 80), (2, 53)), nobody);
    rig.step(&Step::Wait(121_000));
    rig.step(&Step::Expire(8));
    assert_eq!(into(&mut rig, (14, 80), (2, 53)), IN);
    rig.compare_all();
}

#[test]
fn who_is_called_at_its_own_address_answers_from_there() {
    let mut rig = Rig::new(&case());
    // Guest 4 is published at a shared address too, and that mapping is the older one.
    publish(&mut rig, 0, 4);
    assert_eq!(into(&mut rig, (14, 80), (2, 53)), IN);
    assert_eq!(out(&mut rig, (4, 80), (2, 53)), OUT);
    assert_eq!(out(&mut rig, (4, 80), (3, 53)), OUT);
    rig.compare_all();
}

#[test]
fn a_packet_that_comes_back_for_nobody_is_not_passed_on_changed() {
    let mut case = case();
    case.config.pass_unmatched = true;
    let mut rig = Rig::new(&case);
    let nobody = Verdict::Drop(DropReason::NoMapping);
    assert_eq!(out(&mut rig, (1, 4000), (15, 80)), nobody);
    assert_eq!(out(&mut rig, (1, 4000), (11, 80)), OUT);
}

#[test]
fn a_hairpin_whose_other_end_has_gone_fares_alike_with_options() {
    let mut case = case();
    case.config.pass_unmatched = true;
    let mut rig = Rig::new(&case);
    publish(&mut rig, 0, 1);
    assert_eq!(out(&mut rig, (2, 4000), (0, 80)), IN);
    rig.step(&Step::Withdraw(0));
    rig.step(&Step::Close(1));
    let nobody = Verdict::Drop(DropReason::NoMapping);
    for options in [false, true] {
        let mut packet = udp(Direction::Outbound, (2, 4000), (0, 80));
        packet.options = options;
        let verdicts = rig.send(Direction::Outbound, vec![packet]);
        assert_eq!(verdicts, [nobody]);
    }
    // Who has not called before calls the host.
    assert_eq!(out(&mut rig, (3, 4000), (0, 80)), Verdict::Pass);
}
