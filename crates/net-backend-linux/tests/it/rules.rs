//! nftables: what a table of ours lets pass, between a host, its guests and an outside host, each in
//! a network namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use net_backend_linux::netlink::{BridgeOptions, Netlink};
use net_backend_linux::nftables::{Forward, Isolation, Nft, Protocol, Reach, Table};

use net_wire::MacAddr;

use crate::peer::{self, Peer};

const BRIDGE: &str = "ab-test";

fn forward(protocol: Protocol, bind: &str, guest: &str) -> Forward {
    Forward {
        protocol,
        bind: bind.parse().expect("an address"),
        guest: guest.parse().expect("an address"),
    }
}

fn table(reach: Reach) -> Table {
    Table {
        network: "test".into(),
        bridge: BRIDGE.into(),
        reach,
        subnet4: "10.88.0.0/24".parse().ok(),
        subnet6: "fd88::/64".parse().ok(),
        ..Table::default()
    }
}

/// Everything nft knows, as text.
fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    String::from_utf8(output.expect("nft").stdout).expect("text")
}

fn probe() -> Option<Nft> {
    match Nft::probe() {
        Ok(nft) => Some(nft),
        Err(error) => {
            println!("skip: {error}");
            None
        }
    }
}

/// Tables come, are replaced and go, and nobody else's is touched.
pub(crate) fn tables() {
    let Some(nft) = probe() else { return };
    assert_eq!(ruleset(), "", "a probe changes nothing");
    let script = "table inet others {
 chain c {
 type filter hook forward priority 5; policy drop;
 }
}
\
                  table ip arcbox {
 chain d {
 }
}
";
    let status = Command::new("nft").arg(script).status().expect("nft");
    assert!(status.success());
    let others = ruleset();

    assert_eq!(nft.networks().expect("networks"), [""; 0]);
    let mut wanted = table(Reach::Nat);
    wanted.forwards = vec![
        forward(Protocol::Tcp, "0.0.0.0:80", "10.88.0.2:80"),
        forward(Protocol::Udp, "[::]:53", "[fd88::2]:53"),
        forward(Protocol::Tcp, "127.0.0.1:8080", "10.88.0.2:80"),
    ];
    nft.apply(&wanted).expect("applied");
    let first = ruleset();
    assert!(
        first.starts_with(&others) || first.contains(others.trim()),
        "{first}"
    );
    assert!(first.contains("table inet arcbox-test {"), "{first}");
    assert_eq!(first.matches("dnat ip").count(), 5, "{first}");
    nft.apply(&wanted).expect("applied again");
    assert_eq!(ruleset(), first, "the same is the same");
    assert!(nft.exists("test").expect("an answer") && !nft.exists("tes").expect("an answer"));

    let mut second = table(Reach::HostOnly);
    second.network = "second".into();
    second.isolation = Some(Isolation {
        ports: vec!["a".into(), "b".into()],
        gateway: Some(("svc0".into(), "02:00:00:00:00:01".parse().expect("a MAC"))),
        router: None,
    });
    nft.apply(&second).expect("a second network");
    assert!(
        ruleset().contains("table bridge arcbox-second {"),
        "{}",
        ruleset()
    );
    assert_eq!(nft.networks().expect("networks"), ["second", "test"]);
    second.isolation = None;
    nft.apply(&second).expect("without isolation");
    assert!(!ruleset().contains("table bridge"), "{}", ruleset());
    nft.delete("second").expect("gone");
    nft.delete("second").expect("gone already");
    assert_eq!(ruleset(), first);

    // What does not fit leaves everything as it was.
    let mut bad = wanted.clone();
    bad.forwards
        .push(forward(Protocol::Tcp, "[::1]:80", "[fd88::2]:80"));
    assert!(nft.apply(&bad).is_err());
    bad = wanted.clone();
    bad.network = "x\"; flush ruleset; \"".into();
    assert!(nft.apply(&bad).is_err());
    assert_eq!(ruleset(), first);

    let obstacles = nft.forward_obstacles(BRIDGE).expect("obstacles");
    assert!(
        obstacles[0].contains("inet others") && obstacles[0].contains(BRIDGE),
        "{obstacles:?}"
    );
    nft.delete("test").expect("gone");
    assert_eq!(ruleset(), others);
}

/// The host's side of three namespaces: an outside host, and two guests on a bridge.
struct World {
    nft: Nft,
    outside: Peer,
    guests: [Peer; 2],
}

fn world() -> Option<World> {
    let nft = probe()?;
    let netlink = Netlink::new().expect("netlink");
    let (Some(mut outside), Some(mut one), Some(mut two)) = (
        Peer::start("outside"),
        Peer::start("one"),
        Peer::start("two"),
    ) else {
        println!("skip: there is no unshare");
        return None;
    };
    // Without br_netfilter, or as without it; the bridge uses its own address at once.
    bridged_frames_are_filtered("0");
    fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("a sysctl");
    let up = |name: &str, addresses: &[&str]| {
        let index = netlink.link(name).expect("the link").index;
        netlink.set_up(index).expect("up");
        for address in addresses {
            netlink
                .add_address(index, address.parse().expect("an address"))
                .expect("an address");
        }
        index
    };
    let bridge = netlink
        .create_bridge(BRIDGE, &BridgeOptions::default())
        .expect("a bridge");
    peer::wire(&netlink, "up0", &outside);
    up("up0", &["198.51.100.1/24", "2001:db8:51::1/64"]);
    for (name, guest) in [("g1", &one), ("g2", &two)] {
        peer::wire(&netlink, name, guest);
        let index = up(name, &[]);
        netlink
            .set_bridge(index, Some(bridge.index))
            .expect("a port");
    }
    up(BRIDGE, &["10.88.0.1/24", "fd88::1/64"]);
    for (path, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/ab-test/route_localnet", "1"),
    ] {
        fs::write(format!("/proc/sys/net/{path}"), value).expect("a sysctl");
    }
    // The outside host has a way to the guests' network, so that only rules keep it out.
    outside.ask("up 198.51.100.9/24 2001:db8:51::9/64 198.51.100.1 2001:db8:51::1");
    one.ask("up 10.88.0.2/24 fd88::2/64 10.88.0.1 fd88::1");
    two.ask("up 10.88.0.3/24 fd88::3/64 10.88.0.1 fd88::1");
    Some(World {
        nft,
        outside,
        guests: [one, two],
    })
}

/// Whether frames between ports of a bridge pass the rules of IP too (`br_netfilter`); nothing where
/// the kernel does not have it.
fn bridged_frames_are_filtered(value: &str) -> bool {
    ["iptables", "ip6tables"]
        .iter()
        .all(|kind| fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{kind}"), value).is_ok())
}

impl World {
    /// Who reaches whom, and under which address: `client question` to `server saw address`.
    fn check(&mut self, expected: &[(&str, &str, &str)]) {
        let mut wrong = BTreeMap::new();
        for (client, question, answer) in expected {
            let got = match *client {
                "host" => peer::question(question),
                "outside" => self.outside.ask(question),
                "one" => self.guests[0].ask(question),
                _ => self.guests[1].ask(question),
            };
            if got != *answer {
                wrong.insert(format!("{client}: {question}"), (got, *answer));
            }
        }
        assert!(wrong.is_empty(), "got, expected: {wrong:#?}\n{}", ruleset());
    }
}

/// What nothing answers.
const NONE: &str = "none";

/// Kernel NAT: out under the host's address, in by published ports alone, with the client's address.
pub(crate) fn nat() {
    let Some(mut world) = world() else { return };
    let mut rules = table(Reach::Nat);
    rules.forwards = vec![
        forward(Protocol::Tcp, "0.0.0.0:8080", "10.88.0.2:80"),
        forward(Protocol::Udp, "198.51.100.1:8081", "10.88.0.2:80"),
        forward(Protocol::Tcp, "[::]:8080", "[fd88::2]:80"),
        forward(Protocol::Tcp, "127.0.0.1:8082", "10.88.0.3:80"),
    ];
    world.nft.apply(&rules).expect("applied");
    let expected = [
        // Out, and to each other and the host.
        ("one", "tcp 198.51.100.9:80", "outside saw 198.51.100.1"),
        ("one", "udp 198.51.100.9:80", "outside saw 198.51.100.1"),
        (
            "two",
            "tcp [2001:db8:51::9]:80",
            "outside saw 2001:db8:51::1",
        ),
        ("one", "tcp 10.88.0.3:80", "two saw 10.88.0.2"),
        ("host", "tcp 10.88.0.2:80", "one saw 10.88.0.1"),
        // In: published ports, and nothing else.
        ("outside", "tcp 198.51.100.1:8080", "one saw 198.51.100.9"),
        ("outside", "udp 198.51.100.1:8081", "one saw 198.51.100.9"),
        (
            "outside",
            "tcp [2001:db8:51::1]:8080",
            "one saw 2001:db8:51::9",
        ),
        ("outside", "tcp 198.51.100.1:8081", NONE),
        ("outside", "tcp 198.51.100.1:8082", NONE),
        ("outside", "tcp 10.88.0.2:80", NONE),
        ("outside", "udp [fd88::2]:80", NONE),
        // The host's own clients, by every address of the host.
        ("host", "tcp 127.0.0.1:8080", "one saw 10.88.0.1"),
        ("host", "tcp 198.51.100.1:8080", "one saw 198.51.100.1"),
        ("host", "tcp 127.0.0.1:8082", "two saw 10.88.0.1"),
        (
            "host",
            "tcp [2001:db8:51::1]:8080",
            "one saw 2001:db8:51::1",
        ),
        // Guests by the host's published address, even their own.
        ("two", "tcp 198.51.100.1:8080", "one saw 10.88.0.1"),
        ("one", "tcp 198.51.100.1:8080", "one saw 10.88.0.1"),
        ("two", "tcp 10.88.0.1:8080", "one saw 10.88.0.1"),
        ("two", "tcp [fd88::1]:8080", "one saw fd88::1"),
    ];
    world.check(&expected);
    if bridged_frames_are_filtered("1") {
        // Connections are led to a guest before they reach the host, and not back out of the port
        // that they came by, unless that is a hairpin.
        let own = |row: &&(&str, &str, &str)| row.0 != "one" || !row.1.contains("198.51.100.1:");
        let others: Vec<_> = expected.iter().filter(own).copied().collect();
        assert_eq!(others.len(), expected.len() - 1);
        world.check(&others);
    }
    // A guest that sends to 127.0.0.1 by way of the host gets nothing of the host's.
    let listener = std::net::TcpListener::bind("127.0.0.1:9090").expect("a listener");
    listener.set_nonblocking(true).expect("no waiting");
    world.guests[0].ask("loopback-by 10.88.0.1");
    world.check(&[("one", "tcp 127.0.0.1:9090", NONE)]);
    assert!(
        listener.accept().is_err(),
        "a guest reached the host's loopback"
    );

    // Withdrawn while running; the others stay.
    rules.forwards.remove(0);
    world.nft.apply(&rules).expect("applied");
    world.check(&[
        ("outside", "tcp 198.51.100.1:8080", NONE),
        (
            "outside",
            "tcp [2001:db8:51::1]:8080",
            "one saw 2001:db8:51::9",
        ),
    ]);
    // A guest with an address that is not the network's gets nowhere under it.
    world.guests[1].ask("up 203.0.113.5/24 fd99::5/64 203.0.113.1 fd99::1");
    world.check(&[("two", "udp-from 203.0.113.5 198.51.100.9:80", NONE)]);
}

/// Host-only: the host and each other, and what is published.
pub(crate) fn host_only() {
    let Some(mut world) = world() else { return };
    world.nft.apply(&table(Reach::HostOnly)).expect("applied");
    let apart = [
        ("one", "tcp 198.51.100.9:80", NONE),
        ("one", "udp 198.51.100.9:80", NONE),
        ("one", "tcp [2001:db8:51::9]:80", NONE),
        ("outside", "tcp 10.88.0.2:80", NONE),
        ("outside", "tcp [fd88::2]:80", NONE),
        ("one", "tcp 10.88.0.3:80", "two saw 10.88.0.2"),
        ("host", "tcp 10.88.0.2:80", "one saw 10.88.0.1"),
    ];
    world.check(&apart);
    let mut rules = table(Reach::HostOnly);
    rules.forwards = vec![
        forward(Protocol::Tcp, "198.51.100.1:8080", "10.88.0.2:80"),
        forward(Protocol::Tcp, "127.0.0.1:8082", "10.88.0.3:80"),
    ];
    world.nft.apply(&rules).expect("applied");
    world.check(&apart);
    world.check(&[
        ("outside", "tcp 198.51.100.1:8080", "one saw 198.51.100.9"),
        ("host", "tcp 127.0.0.1:8082", "two saw 10.88.0.1"),
    ]);
}

/// Isolation: guests reach the host and the outside, not one another.
pub(crate) fn isolation() {
    let Some(mut world) = world() else { return };
    let mut rules = table(Reach::Nat);
    rules.isolation = Some(Isolation {
        ports: vec!["g1".into(), "g2".into()],
        gateway: None,
        router: None,
    });
    if let Err(error) = world.nft.apply(&rules) {
        return println!("skip: no rules for bridges: {error}");
    }
    world.check(&[
        ("one", "tcp 10.88.0.3:80", NONE),
        ("two", "udp [fd88::2]:80", NONE),
        ("one", "tcp 198.51.100.9:80", "outside saw 198.51.100.1"),
        ("host", "tcp 10.88.0.2:80", "one saw 10.88.0.1"),
    ]);
    // With the gateway behind a port, that port is reached at the gateway's address alone.
    let mac = world.guests[1].ask("mac").parse().expect("a MAC");
    for (gateway, answer) in [
        (mac, "two saw 10.88.0.2"),
        (MacAddr([2, 0, 0, 0, 0, 0x99]), NONE),
    ] {
        rules.isolation = Some(Isolation {
            ports: vec!["g1".into()],
            gateway: Some(("g2".into(), gateway)),
            router: None,
        });
        world.nft.apply(&rules).expect("applied");
        world.check(&[("one", "tcp 10.88.0.3:80", answer)]);
    }
    // Nor does a question get there whose answer would not.
    world.guests[1].ask("heard");
    world.check(&[("one", "udp 10.88.0.3:80", NONE)]);
    assert_eq!(world.guests[1].ask("heard"), "0");
    world.check(&[("host", "tcp 10.88.0.3:80", "two saw 10.88.0.1")]);
    // Withdrawn, everybody reaches everybody.
    rules.isolation = None;
    world.nft.apply(&rules).expect("applied");
    world.check(&[("one", "tcp 10.88.0.3:80", "two saw 10.88.0.2")]);
}
