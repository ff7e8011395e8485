//! The switch against one that does everything by looking through plain lists.

use core::time::Duration;

use net_switch::{Config, DropReason, Limit, PortConfig, StormLimits, Switch, Verdict, VlanId};
use net_wire::MacAddr;
use proptest::prelude::*;

use crate::{GATEWAY, mac};

const PORTS: u32 = 7;
/// Small enough that each is reached all the time.
const ADDRESSES: usize = 5;
const PER_PORT: usize = 3;
const AGEING: u64 = 6400;
const MOVE: u64 = 1000;

#[derive(Debug, Clone)]
struct Seen {
    mac: MacAddr,
    /// VLAN, or 0.
    domain: u16,
    port: u32,
    renewed: u64,
    moved: u64,
    fixed: bool,
}

/// Entries in the order in which they were last renewed; times in milliseconds.
#[derive(Debug, Default)]
struct Slow {
    seen: Vec<Seen>,
    isolated: Vec<u32>,
    pinned: Vec<(u32, MacAddr)>,
    /// VLAN of each port, or 0.
    domains: Vec<u16>,
}

impl Slow {
    fn old(entry: &Seen, now: u64) -> bool {
        !entry.fixed && now.saturating_sub(entry.renewed) > AGEING
    }

    fn insert(&mut self, mac: MacAddr, port: u32, now: u64) {
        let domain = self.domains[port as usize];
        for _ in 0..4 {
            let oldest = self.seen.iter().position(|entry| !entry.fixed);
            if let Some(oldest) = oldest.filter(|at| Self::old(&self.seen[*at], now)) {
                self.seen.remove(oldest);
            }
        }
        let own = |entry: &&Seen| !entry.fixed && entry.port == port;
        let count = self.seen.iter().filter(own).count();
        let extra: usize = (0..=PORTS)
            .map(|id| {
                let of = |entry: &&Seen| !entry.fixed && entry.port == id;
                self.seen.iter().filter(of).count().saturating_sub(1)
            })
            .sum();
        if count >= PER_PORT || count > 0 && extra >= ADDRESSES {
            let oldest = self.seen.iter().position(|entry| own(&entry)).unwrap();
            self.seen.remove(oldest);
        }
        self.seen.push(Seen {
            mac,
            domain,
            port,
            renewed: now,
            moved: now,
            fixed: false,
        });
    }

    fn learn(&mut self, mac: MacAddr, port: u32, now: u64) -> Result<(), DropReason> {
        if mac == GATEWAY && port != 0 {
            return Err(DropReason::Spoofed);
        }
        let domain = self.domains[port as usize];
        let same = |entry: &Seen| (entry.domain, entry.mac) == (domain, mac);
        let Some(at) = self.seen.iter().position(same) else {
            self.insert(mac, port, now);
            return Ok(());
        };
        let entry = self.seen[at].clone();
        if entry.port == port {
            if !entry.fixed && now.saturating_sub(entry.renewed) > AGEING / 64 {
                let mut entry = self.seen.remove(at);
                entry.renewed = now;
                self.seen.push(entry);
            }
            return Ok(());
        }
        if entry.fixed {
            return Err(DropReason::Spoofed);
        }
        if !Self::old(&entry, now) && now.saturating_sub(entry.moved) < MOVE {
            return Err(DropReason::MoveLimit);
        }
        self.seen.remove(at);
        self.insert(mac, port, now);
        Ok(())
    }

    fn forward(&mut self, from: u32, dst: MacAddr, src: MacAddr, now: u64) -> Verdict {
        if self
            .pinned
            .iter()
            .any(|(id, mac)| *id == from && *mac != src)
        {
            return Verdict::Drop(DropReason::Spoofed);
        }
        if let Err(reason) = self.learn(src, from, now) {
            return Verdict::Drop(reason);
        }
        match self.locate(from, dst, now) {
            None => Verdict::Flood,
            Some(to) if to == from => Verdict::Drop(DropReason::SamePort),
            Some(to) => {
                let shut = self.isolated.contains(&from) || self.isolated.contains(&to);
                if shut && from != 0 && to != 0 {
                    Verdict::Drop(DropReason::Isolated)
                } else {
                    Verdict::To(to)
                }
            }
        }
    }
}

impl Slow {
    fn locate(&self, from: u32, dst: MacAddr, now: u64) -> Option<u32> {
        let fresh = self
            .seen
            .iter()
            .filter(|entry| entry.mac == dst && !Self::old(entry, now));
        let known: Vec<(u16, u32)> = fresh.map(|entry| (entry.domain, entry.port)).collect();
        let domain = self.domains[from as usize];
        let own = known.iter().find(|(it, _)| *it == domain);
        match (own, &known[..]) {
            (Some((_, port)), _) => Some(*port),
            _ if dst == GATEWAY => Some(0),
            // The gateway finds whom there is one of.
            (None, [(_, port)]) if from == 0 => Some(*port),
            _ => None,
        }
    }

    /// A port comes, or comes to another VLAN, with the address that it is pinned to.
    fn place(&mut self, port: u32, domain: u16) {
        self.seen.retain(|entry| entry.port != port);
        self.domains[port as usize] = domain;
        for (_, mac) in self.pinned.iter().filter(|(id, _)| *id == port) {
            self.seen
                .retain(|entry| (entry.domain, entry.mac) != (domain, *mac));
            self.seen.push(fixed(*mac, domain, port));
        }
    }
}

fn fixed(mac: MacAddr, domain: u16, port: u32) -> Seen {
    Seen {
        mac,
        domain,
        port,
        renewed: 0,
        moved: 0,
        fixed: true,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Frame { from: u32, dst: u32, src: u32 },
    Pass(u64),
    Forget(u32),
    Restart(u32),
    Vlan { id: u32, domain: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = prop_oneof![8 => 0u32..12, 1 => Just(u32::MAX)];
    let step = prop_oneof![
        20 => (0..=PORTS, address.clone(), address)
            .prop_map(|(from, dst, src)| Step::Frame { from, dst, src }),
        6 => prop_oneof![0u64..10, 90u64..110, 900u64..1100, 6000u64..7000].prop_map(Step::Pass),
        1 => (1..=PORTS).prop_map(Step::Forget),
        1 => (1..=PORTS).prop_map(Step::Restart),
        1 => (1..=PORTS, prop_oneof![Just(0u16), Just(7), Just(9)])
            .prop_map(|(id, domain)| Step::Vlan { id, domain }),
    ];
    proptest::collection::vec(step, 1..400)
}

/// Port 5 is pinned to an address that others try as well, ports 3 and 4 are isolated.
fn config_of(id: u32, domain: u16) -> PortConfig {
    let config = match id {
        5 => PortConfig::with_mac(mac(5)),
        _ => PortConfig::default().isolated(id == 3 || id == 4),
    };
    config.vlan(VlanId::new(domain))
}

/// At first 6 and 7 are in VLANs.
fn first_domain(id: u32) -> u16 {
    match id {
        6 | 7 => 7,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_the_slow_switch(steps in steps()) {
        let mut config = Config::new([9; 16]);
        config.addresses = ADDRESSES;
        config.addresses_per_port = PER_PORT;
        config.ageing = Duration::from_millis(AGEING);
        config.move_interval = Duration::from_millis(MOVE);
        config.storm = StormLimits::OFF;
        let mut switch = Switch::new(config);
        let mut slow = Slow {
            isolated: vec![3, 4],
            pinned: vec![(5, mac(5))],
            domains: vec![0; PORTS as usize + 1],
            ..Slow::default()
        };
        for id in 0..=PORTS {
            prop_assert!(switch.add_port(id, config_of(id, first_domain(id))));
            slow.place(id, first_domain(id));
        }
        prop_assert!(switch.add_static(GATEWAY, 0));
        slow.seen.push(fixed(GATEWAY, 0, 0));

        let address = |n| if n == u32::MAX { GATEWAY } else { mac(n) };
        let mut now = 1_000_000;
        for step in steps {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Forget(id) => {
                    switch.forget_port(id);
                    slow.seen.retain(|entry| entry.fixed || entry.port != id);
                }
                Step::Restart(id) => {
                    let domain = slow.domains[id as usize];
                    switch.remove_port(id);
                    prop_assert!(switch.add_port(id, config_of(id, domain)));
                    slow.place(id, domain);
                }
                Step::Vlan { id, domain } => {
                    prop_assert!(switch.add_port(id, config_of(id, domain)));
                    if slow.domains[id as usize] != domain {
                        slow.place(id, domain);
                    }
                }
                Step::Frame { from, dst, src } => {
                    let (dst, src) = (address(dst), address(src));
                    let got = switch.forward(from, dst, src, Duration::from_millis(now));
                    prop_assert_eq!(got, slow.forward(from, dst, src, now));
                    prop_assert_eq!(switch.addresses(), slow.seen.len());
                    if let Verdict::To(to) = got {
                        let [a, b] = [from, to].map(|id| slow.domains[id as usize]);
                        prop_assert!(a == b || from == 0 || to == 0, "{from} reaches {to}");
                    }
                }
            }
            prop_assert!(slow.seen.len() <= ADDRESSES + PORTS as usize + 1 + 2);
        }
    }
}

/// Frames of one sender to one address, one after the other, and the milliseconds before them.
type Alike = (u32, u32, u32, Option<u16>, usize, u64);

fn alike() -> impl Strategy<Value = Vec<Alike>> {
    let tag = proptest::option::of(0..3u16);
    let frames = (0..PORTS + 2, 0..9u32, 0..9u32, tag, 1..20usize, 0..3000u64);
    proptest::collection::vec(frames, 1..60)
}

proptest! {
    /// Frames that are decided about together fare as each by itself.
    #[test]
    fn a_run_goes_where_each_of_its_frames_goes(runs in alike(), burst in 0..40u32, vlans: bool) {
        let mut config = Config::new([5; 16]);
        config.addresses = ADDRESSES;
        config.addresses_per_port = PER_PORT;
        let limit = Limit { rate: 3, burst };
        config.storm.broadcast = limit;
        config.storm.unknown_unicast = limit;
        let make = || {
            let mut switch = crate::with_config(config.clone(), PORTS);
            if vlans {
                let vlan = PortConfig::default().vlan(VlanId::new(2));
                switch.add_port(1, vlan);
                switch.add_port(2, vlan.isolated(true));
            }
            switch
        };
        let (mut each, mut together) = (make(), make());
        let mut now = Duration::ZERO;
        for (from, dst, src, tag, count, pause) in runs {
            now += Duration::from_millis(pause);
            let to = match dst {
                0 => MacAddr::BROADCAST,
                1 => GATEWAY,
                _ => mac(dst),
            };
            let mut done = 0;
            while done < count {
                let (verdict, held) =
                    together.forward_run(from, || tag, (to, mac(src)), count - done, now);
                prop_assert!(held >= 1 && held <= count - done);
                for _ in 0..held {
                    let one = each.forward_tagged(from, || tag, to, mac(src), now);
                    prop_assert_eq!(one, verdict);
                }
                done += held;
            }
            prop_assert_eq!(each.statistics(), together.statistics());
            for id in 0..=PORTS {
                prop_assert_eq!(each.port_statistics(id), together.port_statistics(id));
            }
        }
    }
}
