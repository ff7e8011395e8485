//! Snooping among hosts that keep to the rules and routers that come and go, in simulated time.
//!
//! Hosts join and leave, and answer queries as late as they like within the time they are given. The
//! promise: whoever listens is sent what its group is sent, whatever queriers do, however many groups
//! there are; and where nobody was promised more than he listens to, he is sent no more than a slow
//! model says.

use core::time::Duration;
use std::net::IpAddr;

use net_switch::{Config, PortConfig, SnoopConfig, Switch, UnknownGroups};
use proptest::prelude::*;

use crate::group_packets::{data, group4, group6, leave, query, records, report};
use crate::with_config;

const HOSTS: u32 = 5;
const GROUPS: u8 = 4;
const MEMBERSHIP: u64 = 260_000;

#[derive(Debug, Clone)]
enum Step {
    Join {
        host: u32,
        group: u8,
        records: bool,
    },
    Leave {
        host: u32,
        group: u8,
    },
    /// A router asks; each host answers after its own share, in 256ths, of the time there is.
    Query {
        router: u32,
        tenths: u8,
        delays: [u8; HOSTS as usize],
    },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = 1..=HOSTS;
    let group = 0..GROUPS;
    let time = prop_oneof![
        0u64..3000,
        9_000u64..12_000,
        100_000u64..130_000,
        240_000u64..270_000
    ];
    let step = prop_oneof![
        4 => (host.clone(), group.clone(), any::<bool>())
            .prop_map(|(host, group, records)| Step::Join { host, group, records }),
        2 => (host.clone(), group).prop_map(|(host, group)| Step::Leave { host, group }),
        4 => (host, prop_oneof![Just(1u8), Just(100), any::<u8>()], any::<[u8; HOSTS as usize]>())
            .prop_map(|(router, tenths, delays)| Step::Query { router, tenths, delays }),
        5 => time.prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The network: what hosts listen to, and when they will say so.
struct World {
    switch: Switch,
    ipv6: bool,
    /// Groups by host.
    listens: Vec<Vec<u8>>,
    /// Time, host.
    answers: Vec<(u64, u32)>,
    /// What reports have said: host, group, until when.
    heard: Vec<(u32, u8, u64)>,
    /// Ports that have no room: until then.
    crowded: Vec<(u32, u64)>,
    routers: Vec<(u32, u64)>,
    now: u64,
}

impl World {
    fn group(&self, n: u8) -> IpAddr {
        if self.ipv6 {
            group6(n.into())
        } else {
            group4(n)
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn send(&mut self, from: u32, packet: &[u8]) -> Vec<u32> {
        let now = self.time();
        self.switch.multicast_targets(from, packet, now)
    }

    fn says(&mut self, host: u32, group: u8, with_records: bool) {
        let before = self.switch.statistics().snoop.overflows;
        let address = self.group(group);
        let packet = match with_records {
            true => records(self.ipv6, &[(4, 0, 0, address)]),
            false => report(address),
        };
        self.send(host, &packet);
        let until = self.now + MEMBERSHIP;
        if self.switch.statistics().snoop.overflows > before {
            self.crowded.push((host, until));
        } else {
            self.heard.push((host, group, until));
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        self.answers.sort_unstable();
        while self.answers.first().is_some_and(|(at, _)| *at <= end) {
            let (at, host) = self.answers.remove(0);
            self.now = at;
            for group in self.listens[host as usize].clone() {
                self.says(host, group, group % 2 == 0);
            }
        }
        self.now = end;
    }

    /// Sends to every group from every host, and holds the switch to its promise.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for group in 0..GROUPS {
            for from in 1..=HOSTS {
                let packet = data(self.group(group));
                let targets = self.send(from, &packet);
                prop_assert!(targets.contains(&0), "the gateway is sent everything");
                prop_assert!(!targets.contains(&from));
                for host in (1..=HOSTS).filter(|host| *host != from) {
                    let is_sent = targets.contains(&host);
                    if self.listens[host as usize].contains(&group) {
                        prop_assert!(is_sent, "{host} listens to {group} at {}", self.now);
                    }
                    let now = self.now;
                    let known = |heard: &[(u32, u64)]| {
                        heard.iter().any(|(it, until)| *it == host && now < *until)
                    };
                    let was_heard = self
                        .heard
                        .iter()
                        .any(|(it, of, until)| (*it, *of) == (host, group) && now < *until);
                    let flooded = targets.len() == HOSTS as usize;
                    let due = was_heard || known(&self.crowded) || known(&self.routers);
                    prop_assert!(flooded || is_sent <= due, "{host} is sent {group} at {now}");
                }
            }
        }
        Ok(())
    }
}

fn run(steps: Vec<Step>, ipv6: bool, snoop: SnoopConfig) -> Result<(), TestCaseError> {
    let mut config = Config::new([5; 16]);
    config.snooping = Some(snoop);
    let mut world = World {
        switch: with_config(config, HOSTS),
        ipv6,
        listens: vec![Vec::new(); HOSTS as usize + 1],
        answers: Vec::new(),
        heard: Vec::new(),
        crowded: Vec::new(),
        routers: Vec::new(),
        now: 1_000_000,
    };
    world.switch.add_port(HOSTS, PortConfig::default());
    for step in steps {
        match step {
            Step::Pass(milliseconds) => world.pass(milliseconds),
            Step::Join {
                host,
                group,
                records,
            } => {
                let listens = &mut world.listens[host as usize];
                if !listens.contains(&group) {
                    listens.push(group);
                }
                world.says(host, group, records);
            }
            Step::Leave { host, group } => {
                let listens = &mut world.listens[host as usize];
                let before = listens.len();
                listens.retain(|it| *it != group);
                if listens.len() < before {
                    let packet = leave(world.group(group));
                    world.send(host, &packet);
                }
            }
            Step::Query {
                router,
                tenths,
                delays,
            } => {
                let targets = world.send(router, &query(ipv6, tenths));
                prop_assert_eq!(targets.len(), HOSTS as usize, "a query goes everywhere");
                world.routers.push((router, world.now + MEMBERSHIP));
                // IGMPv1 has no field for it, and ten seconds.
                let most = match (ipv6, tenths) {
                    (false, 0) => 10_000,
                    _ => u64::from(tenths) * 100,
                };
                for (host, delay) in (1..).zip(delays) {
                    let delay = most * u64::from(delay) / 256;
                    world.answers.push((world.now + delay, host));
                }
            }
        }
        world.check()?;
        prop_assert!(world.switch.memberships() <= snoop.memberships);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nobody_misses_what_he_listens_to(
        steps in steps(),
        ipv6 in any::<bool>(),
        room in 0usize..8,
        share in 0usize..4,
        strict in any::<bool>(),
    ) {
        let mut snoop = SnoopConfig::default();
        snoop.memberships = room;
        snoop.groups_per_port = share;
        if strict {
            snoop.unknown_groups = UnknownGroups::RoutersOnly;
        }
        run(steps, ipv6, snoop)?;
    }

    /// With room for everybody.
    #[test]
    fn nobody_is_sent_more(steps in steps(), ipv6 in any::<bool>()) {
        let mut snoop = SnoopConfig::default();
        snoop.unknown_groups = UnknownGroups::RoutersOnly;
        run(steps, ipv6, snoop)?;
    }
}
