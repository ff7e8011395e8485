//! From one inside host to another by their outside addresses (RFC 4787, section 6).

use std::cell::RefCell;

use net_benches::harness::Options;
use net_benches::traffic::{Feed, Flow, Kind};
use net_nat::Direction::Outbound;
use net_nat::config::{Behaviour, Dependence};

use crate::contend::{fill, line, packets};
use crate::engines::{Call, Ours, STEP};
use crate::ladder::{SOME, in_order, shuffled};

/// Each endpoint sends to the outside endpoint of another, which answers: as many sessions as
/// endpoints, and each packet has two of them.
pub(crate) fn all(options: &Options) {
    for flows in crate::flows(options, &SOME) {
        let mut engine = Ours::new(2 * flows, |config| {
            config.udp = Behaviour {
                filtering: Dependence::EndpointIndependent,
                ..Behaviour::default()
            };
            config.limits.mappings = flows;
        });
        // Mappings first, by sessions with the outside that are ended afterwards.
        let outside = engine.open(Kind::Udp, &mut in_order::<14>(Kind::Udp, flows), flows);
        // Half of all flows away, so that the two are not of one host.
        let to_other = |i: usize| {
            let (dst, dst_port) = outside[(i + flows / 2) % flows];
            Flow {
                dst,
                dst_port,
                ..Flow::number(i)
            }
        };
        let opening = (0..flows).map(to_other);
        engine.open(
            Kind::Udp,
            &mut Feed::<14>::new(Kind::Udp, flows, opening),
            flows,
        );
        let remote = |i| Flow::number(i).dst;
        let range = remote(0)..=remote(flows.next_multiple_of(net_benches::traffic::PORTS));
        engine
            .engine
            .close_sessions(|session| match session.remote.addr {
                std::net::IpAddr::V4(addr) => range.contains(&addr.to_bits()),
                std::net::IpAddr::V6(_) => false,
            });
        let engine = RefCell::new(engine);
        let feed = shuffled::<14>(Kind::Udp, flows, to_other);
        let ours = |name, call| line(name, &engine, flows, (call, Outbound, STEP), feed.clone());
        packets(
            &format!("UDP hairpin, {flows} flows, random order, packets"),
            options,
            vec![
                ours("net-nat, batches", Call::Batch),
                ours("net-nat, single", Call::Single),
                fill(flows, feed.clone()),
            ],
        );
    }
}
