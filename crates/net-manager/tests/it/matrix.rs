//! Every mode, and everything that guests do in it: one table, of which each cell is tried or says why
//! there is nothing to try.
//!
//! ```text
//!  guest 0 ─┐                              near                     far
//!  guest 1 ─┼ network ══ host .2 ─ up0 ── .1 198.51.100.0/24  .1 ── .9 203.0.113.0/24
//!  guest 2 ─┘            ::2               ::1 2001:db8:1::/64       ::9 2001:db8:2::/64
//! ```
//!
//! In modes of the kernel two guests are ports of the bridge and the third is behind the worker;
//! in the others all three are behind the worker.

mod world;

use std::net::{IpAddr, SocketAddr};

use net_manager::{Protocol, PublishedPort};

use self::world::{FAR, FAR6, Guest, NEAR, NEAR6, World};
use crate::peer::PORT;

pub(crate) const CASES: &[(&str, fn())] = &[
    ("matrix_nat_user", || try_all(&NAT_USER)),
    ("matrix_nat_kernel", || try_all(&NAT_KERNEL)),
    ("matrix_nat_fast", || try_all(&NAT_FAST)),
    ("matrix_host_only", || try_all(&HOST_ONLY)),
    ("matrix_host_only_isolated", || try_all(&ISOLATED)),
    ("matrix_bridge", || try_all(&BRIDGE)),
    ("matrix_bridge_joined", || try_all(&BRIDGE_JOINED)),
];

/// The modes, as the world makes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    NatUser,
    NatKernel,
    NatFast,
    HostOnly,
    Isolated,
    Bridge,
    BridgeJoined,
}

/// What there is to see of one kind of traffic in one mode.
#[derive(Clone, Copy)]
enum Cell {
    /// Echo, TCP and UDP arrive, under this address.
    Seen(As),
    /// Nothing arrives.
    Shut,
    /// Only echo, which the gateway answers: there is no host behind it.
    EchoAlone(&'static str),
    NotInThisMode(&'static str),
}

/// The address under which somebody is seen.
#[derive(Clone, Copy)]
enum As {
    Itself,
    /// That of the host outside, or of the network.
    Host,
}

/// One mode. Guests have their addresses by DHCP in all of them.
struct Row {
    mode: Mode,
    /// The router and the name server that the lease names.
    lease: &'static str,
    /// Between each two guests; from each guest to the host, and to two hosts outside.
    guest: Cell,
    host: Cell,
    outside: Cell,
    /// From outside to published ports.
    published: Cell,
    /// The same over IPv6.
    guest6: Cell,
    host6: Cell,
    outside6: Cell,
    published6: Cell,
}

const NO_PORTS: Cell = Cell::NotInThisMode("guests are outside themselves");

const NAT_USER: Row = Row {
    mode: Mode::NatUser,
    lease: "[10.7.0.1] [10.7.0.1]",
    guest: Cell::Seen(As::Itself),
    host: Cell::Seen(As::Host),
    outside: Cell::Seen(As::Host),
    published: Cell::Seen(As::Itself),
    guest6: Cell::Seen(As::Itself),
    host6: Cell::Seen(As::Host),
    outside6: Cell::Seen(As::Host),
    published6: Cell::Seen(As::Itself),
};

const NAT_KERNEL: Row = Row {
    mode: Mode::NatKernel,
    lease: "[10.7.0.1] [10.7.0.2]",
    guest: Cell::Seen(As::Itself),
    host: Cell::Seen(As::Itself),
    outside: Cell::Seen(As::Host),
    published: Cell::Seen(As::Itself),
    guest6: Cell::Seen(As::Itself),
    host6: Cell::Seen(As::Itself),
    outside6: Cell::Seen(As::Host),
    published6: Cell::Seen(As::Itself),
};

const NAT_FAST: Row = Row {
    mode: Mode::NatFast,
    lease: "[10.7.0.1] [10.7.0.1]",
    guest: Cell::Seen(As::Itself),
    host: Cell::EchoAlone("the outside address is the network's and not the host's"),
    outside: Cell::Seen(As::Host),
    published: Cell::Seen(As::Itself),
    guest6: Cell::Seen(As::Itself),
    host6: Cell::EchoAlone("the outside address is the network's and not the host's"),
    outside6: Cell::Seen(As::Host),
    published6: Cell::Seen(As::Itself),
};

const HOST_ONLY: Row = Row {
    mode: Mode::HostOnly,
    lease: "[] [10.7.0.2]",
    guest: Cell::Seen(As::Itself),
    host: Cell::Seen(As::Itself),
    outside: Cell::Shut,
    // A guest that has a route back, as the world gives it here.
    published: Cell::Seen(As::Itself),
    guest6: Cell::Seen(As::Itself),
    host6: Cell::Seen(As::Itself),
    outside6: Cell::Shut,
    published6: Cell::Seen(As::Itself),
};

const ISOLATED: Row = Row {
    mode: Mode::Isolated,
    guest: Cell::Shut,
    guest6: Cell::Shut,
    ..HOST_ONLY
};

const BRIDGE: Row = Row {
    mode: Mode::Bridge,
    lease: "[198.51.100.1] [198.51.100.1]",
    guest: Cell::Seen(As::Itself),
    host: Cell::Seen(As::Itself),
    outside: Cell::Seen(As::Itself),
    published: NO_PORTS,
    guest6: Cell::Seen(As::Itself),
    host6: Cell::Seen(As::Itself),
    outside6: Cell::Seen(As::Itself),
    published6: NO_PORTS,
};

const BRIDGE_JOINED: Row = Row {
    mode: Mode::BridgeJoined,
    ..BRIDGE
};

/// What is transferred each way.
const STREAM: u64 = 1 << 20;
const DATAGRAM: usize = 1200;

fn try_all(row: &Row) {
    let mut world = World::new(row.mode);
    for guest in &world.guests {
        assert!(guest.lease.ends_with(row.lease), "{}", guest.lease);
    }
    let network = world.address_of_the_network();
    for six in [false, true] {
        let (guest, host, outside, published) = match six {
            false => (row.guest, row.host, row.outside, row.published),
            true => (row.guest6, row.host6, row.outside6, row.published6),
        };
        let guests: Vec<IpAddr> = world.guests.iter().map(|it| it.address(six)).collect();
        let others = [guests[1], guests[2], guests[0]];
        if let Cell::Shut = guest {
            shut(&mut world.guests, &others);
        } else {
            for (from, to) in world.guests.iter_mut().zip(others) {
                meets(std::slice::from_mut(from), six, &[to], guest, network);
            }
        }
        let host_ip = world.host(six);
        meets(&mut world.guests, six, &[host_ip], host, network);
        let hosts = match six {
            false => [NEAR, FAR],
            true => [NEAR6, FAR6],
        };
        let hosts = hosts.map(|text| text.parse().unwrap());
        meets(&mut world.guests, six, &hosts, outside, network);
        publish(&mut world, six, published);
    }
}

/// Tries one cell: these guests and each of those hosts.
fn meets(guests: &mut [Guest], six: bool, hosts: &[IpAddr], cell: Cell, network: [IpAddr; 2]) {
    match cell {
        Cell::NotInThisMode(why) => println!("not in this mode: {why}"),
        Cell::EchoAlone(why) => {
            println!("echo alone: {why}");
            for guest in guests {
                hosts.iter().for_each(|host| echo(guest, *host));
            }
        }
        Cell::Seen(seen) => {
            for guest in guests {
                let seen = match seen {
                    As::Itself => guest.address(six),
                    As::Host => network[usize::from(six)],
                };
                for host in hosts {
                    echo(guest, *host);
                    let server = SocketAddr::new(*host, PORT);
                    let by_tcp = guest.peer.ask(&format!("tcp {server} {STREAM}"));
                    assert_eq!(by_tcp, seen.to_string(), "TCP to {server}");
                    let by_udp = guest.peer.ask(&format!("udp {server} {DATAGRAM}"));
                    assert_eq!(by_udp, seen.to_string(), "UDP to {server}");
                }
            }
        }
        Cell::Shut => {
            for host in hosts {
                shut(guests, &vec![*host; guests.len()]);
            }
        }
    }
}

/// Each of these guests does not reach its host. All try at once: that nobody answers takes seconds.
fn shut(guests: &mut [Guest], hosts: &[IpAddr]) {
    for kind in ["ping", "tcp", "udp"] {
        for (guest, host) in guests.iter_mut().zip(hosts) {
            let server = SocketAddr::new(*host, PORT);
            guest.peer.begin(&match kind {
                "ping" => ping(*host),
                _ => format!("{kind} {server} 1"),
            });
        }
        for (guest, host) in guests.iter_mut().zip(hosts) {
            let answer = guest.peer.end();
            // An error that the host or the gateway tells is no answer of that host.
            let refused = answer.starts_with("error") || answer.starts_with("3/");
            assert!(refused, "{kind} {host}: {answer}");
        }
    }
}

fn ping(host: IpAddr) -> String {
    match host {
        IpAddr::V4(host) => format!("ping {host} 64"),
        IpAddr::V6(host) => format!("ping6 {host}"),
    }
}

#[track_caller]
fn echo(guest: &mut Guest, host: IpAddr) {
    let answer = guest.peer.ask(&ping(host));
    let expected = match host {
        IpAddr::V4(_) => format!("0/0 from {host}"),
        IpAddr::V6(_) => format!("echo from {host}"),
    };
    assert_eq!(answer, expected);
}

/// From both hosts outside to ports of every guest, which see who asks; and no longer when the ports
/// are taken back.
fn publish(world: &mut World, six: bool, cell: Cell) {
    let any: IpAddr = match six {
        false => "0.0.0.0".parse().unwrap(),
        true => "::".parse().unwrap(),
    };
    let port = |n: usize, protocol, guest: &Guest| PublishedPort {
        protocol,
        bind: SocketAddr::new(any, 8000 + n as u16),
        guest: Some(guest.ip),
        guest_port: PORT,
    };
    let Cell::Seen(As::Itself) = cell else {
        if let Cell::NotInThisMode(why) = cell {
            println!("not in this mode: {why}");
        }
        // What cannot work is refused, where nothing else of the same kind can.
        if let (Mode::Bridge | Mode::BridgeJoined, false) = (world.mode, six) {
            let refused = port(0, Protocol::Tcp, &world.guests[0]);
            assert!(world.network.publish(refused).is_err());
        }
        return;
    };
    let host = world.published_at(six);
    for n in 0..world.guests.len() {
        let published = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
            let port = port(n, protocol, &world.guests[n]);
            world.network.publish(port).unwrap().id
        });
        let server = SocketAddr::new(host, 8000 + n as u16);
        let requests = [
            format!("tcp {server} {STREAM}"),
            format!("udp {server} {DATAGRAM}"),
        ];
        let outside = match six {
            false => [(&mut world.near, NEAR), (&mut world.far, FAR)],
            true => [(&mut world.near, NEAR6), (&mut world.far, FAR6)],
        };
        for (client, address) in outside {
            for request in &requests {
                assert_eq!(client.ask(request), address, "guest {n}: {request}");
            }
        }
        // Who is connected when the port is withdrawn loses the connection.
        let held = world.near.ask(&format!("hold {server}"));
        assert_eq!(held, "connected", "guest {n}");
        for id in published {
            world.network.unpublish(id).unwrap();
        }
        let held = world.near.ask("held");
        // The translator lets a guest go on from its side: its port rests a while, and is its own.
        if !matches!(world.mode, Mode::NatFast) {
            assert!(held.starts_with("error"), "guest {n}: {held}");
        }
        for request in &requests {
            let refused = world.near.ask(request);
            assert!(refused.starts_with("error"), "guest {n}: {refused}");
        }
    }
}
