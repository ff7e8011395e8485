//! The switch from outside: the rows of layer 2, and a slow switch to compare with.
#![allow(clippy::unwrap_used)] // The slow switch is test code too.

mod changes;
mod group_packets;
mod hosts;
mod mirror;
mod oracle;
mod row68;
mod row69;
mod storm;
mod vlan;

use core::time::Duration;

use net_switch::{Config, PortConfig, Switch};
use net_wire::MacAddr;

const GATEWAY: MacAddr = MacAddr([2, 0xff, 0, 0, 0, 1]);
const NOW: Duration = Duration::from_secs(10);

fn mac(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// A gateway on port 0 and guests on 1 to `guests`.
fn switch(guests: u32) -> Switch {
    with_config(Config::new([3; 16]), guests)
}

fn with_config(config: Config, guests: u32) -> Switch {
    let mut switch = Switch::new(config);
    for id in 0..=guests {
        assert!(switch.add_port(id, PortConfig::default()));
    }
    assert!(switch.add_static(GATEWAY, 0));
    switch
}

/// The ports that a flood goes to, in order.
fn targets(switch: &Switch, from: u32) -> Vec<u32> {
    let mut targets: Vec<u32> = switch.flood_targets(from).collect();
    targets.sort_unstable();
    targets
}
