//! Settings of the kernel, and router advertisements that it believes.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use net_backend_linux::netlink::Netlink;
use net_backend_linux::ra_socket::{ALL_NODES, ALL_ROUTERS, RaSocket};
use net_backend_linux::sysctl::{Sysctl, Sysctls};
use socket2::{Domain, Protocol, Socket, Type};

use crate::peer::{self, Peer};

/// Everything that is known of forwarding.
fn all_forwarding() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        for entry in fs::read_dir(format!("/proc/sys/net/{family}/conf")).expect("conf") {
            let path = entry.expect("an entry").path();
            for name in [
                "forwarding",
                "accept_redirects",
                "accept_ra",
                "route_localnet",
            ] {
                if let Ok(value) = fs::read_to_string(path.join(name)) {
                    found.insert(path.join(name).display().to_string(), value);
                }
            }
        }
    }
    found
}

/// A change of one setting changes others; written back in order, all are as they were.
pub(crate) fn sysctls() {
    let sysctls = Sysctls::default();
    let own = Sysctl::Ipv4InterfaceForwarding("eth0".into());
    sysctls.write(&own, "1").expect("written");
    sysctls
        .write(&Sysctl::Ipv6InterfaceForwarding("lo".into()), "1")
        .expect("written");
    // The change back of forwarding would make it 1.
    sysctls
        .write(&Sysctl::AcceptRedirects("all".into()), "0")
        .expect("written");
    let before = all_forwarding();
    for forwarding in [Sysctl::Ipv4Forwarding, Sysctl::Ipv6Forwarding] {
        assert_eq!(sysctls.read(&forwarding).expect("read"), "0");
        let saved = sysctls.affected_by(&forwarding).expect("saved");
        assert_eq!(saved[0], (forwarding.clone(), "0".into()));
        sysctls.write(&forwarding, "1").expect("written");
        assert_eq!(sysctls.read(&forwarding).expect("read"), "1");
        let during = all_forwarding();
        assert!(
            during
                .iter()
                .filter(|(key, value)| before[*key] != **value)
                .count()
                >= 3
        );
        for (sysctl, value) in &saved {
            sysctls.write(sysctl, value).expect("written back");
        }
        assert_eq!(all_forwarding(), before);
    }
    let missing = sysctls.read(&Sysctl::AcceptRa("no-such".into()));
    assert_eq!(missing.expect_err("none").errno(), Some(libc::ENOENT));
    let local = Sysctl::RouteLocalnet("eth0".into());
    assert_eq!(
        sysctls.affected_by(&local).expect("saved"),
        [(local.clone(), "0".into())]
    );
    assert!(sysctls.write(&Sysctl::Ipv6Forwarding, "no").is_err());
}

/// A router advertisement (RFC 4861, 4.2) with a prefix for addresses (4.6.2).
fn advertisement(prefix: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86_400u32.to_be_bytes());
    message.extend(14_400u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    message
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A host's kernel asks, is answered, and takes an address and a way out from the answer.
pub(crate) fn advertisements() {
    let Some(mut host) = Peer::start("host") else {
        return println!("skip: there is no unshare");
    };
    let netlink = Netlink::new().expect("netlink");
    let sysctls = Sysctls::default();
    sysctls
        .write(&Sysctl::AcceptDad("default".into()), "0")
        .expect("written");
    peer::wire(&netlink, "r0", &host);
    let index = netlink.link("r0").expect("r0").index;
    let socket = RaSocket::open("r0", index).expect("a socket");
    assert_eq!(
        RaSocket::open("no-such", 9999).expect_err("none").errno(),
        Some(libc::ENODEV)
    );
    netlink.set_up(index).expect("up");
    assert_eq!(host.ask("hear-routers"), "up");
    wait_for(|| {
        netlink
            .addresses(index)
            .expect("addresses")
            .first()
            .cloned()
    });

    // As another process has it.
    let socket = RaSocket::from_fd(OwnedFd::from(socket), index).expect("the same socket");
    let wrong = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
    assert!(RaSocket::from_fd(wrong.into(), index).is_err());

    // Solicitations: those of a neighbour, with the hop limit that no router leaves, and no other
    // message. (The host's kernel may have asked by itself.)
    let mut buffer = [0; 1500];
    assert_eq!(host.ask("solicit 64 133"), "sent");
    assert_eq!(host.ask("solicit 255 134"), "sent");
    let asked = host.ask("solicit 255 133 17");
    assert_eq!(asked, "sent");
    let length = wait_for(|| {
        loop {
            let (source, length) = socket.receive(&mut buffer).expect("a socket that works")?;
            assert!(source.is_unspecified() || source.is_unicast_link_local());
            assert_eq!(buffer[0], 133);
            assert_ne!(length, 8, "with a hop limit of 64");
            if length == 8 + 17 {
                return Some(length);
            }
        }
    });
    assert_eq!(length, 25);

    let prefix = "2001:db8:aa::".parse().expect("a prefix");
    socket
        .send(ALL_NODES, &advertisement(prefix))
        .expect("sent");
    assert_eq!(host.ask("address-in 2001:db8:aa::/64"), "yes");
    // To one that asked, alone.
    let ours: Ipv6Addr = host.ask("link-local").parse().expect("an address");
    let prefix = "2001:db8:bb::".parse().expect("a prefix");
    socket.send(ours, &advertisement(prefix)).expect("sent");
    assert_eq!(host.ask("address-in 2001:db8:bb::/64"), "yes");
    netlink.delete_link(index).expect("gone");
    assert!(socket.send(ALL_NODES, &advertisement(prefix)).is_err());
}

/// The host's part: a solicitation with this hop limit and type, and so many bytes more.
pub(crate) fn solicit(hops: u32, kind: u8, more: usize) {
    let index = Netlink::new()
        .and_then(|netlink| netlink.link("eth0"))
        .expect("eth0")
        .index;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("a socket");
    socket.set_multicast_if_v6(index).expect("an interface");
    socket.set_multicast_hops_v6(hops).expect("a hop limit");
    let mut message = vec![0; 8 + more];
    message[0] = kind;
    let to = std::net::SocketAddrV6::new(ALL_ROUTERS, 0, 0, index);
    socket.send_to(&message, &to.into()).expect("sent");
}

/// The host's part: whether an address in a network comes.
pub(crate) fn address_in(netlink: &Netlink, network: &str) {
    let network: ipnetwork::IpNetwork = network.parse().expect("a network");
    let index = netlink.link("eth0").expect("eth0").index;
    wait_for(|| {
        let addresses = netlink.addresses(index).expect("addresses");
        let found = addresses
            .iter()
            .any(|address| network.contains(address.network.ip()));
        found.then_some(())
    });
}

/// The host's part: listens to routers, and uses its addresses at once.
pub(crate) fn hear_routers(netlink: &Netlink) {
    let sysctls = Sysctls::default();
    for sysctl in [
        Sysctl::AcceptDad("eth0".into()),
        Sysctl::AcceptDad("all".into()),
    ] {
        sysctls.write(&sysctl, "0").expect("written");
    }
    sysctls
        .write(&Sysctl::AcceptRa("eth0".into()), "1")
        .expect("written");
    let index = netlink.link("eth0").expect("eth0").index;
    netlink.set_up(index).expect("up");
    link_local(netlink);
}

/// The host's part: its link-local address.
pub(crate) fn link_local(netlink: &Netlink) -> std::net::IpAddr {
    let index = netlink.link("eth0").expect("eth0").index;
    wait_for(|| {
        let addresses = netlink.addresses(index).expect("addresses");
        let mut local = addresses.iter().filter(|address| address.scope == 253);
        local.next().map(|address| address.network.ip())
    })
}
