//! Random histories: several guests on several ports, honest, lying or garbled, in simulated
//! time. Whatever happens, no address has two holders and no port more than its share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use net_dhcp::v4::codec::{Message, MessageType};
use net_dhcp::{Owner, Reservation, Snapshot};
use proptest::prelude::*;

use crate::guest::*;

#[derive(Debug, Clone)]
enum Act {
    /// A message of this kind from client `n` (with an identifier or not) on `port`, about
    /// address `about`, or about the one last given to this client when `about` is 0.
    Send {
        kind: u8,
        n: u8,
        with_id: bool,
        port: u32,
        about: u8,
        named: bool,
    },
    /// The same bytes with one changed, or cut.
    Garble {
        kind: u8,
        n: u8,
        port: u32,
        at: usize,
        to: u8,
        cut: bool,
    },
    Wait(u64),
    PortClosed(u32),
    Reserve {
        n: u8,
        at: u8,
    },
    ReserveAny(u8),
    Release(u8),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // Thirteen addresses, eight clients, four ports: enough contention to meet every branch.
    let act = prop_oneof![
        20 => (0..8u8, 1..9u8, any::<bool>(), 0..4u32, 0..17u8, any::<bool>())
            .prop_map(|(kind, n, with_id, port, about, named)| {
                // Mostly honest conversations, which is what fills the table.
                let about = if about % 3 == 0 { about } else { 0 };
                Act::Send { kind, n, with_id, port, about, named }
            }),
        2 => (0..8u8, 1..9u8, 0..4u32, 0..320usize, any::<u8>(), any::<bool>())
            .prop_map(|(kind, n, port, at, to, cut)| Act::Garble { kind, n, port, at, to, cut }),
        3 => prop_oneof![0..40u64, 0..4000u64].prop_map(Act::Wait),
        1 => (0..4u32).prop_map(Act::PortClosed),
        1 => (1..9u8, 0..17u8).prop_map(|(n, at)| Act::Reserve { n, at }),
        1 => (1..12u8).prop_map(Act::ReserveAny),
        1 => (0..17u8).prop_map(Act::Release),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..200)
}

fn message(kind: u8, n: u8, about: Ipv4Addr) -> Msg {
    match kind {
        0 | 1 => Msg::discover(n).wants(about),
        2 | 3 => Msg::select(n, about),
        4 => Msg::renew(n, about),
        5 => Msg::reboot(n, about),
        6 => Msg::release(n, about),
        _ => Msg::decline(n, about),
    }
}

proptest! {
    #[test]
    fn no_two_live_leases_share_an_address(acts in acts()) {
        const SHARE: usize = 3;
        let config = |c: &mut net_dhcp::ServerConfig| {
            c.prefix_len = 28;
            c.pool = ip(1)..=ip(14);
            c.max_per_port = SHARE;
        };
        let mut s = server_with(config);
        let mut now = Duration::ZERO;
        // The oracle: what each guest believes it holds, and until when.
        let mut believed: BTreeMap<Ipv4Addr, (u32, u8, bool, Duration)> = BTreeMap::new();
        let mut last: BTreeMap<(u32, u8, bool), Ipv4Addr> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Send { kind, n, with_id, port, about, named } => {
                    let who = (port, n, with_id);
                    let about = match about {
                        0 => last.get(&who).copied().unwrap_or(ip(0)),
                        other => ip(other - 1),
                    };
                    let mut msg = message(kind, n, about);
                    if with_id { msg = msg.id(&[0, n % 3]) }
                    if named { msg = msg.name(["a", "b", "gateway"][usize::from(n % 3)]) }
                    let answer = msg.send(&mut s, port, now);
                    believed.retain(|_, (.., until)| *until > now);
                    let kind = msg.options[0].1[0];
                    let ours = |held: Option<&(u32, u8, bool, Duration)>| {
                        // The identifier is the client: it may change its MAC.
                        held.is_some_and(|h| h.0 == port && h.2 == with_id
                            && if with_id { h.1 % 3 == n % 3 } else { h.1 == n })
                    };
                    if [4, 7].contains(&kind) && ours(believed.get(&about)) {
                        believed.remove(&about);
                    }
                    let Some(answer) = answer else { continue };
                    prop_assert_eq!(answer.header().chaddr, mac(n));
                    let given = answer.ip();
                    match answer.kind() {
                        MessageType::Offer | MessageType::Ack => {
                            last.insert(who, given);
                            prop_assert!((2..=14).contains(&given.octets()[3]));
                            // The same machine under another identifier may take over what the
                            // host reserved for its MAC; nobody else may take anything.
                            let held = believed.get(&given);
                            let reserved = s.reservations()
                                .any(|r| r.ip == given && r.owner == Owner::Mac(mac(n)));
                            let same_machine = reserved
                                && held.is_some_and(|h| h.0 == port && h.1 == n);
                            prop_assert!(
                                held.is_none() || ours(held) || same_machine,
                                "{given} given to {who:?} while {held:?} has it"
                            );
                            if same_machine {
                                believed.remove(&given);
                            }
                            if answer.kind() == MessageType::Ack {
                                // One client, one lease.
                                believed.retain(|_, h| !ours(Some(h)));
                                let until = now + Duration::from_secs(3600);
                                believed.insert(given, (port, n, with_id, until));
                            }
                        }
                        _ => prop_assert!(given.is_unspecified()),
                    }
                }
                Act::Garble { kind, n, port, at, to, cut } => {
                    let about = last.get(&(port, n, false)).copied().unwrap_or(ip(3));
                    let mut bytes = message(kind, n, about).bytes();
                    let at = at.min(bytes.len() - 1);
                    if cut { bytes.truncate(at) } else { bytes[at] = to }
                    // The oracle cannot tell what a garbled message means: this guest believes
                    // nothing afterwards.
                    if let Some(reply) = s.handle(port, mac(n), &bytes, now) {
                        prop_assert!(Message::parse(&reply.payload).is_ok());
                    }
                    believed.retain(|_, h| h.0 != port);
                }
                Act::Wait(secs) => {
                    now += Duration::from_secs(secs);
                    s.expire(now);
                    prop_assert!(s.next_deadline().is_none_or(|at| at > now));
                }
                Act::PortClosed(port) => {
                    s.port_closed(port);
                    believed.retain(|_, h| h.0 != port);
                }
                Act::Reserve { n, at } => {
                    let done = s.reserve(Reservation::new(Owner::Mac(mac(n)), ip(at))).is_ok();
                    // Never somebody else's.
                    prop_assert!(!done || believed.get(&ip(at)).is_none_or(|h| h.1 == n || h.3 <= now || h.2));
                }
                Act::ReserveAny(n) => {
                    if let Ok(given) = s.reserve_any(mac(n)) {
                        prop_assert!((2..=14).contains(&given.octets()[3]));
                    }
                }
                Act::Release(at) => {
                    s.release(ip(at));
                    believed.remove(&ip(at));
                }
                Act::Restart => {
                    let bytes = s.snapshot(now).to_bytes();
                    let before = s.leases().count();
                    s = server_with(config);
                    s.restore(&Snapshot::from_bytes(&bytes).unwrap(), Duration::ZERO, now);
                    prop_assert_eq!(s.leases().count(), before);
                    believed.clear();
                }
            }
            s.assert_consistent();
            s.expire(now);
            let leases: Vec<_> = s.leases().collect();
            let addresses: BTreeSet<_> = leases.iter().map(|l| l.ip).collect();
            prop_assert_eq!(addresses.len(), leases.len());
            let names: Vec<_> = leases.iter().filter_map(|l| l.hostname).collect();
            prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
            prop_assert!(!names.contains(&"gateway"));
            // What a guest was told still holds.
            for (ip, (port, .., until)) in &believed {
                if *until > now {
                    let lease = leases.iter().find(|l| l.ip == *ip);
                    prop_assert!(lease.is_some_and(|l| l.port == Some(*port)), "{ip} vanished");
                }
            }
            let reserved: BTreeSet<_> = s.reservations().map(|r| r.ip).collect();
            for port in 0..4 {
                let of_port = leases.iter().filter(|l| l.port == Some(port));
                prop_assert!(of_port.filter(|l| !reserved.contains(&l.ip)).count() <= SHARE);
            }
        }
    }

    #[test]
    fn any_bytes_no_panic(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..8),
    ) {
        let mut s = server();
        for bytes in messages {
            s.handle(1, mac(1), &bytes, at(0));
            // Random bytes rarely get past the cookie: try them as options too.
            let mut framed = Msg::discover(1).bytes();
            framed.truncate(243);
            framed.extend_from_slice(&bytes);
            s.handle(1, mac(1), &framed, at(0));
            s.assert_consistent();
        }
    }
}
