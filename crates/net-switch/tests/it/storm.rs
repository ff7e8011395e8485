//! Row 68: what a port may have flooded.

use core::time::Duration;

use net_switch::{Config, DropReason, Limit, PortConfig, StormLimits, Switch, Verdict};
use net_wire::MacAddr;

use crate::{NOW, mac, switch, with_config};

const MULTICAST: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 251]);

/// How many of 5,000 frames are flooded.
fn flooded(switch: &mut Switch, from: u32, dst: MacAddr, now: Duration) -> usize {
    (0..5000)
        .filter(|_| switch.forward(from, dst, mac(from), now) == Verdict::Flood)
        .count()
}

#[test]
fn row68_broadcast_and_unknown_unicast_limits() {
    let mut switch = switch(2);
    assert_eq!(flooded(&mut switch, 1, MacAddr::BROADCAST, NOW), 1000);
    assert_eq!(
        flooded(&mut switch, 1, MULTICAST, NOW),
        5000,
        "a budget of its own"
    );
    assert_eq!(flooded(&mut switch, 1, mac(77), NOW), 1000, "another");
    assert_eq!(
        flooded(&mut switch, 2, MacAddr::BROADCAST, NOW),
        1000,
        "each port its own"
    );
    assert_eq!(
        flooded(&mut switch, 0, MacAddr::BROADCAST, NOW),
        5000,
        "the gateway's is free"
    );
    let later = NOW + Duration::from_millis(100);
    assert_eq!(flooded(&mut switch, 1, MacAddr::BROADCAST, later), 100);
    let drops = switch.port_statistics(1).unwrap().drops;
    assert_eq!(drops.of(DropReason::BroadcastLimit), 4000 + 4900);
    assert_eq!(drops.of(DropReason::UnknownLimit), 4000);
    assert_eq!(drops.of(DropReason::MulticastLimit), 0);
}

#[test]
fn row68_each_kind_has_its_limit_and_each_port_may_have_others() {
    let mut config = Config::new([3; 16]);
    config.storm.broadcast = Limit::per_second(1);
    config.storm.multicast = Limit { rate: 2, burst: 20 };
    config.storm.unknown_unicast = Limit::per_second(3);
    let mut switch = with_config(config, 3);
    let mut own = StormLimits::OFF;
    own.multicast = Limit::per_second(7);
    switch.add_port(2, PortConfig::default().storm(own));
    for (from, expected) in [(1, [1, 20, 3]), (2, [5000, 7, 5000]), (3, [1, 20, 3])] {
        let got = [MacAddr::BROADCAST, MULTICAST, mac(77)]
            .map(|dst| flooded(&mut switch, from, dst, NOW));
        assert_eq!(got, expected, "port {from}");
    }
    let drops = switch.statistics().drops;
    assert_eq!(drops.of(DropReason::MulticastLimit), 2 * 4980 + 4993);
    assert_eq!(drops.of(DropReason::BroadcastLimit), 2 * 4999);
    // Settings that leave the limits alone leave the budgets alone.
    switch.add_port(2, PortConfig::default().storm(own).isolated(true));
    assert_eq!(flooded(&mut switch, 2, MULTICAST, NOW), 0);
    // A known address costs nothing.
    switch.forward(3, mac(1), mac(3), NOW);
    assert_eq!(switch.forward(1, mac(3), mac(1), NOW), Verdict::To(3));
}
