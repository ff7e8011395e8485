//! The switch: any settings, any frames at any times, with changes between them. Bounds hold, what is
//! isolated or in another VLAN is never reached, the mirror port never speaks, and nobody has the
//! gateway's address.
//!
//! The input is five bytes of bounds, one byte of settings for each port, and steps: a byte of what
//! to do, one of who, one of time, and what that step takes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net_switch::{
    Config, DropReason, Limit, MulticastRouter, PortConfig, PortId, SnoopConfig, Switch,
    UnknownGroups, Verdict, VlanId, may_report,
};
use net_wire::{MacAddr, checksum};

/// The gateway is 0.
const PORTS: u32 = 6;
const GATEWAY: MacAddr = MacAddr([2, 0xff, 0, 0, 0, 1]);

/// What the switch was told, and what it may do therefore.
struct Model {
    ports: Vec<Option<PortConfig>>,
    mirror: Option<PortId>,
}

impl Model {
    fn port(&self, id: PortId) -> Option<&PortConfig> {
        self.ports.get(id as usize)?.as_ref()
    }

    /// Holds a delivery to what is allowed.
    fn check(&self, from: PortId, to: PortId) {
        assert!(from != to && self.mirror != Some(from) && self.mirror != Some(to));
        let (Some(a), Some(b)) = (self.port(from), self.port(to)) else {
            panic!("from {from} to {to}, which is not there");
        };
        let gateway = from == 0 || to == 0;
        assert!(gateway || a.vlan == b.vlan, "{from} reaches {to}");
        assert!(gateway || a.uplink || b.uplink || !(a.isolated || b.isolated));
    }
}

fn config_of(id: PortId, byte: u8) -> PortConfig {
    let vlan = match byte >> 4 & 3 {
        1 => VlanId::new(7),
        2 => VlanId::new(9),
        _ => None,
    };
    let mut config = PortConfig::default()
        .isolated(byte & 1 != 0)
        .uplink(byte & 2 != 0)
        .mirrored(byte & 4 != 0)
        .vlan(vlan)
        .multicast_router(match byte >> 6 {
            0 => MulticastRouter::Always,
            1 => MulticastRouter::Never,
            _ => MulticastRouter::Learned,
        });
    config.allowed_mac = (byte & 8 != 0).then(|| mac(id as u8));
    config
}

/// The gateway's address, a group's, all ones, all zero, one of the link, or a guest's.
fn mac(n: u8) -> MacAddr {
    match n {
        255 => GATEWAY,
        254 => MacAddr::BROADCAST,
        253 => MacAddr::ZERO,
        252 => MacAddr([1, 0x80, 0xc2, 0, 0, 3]),
        251 => MacAddr([1, 0, 0x5e, 1, 2, 3]),
        _ => MacAddr([2, 0, 0, 0, 0, n]),
    }
}

/// Fills in the checksums that a random packet never has.
fn repair(packet: &mut [u8]) {
    let put = |packet: &mut [u8], at: usize, sum: u16| {
        if let Some(field) = packet.get_mut(at..at + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    };
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let header = usize::from(packet[0] & 0xf) * 4;
            if packet.len() < header + 4 || header < 20 {
                return;
            }
            put(packet, 10, 0);
            let sum = checksum::sum(&packet[..header]).finish();
            put(packet, 10, sum);
            put(packet, header + 2, 0);
            let sum = checksum::sum(&packet[header..]).finish();
            put(packet, header + 2, sum);
        }
        Some(6) if packet.len() >= 52 => {
            let at = 40 + (usize::from(packet[41]) + 1) * 8;
            if packet.len() < at + 4 {
                return;
            }
            let address = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
            let pseudo = checksum::pseudo_v6(address(8), address(24), 58, packet.len() - at);
            put(packet, at + 2, 0);
            let sum = (pseudo + checksum::sum(&packet[at..])).finish();
            put(packet, at + 2, sum);
        }
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((bounds, rest)) = bytes.split_first_chunk::<5>() else {
        return;
    };
    let Some((settings, mut rest)) = rest.split_first_chunk::<{ PORTS as usize }>() else {
        return;
    };
    let mut config = Config::new([7; 16]);
    config.addresses = usize::from(bounds[0] & 15);
    config.addresses_per_port = usize::from(bounds[1] & 7);
    config.storm.broadcast = Limit::per_second(bounds[4].into());
    let mut snoop = SnoopConfig::default();
    snoop.memberships = usize::from(bounds[2] & 15);
    snoop.groups_per_port = usize::from(bounds[3] & 7);
    if bounds[3] & 8 != 0 {
        snoop.unknown_groups = UnknownGroups::RoutersOnly;
    }
    config.snooping = (bounds[3] & 16 == 0).then_some(snoop);
    let snoops = config.snooping.is_some();
    let (addresses, share) = (config.addresses, config.addresses_per_port.max(1));

    let mut switch = Switch::new(config);
    let mut model = Model {
        ports: vec![None; PORTS as usize],
        mirror: None,
    };
    switch.add_port(0, PortConfig::default());
    model.ports[0] = Some(PortConfig::default());
    assert!(switch.add_static(GATEWAY, 0));
    for (id, byte) in (1..PORTS).zip(settings) {
        let config = config_of(id, *byte);
        switch.add_port(id, config);
        model.ports[id as usize] = Some(config);
    }

    let mut now = Duration::ZERO;
    let mut frames = 0;
    for _ in 0..256 {
        let Some((&[what, who, time], tail)) = rest.split_first_chunk::<3>() else {
            break;
        };
        rest = tail;
        // From nothing to more than any time there is.
        now += Duration::from_millis(u64::from(time & 31) << (time >> 5) * 2);
        let id = u32::from(who) % (PORTS + 1);
        match what % 8 {
            0..=3 => {
                let Some((&[dst, src, tag], tail)) = rest.split_first_chunk::<3>() else {
                    break;
                };
                rest = tail;
                let tag = (tag & 0x80 == 0).then_some(u16::from(tag) << 9 | u16::from(tag & 15));
                let (dst, src) = (mac(dst), mac(src));
                frames += 1;
                match switch.forward_tagged(id, || tag, dst, src, now) {
                    Verdict::To(to) => model.check(id, to),
                    Verdict::Flood => {}
                    Verdict::Drop(DropReason::NoPort) => assert!(model.port(id).is_none()),
                    Verdict::Drop(_) => continue,
                }
                let Some(port) = model.port(id) else { continue };
                assert!(id == 0 || src != GATEWAY, "{id} poses as the gateway");
                assert!(port.allowed_mac.is_none_or(|allowed| allowed == src));
                let named = tag.is_some_and(|tag| tag & 0x0fff != 0);
                assert!(!named || port.vlan.is_none());
            }
            4 | 5 => {
                let Some((len, tail)) = rest.split_first() else {
                    break;
                };
                let (packet, tail) = tail.split_at(usize::from(*len).min(tail.len()));
                rest = tail;
                let mut packet = packet.to_vec();
                if what & 8 != 0 {
                    repair(&mut packet);
                }
                let _ = may_report(&packet);
                let flooded: Vec<PortId> = switch.flood_targets(id).collect();
                // The mirror port's frames have been refused before.
                if model.mirror == Some(id) {
                    continue;
                }
                let targets = switch.multicast_targets(id, &packet, now);
                for to in &targets {
                    model.check(id, *to);
                    assert!(flooded.contains(to));
                }
                if !snoops {
                    assert_eq!(targets, flooded);
                }
                let routed = |to: &&u32| {
                    let config = model.port(**to);
                    config.is_some_and(|it| it.uplink) || **to == 0
                };
                assert!(flooded.iter().filter(routed).all(|to| targets.contains(to)));
            }
            6 if id != 0 && id < PORTS => {
                let Some((byte, tail)) = rest.split_first() else {
                    break;
                };
                rest = tail;
                let config = config_of(id, *byte);
                switch.add_port(id, config);
                model.ports[id as usize] = Some(config);
            }
            7 if id != 0 => match what >> 3 & 3 {
                0 => switch.forget_port(id),
                1 => {
                    switch.remove_port(id);
                    if let Some(port) = model.ports.get_mut(id as usize) {
                        *port = None;
                    }
                    model.mirror = model.mirror.filter(|mirror| *mirror != id);
                }
                2 => {
                    let made = switch.set_mirror(Some(id));
                    assert_eq!(made, model.port(id).is_some());
                    if made {
                        model.mirror = Some(id);
                    }
                }
                _ => {
                    assert!(switch.set_mirror(None));
                    model.mirror = None;
                }
            },
            _ => {}
        }
        // Each port has room for one address, and may be tied to one besides.
        let ports = PORTS as usize;
        assert!(switch.addresses() <= 1 + ports + (addresses + ports).min(ports * share));
        let (most, each) = (snoop.memberships, snoop.groups_per_port);
        assert!(switch.memberships() <= most.min(each * ports));
    }
    let counted = switch.statistics();
    assert_eq!(
        counted.unicast + counted.flooded + counted.drops.total(),
        frames
    );
});
