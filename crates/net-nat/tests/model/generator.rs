//! Configurations and sequences of packets, small enough that everything collides and shrinks.

use std::time::Duration;

use net_nat::config::{Behaviour, Dependence, FamilyConfig, NoResources, OneToOne, OtherProtocols};
use net_nat::{Address, NatConfig, Prefix};
use proptest::prelude::*;

use crate::tables::Tables;
use crate::world::{inside, outside};

/// Who is in front of which part of a packet that a step sends; the driver makes it a packet.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    /// Chooses an existing session, mapping or forward, or somebody new.
    pub(crate) target: u16,
    pub(crate) protocol: u8,
    pub(crate) host: u8,
    pub(crate) remote: u8,
    pub(crate) local_port: u8,
    pub(crate) remote_port: u8,
    /// Which TCP segment.
    pub(crate) kind: u8,
    pub(crate) seq: u32,
    pub(crate) len: u8,
    /// Bits: no UDP checksum, echo reply, may be fragmented, IP options.
    pub(crate) bits: u8,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Milliseconds pass.
    Wait(u64),
    /// One packet, from the inside or not.
    One(bool, Shot),
    /// Several at once.
    Train(bool, Vec<Shot>),
    /// Protocol, outside address and port, inside host and port.
    Publish(u8, u8, u8, u8, u8),
    Withdraw(u8),
    /// Ends the sessions of a host.
    Close(u8),
    /// Clears away at most so many records.
    Expire(u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) v6: bool,
    /// `expire` is called whenever time passes, and everything is certain; otherwise limits that
    /// depend on what cannot be seen are out of reach.
    pub(crate) punctual: bool,
    pub(crate) config: NatConfig,
    pub(crate) steps: Vec<Step>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let steps = prop::collection::vec(step(), 1..120);
    let flags = any::<[bool; 8]>();
    let limits = (
        1..40usize,
        1..30usize,
        1..6usize,
        1..20u32,
        1..12u32,
        0..4u32,
    );
    (any::<bool>(), behaviours(), flags, limits, 0..3u8, steps).prop_map(
        |(v6, behaviours, flags, limits, outsides, steps)| {
            let [punctual, parity, refresh, pickup, short, others, hold, pass] = flags;
            let mut config = empty(v6, 1 + outsides % 2, outsides > 0);
            [config.udp, config.tcp, config.icmp] = behaviours;
            config.port_parity = parity;
            config.inbound_refresh = refresh;
            config.tcp_pickup = pickup;
            config.pass_unmatched = pass;
            config.answer_unsolicited = others;
            if !hold {
                config.timeouts.port_hold = Duration::ZERO;
            }
            if short {
                in_a_hurry(&mut config);
            }
            if !others {
                config.other = OtherProtocols::Refuse;
                config.no_resources = NoResources::Silent;
            }
            let (sessions, mappings, hosts, of_host, mappings_of_host, rate) = limits;
            config.limits.sessions = sessions;
            config.limits.sessions_per_host = of_host;
            config.limits.mappings = 200;
            config.limits.new_per_second = 0;
            if punctual {
                config.limits.mappings = mappings;
                config.limits.hosts = hosts;
                config.limits.mappings_per_host = mappings_of_host;
                config.limits.new_per_second = rate;
                config.limits.new_burst = 3 * rate;
            }
            Case {
                v6,
                punctual,
                config,
                steps,
            }
        },
    )
}

/// The guests' network behind shared addresses and, if so wished, two guests with their own.
pub(crate) fn empty(v6: bool, shared: u8, own: bool) -> NatConfig {
    let mut config = NatConfig::empty([9; 16]);
    config.udp_short_ports = vec![53];
    let addr = |n, host: bool| if host { inside(v6, n) } else { outside(v6, n) };
    if v6 {
        let addr = |n, host| match addr(n, host) {
            std::net::IpAddr::V6(addr) => addr,
            _ => unreachable!(),
        };
        config.ipv6 = Some(family(addr, 64, shared, own));
    } else {
        let addr = |n, host| match addr(n, host) {
            std::net::IpAddr::V4(addr) => addr,
            _ => unreachable!(),
        };
        config.ipv4 = Some(family(addr, 24, shared, own));
    }
    config
}

fn family<A: Address>(
    addr: impl Fn(u8, bool) -> A,
    len: u8,
    shared: u8,
    own: bool,
) -> FamilyConfig<A> {
    let pair = |n| OneToOne {
        inside: addr(n, true),
        outside: addr(10 + n, false),
        open: n % 2 == 0,
    };
    FamilyConfig {
        inside: vec![Prefix::new(addr(0, true), len).expect("a prefix")],
        outside: (1..=shared).map(|n| addr(n, false)).collect(),
        one_to_one: if own { vec![pair(4), pair(5)] } else { vec![] },
    }
}

/// What the reference makes of a configuration.
pub(crate) fn tables(case: &Case) -> Tables {
    fn pairs<A: Address>(family: &FamilyConfig<A>) -> Vec<OneToOne<std::net::IpAddr>> {
        let pairs = family.one_to_one.iter();
        pairs
            .map(|pair| OneToOne {
                inside: pair.inside.into(),
                outside: pair.outside.into(),
                open: pair.open,
            })
            .collect()
    }
    let v4 = case.config.ipv4.as_ref();
    let v6 = case.config.ipv6.as_ref();
    let shared = v4.map(|f| f.outside.iter().map(|&a| a.into()).collect());
    let shared = shared.or(v6.map(|f| f.outside.iter().map(|&a| a.into()).collect()));
    Tables {
        config: case.config.clone(),
        shared: shared.expect("a family"),
        own: v4.map(pairs).or(v6.map(pairs)).expect("a family"),
        now: Duration::ZERO,
        sessions: Vec::new(),
        mappings: Vec::new(),
        hosts: Vec::new(),
    }
}

fn in_a_hurry(config: &mut NatConfig) {
    let t = &mut config.timeouts;
    let seconds = Duration::from_secs;
    t.below_minimum = true;
    (t.udp, t.udp_short, t.icmp, t.other) = (seconds(5), seconds(2), seconds(3), seconds(6));
    (t.tcp_opening, t.tcp_established, t.tcp_closing) = (seconds(4), seconds(30), seconds(3));
    t.port_hold = t.port_hold.min(seconds(4));
}

fn behaviours() -> impl Strategy<Value = [Behaviour; 3]> {
    let dependence = prop_oneof![
        Just(Dependence::EndpointIndependent),
        Just(Dependence::AddressDependent),
        Just(Dependence::AddressAndPortDependent),
    ];
    let behaviour = (dependence.clone(), dependence)
        .prop_map(|(mapping, filtering)| Behaviour { mapping, filtering });
    [behaviour.clone(), behaviour.clone(), behaviour]
}

fn step() -> impl Strategy<Value = Step> {
    let byte = any::<u8>;
    prop_oneof![
        4 => wait().prop_map(Step::Wait),
        12 => (byte(), shot()).prop_map(|(d, shot)| Step::One(d < 150, shot)),
        3 => (byte(), prop::collection::vec(shot(), 1..12))
            .prop_map(|(d, shots)| Step::Train(d < 150, shots)),
        1 => (0..4u8, 0..4u8, 0..4u8, 0..7u8, 0..4u8)
            .prop_map(|(p, o, op, h, ip)| Step::Publish(p, o, op, h, ip)),
        1 => byte().prop_map(Step::Withdraw),
        1 => (0..7u8).prop_map(Step::Close),
        2 => (0..9u8).prop_map(Step::Expire),
    ]
}

fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..3_000u64,
        0..20_000u64,
        prop::sample::select(vec![
            59_999, 60_000, 61_000, 120_000, 121_000, 239_999, 240_000, 241_000, 299_000, 300_000,
            301_000, 601_000, 7_440_000, 7_441_000, 20_000_000,
        ]),
    ]
}

fn shot() -> impl Strategy<Value = Shot> {
    // The last ones are nobody who may be there.
    let host = prop_oneof![12 => 0..6u8, 1 => 6..8u8];
    let remote = prop_oneof![12 => 0..7u8, 1 => 7..10u8];
    let who = (any::<u16>(), 0..8u8, host, remote, 0..5u8, 0..4u8);
    (who, 0..12u8, any::<u32>(), any::<(u8, u8)>()).prop_map(
        |((target, protocol, host, remote, local_port, remote_port), kind, seq, (len, bits))| {
            Shot {
                target,
                protocol,
                host,
                remote,
                local_port,
                remote_port,
                kind,
                seq,
                len: len % 48,
                bits,
            }
        },
    )
}
