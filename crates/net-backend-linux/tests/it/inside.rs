//! The command inside a namespace: small parts, each told by the first argument.

use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use net_backend::{NetworkBackend, Offloads};
use net_backend_linux::netlink::{BridgeOptions, Netlink};
use net_backend_linux::tap::{TapSpec, create_persistent};
use net_backend_linux::{Tap, TapOptions};
use net_wire::MacAddr;

use crate::gateway::{GATEWAY, PORT};
use crate::{confine, conformance, netlink, peer, queues, rules, settings};

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["exit", code] => return ExitCode::from(code.parse::<u8>().expect("a code")),
        ["look"] => look(),
        ["wait"] => wait(),
        ["count"] => count(),
        ["burst", size] => burst(size.parse().expect("a size")),
        ["rounds"] => rounds(),
        ["unplug"] => unplug(),
        ["devices"] => devices(),
        ["links"] => netlink::links(),
        ["moving"] => netlink::moving(),
        ["vlans"] => netlink::vlans(),
        ["peer", name] => peer::main(name),
        ["rules"] => rules::tables(),
        ["nat"] => rules::nat(),
        ["host-only"] => rules::host_only(),
        ["isolation"] => rules::isolation(),
        ["persistent"] => persistent(),
        ["flows"] => queues::flows(),
        ["owners"] => queues::owners(),
        ["open", name] => return ExitCode::from(queues::open(name)),
        ["conformance", kind, case] => conformance::inside(kind, case),
        ["sysctls"] => settings::sysctls(),
        ["advertisements"] => settings::advertisements(),
        ["confine", directory] => confine::everything(directory),
        ["confine-threads"] => confine::threads(),
        ["confine-fatal"] => confine::fatal(),
        ["confine-killed"] => confine::killed(),
        ref other => panic!("no part {other:?}"),
    }
    ExitCode::SUCCESS
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket
        .connect((GATEWAY, PORT))
        .expect("a route to the gateway");
    socket
}

/// Prints what a command finds, asks the gateway, prints the answer.
fn look() {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let capabilities = status.lines().find(|line| line.starts_with("CapEff:"));
    println!("{}", capabilities.unwrap_or_default());
    for link in Netlink::new()
        .and_then(|netlink| netlink.links())
        .expect("links")
    {
        let mac = link.mac.unwrap_or_default();
        println!(
            "link {} mac {mac} mtu {} up {}",
            link.name, link.mtu, link.up
        );
    }
    println!(
        "resolv.conf {:?}",
        fs::read_to_string("/etc/resolv.conf").expect("resolv.conf")
    );
    let names = fs::read_dir("/sys/class/net").expect("/sys").flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    names.sort();
    println!("sys {names:?}");
    let path = "/proc/sys/net/ipv4/ping_group_range";
    println!(
        "ping {:?}",
        fs::read_to_string(path)
            .expect("ping range")
            .split_whitespace()
            .last()
    );
    let socket = socket();
    socket.send(b"question").expect("send");
    let mut buffer = [0; 100];
    let n = socket.recv(&mut buffer).expect("an answer");
    println!("answer {}", String::from_utf8_lossy(&buffer[..n]));
}

/// Lives until its standard input ends, then tells its interfaces.
fn wait() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    for link in Netlink::new()
        .and_then(|netlink| netlink.links())
        .expect("links")
    {
        println!("link {} up {}", link.name, link.up);
    }
}

/// Asks for datagrams, and reports the length and the last byte of each until one of one byte.
fn count() {
    let socket = socket();
    socket.send(b"send").expect("send");
    let mut report = Vec::new();
    let mut buffer = vec![0; 70_000];
    loop {
        let n = socket.recv(&mut buffer).expect("a datagram");
        if n == 1 {
            break;
        }
        report.push(format!("{n}/{}", buffer[n - 1]));
    }
    println!("{}", report.join(" "));
}

/// Sends 2,500 bytes as datagrams of `size`, by one call.
fn burst(size: libc::c_int) {
    const UDP_SEGMENT: libc::c_int = 103;
    let socket = socket();
    // SAFETY: the option is one int, which lives for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            UDP_SEGMENT,
            (&raw const size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "UDP_SEGMENT");
    let bytes: Vec<u8> = (0..2500u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(socket.send(&bytes).expect("send"), 2500);
    // The test ends this.
    let _ = socket.recv(&mut [0; 10]);
}

/// Fills whatever holds frames until the gateway reads, then goes round it three times.
fn rounds() {
    let socket = socket();
    for _ in 0..1000 {
        // What finds no room is dropped.
        let _ = socket.send(b"flood");
    }
    println!("flooded");
    // The flood may fill the queue until the gateway reads on: a question that finds no room there is
    // asked again, and may then be answered twice.
    let patience = Some(std::time::Duration::from_millis(200));
    socket.set_read_timeout(patience).expect("a time-out");
    for i in 0..400u32 {
        let question = [&i.to_be_bytes()[..], &[7; 1000]].concat();
        let mut buffer = [0; 2000];
        let answer = (0..50).find_map(|_| {
            socket.send(&question).expect("send");
            loop {
                let n = socket.recv(&mut buffer).ok()?;
                let last = i.checked_sub(1).map(u32::to_be_bytes);
                if last.is_none_or(|last| buffer[..4] != last) {
                    return Some(n);
                }
            }
        });
        let n = answer.expect("an answer");
        assert_eq!(buffer[..n], question, "round {i}");
    }
}

/// Deletes the interface.
fn unplug() {
    let netlink = Netlink::new().expect("netlink");
    let index = netlink.link("eth0").expect("eth0").index;
    netlink.delete_link(index).expect("delete");
}

/// A device for somebody else: it stays, and its user opens it without privileges.
fn persistent() {
    let netlink = Netlink::new().expect("netlink");
    let options = TapOptions::default();
    let spec = TapSpec {
        name: "vm%d".into(),
        mac: Some(MacAddr([2, 0xab, 0, 0, 0, 3])),
        mtu: 65520,
        alias: Some("arcbox-net test".into()),
        ..TapSpec::default()
    };
    let link = create_persistent(&netlink, &spec).expect("a device");
    assert_eq!(
        (&link.name[..], link.mac, link.mtu),
        ("vm0", spec.mac, 65520)
    );
    assert_eq!(
        (link.alias, link.kind),
        (spec.alias.clone(), Some("tun".into()))
    );
    let same = TapSpec {
        name: "vm0".into(),
        ..spec.clone()
    };
    let taken = create_persistent(&netlink, &same).expect_err("taken");
    assert_eq!(taken.errno(), Some(libc::EBUSY), "{taken}");
    // Opening and closing leaves it; of a device with one queue there is no second.
    for _ in 0..2 {
        let tap = Tap::open("vm0", options).expect("opened");
        assert!(Tap::open("vm0", options).is_err(), "in use");
        assert!(Tap::open_queues("vm0", 2, options).is_err());
        drop(tap);
    }
    netlink.delete_link(link.index).expect("gone");
    assert_eq!(netlink.find("vm0").expect("an answer"), None);

    let many = TapSpec {
        name: "vm1".into(),
        queues: 4,
        ..TapSpec::default()
    };
    let link = create_persistent(&netlink, &many).expect("a device");
    assert!(Tap::open("vm1", options).is_err(), "it is multiqueue");
    assert_eq!(
        Tap::open_queues("vm1", 4, options).expect("queues").len(),
        4
    );
    netlink.delete_link(link.index).expect("gone");
    for queues in [0, 257] {
        let spec = TapSpec {
            queues,
            ..TapSpec::default()
        };
        assert!(create_persistent(&netlink, &spec).is_err());
    }
    let wrong = TapSpec {
        mtu: 10,
        ..spec.clone()
    };
    assert!(create_persistent(&netlink, &wrong).is_err());
    assert_eq!(netlink.find("vm0").expect("an answer"), None, "half made");
}

/// Devices of every kind, in a namespace where nobody else is.
fn devices() {
    let options = TapOptions::default();
    let netlink = Netlink::new().expect("netlink");

    let mut queues = Tap::open_queues("many%d", 3, options).expect("a multiqueue device");
    assert_eq!(queues.len(), 3);
    assert!(
        queues
            .iter()
            .all(|tap| tap.name() == "many0" && tap.capabilities().queue_pairs == 3)
    );
    assert!(Tap::open("many0", options).is_err(), "it is multiqueue");
    assert!(Tap::open_queues("x", 0, options).is_err());
    let offloads = queues[0].capabilities().offloads;
    assert!(offloads.contains(Offloads::TX_TSO4 | Offloads::RX_TSO6));
    assert_eq!(
        queues[0].set_offloads(Offloads::ALL).expect("offloads"),
        offloads
    );
    assert_eq!(
        queues[0]
            .receive(8, &mut |_| panic!("a frame"))
            .expect("receive"),
        0
    );

    let plain = Tap::plain("plain0", options).expect("a plain device");
    assert!(plain.capabilities().offloads.is_empty());
    let again = Tap::from_fd(plain.into_file().into(), options).expect("the same device");
    assert_eq!(
        (again.name(), again.capabilities().offloads),
        ("plain0", Offloads::NONE)
    );
    let file = fs::File::open("/dev/null").expect("a file");
    assert!(Tap::from_fd(file.into(), options).is_err());
    for name in ["", "sixteen-bytes-xx", "lo"] {
        assert!(Tap::open(name, options).is_err(), "{name}");
    }

    netlink
        .create_bridge("bridge0", &BridgeOptions::default())
        .expect("a bridge");
    let bridge = netlink.link("bridge0").expect("the bridge").index;
    let member = netlink.link("many0").expect("the device").index;
    netlink.set_bridge(member, Some(bridge)).expect("a member");
    netlink.set_up(member).expect("up");
    assert_eq!(
        netlink.link("many0").expect("the device").controller,
        Some(bridge)
    );
    netlink.set_bridge(member, None).expect("no member");
    netlink.set_down(member).expect("down");
    let link = netlink.link("many0").expect("the device");
    assert_eq!((link.controller, link.up), (None, false));
    netlink.set_mtu(member, 9000).expect("an MTU");
    assert!(netlink.set_mtu(member, 10).is_err());
    assert_eq!(netlink.link("many0").expect("the device").mtu, 9000);
    netlink.delete_link(bridge).expect("no bridge");
    assert!(netlink.link("bridge0").is_err());

    drop(queues);
    assert!(
        netlink.link("many0").is_err(),
        "a device goes with its last descriptor"
    );
    println!("devices are as they should be");
}
