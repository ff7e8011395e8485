//! What the server may ask for: what the user has asked for, once.
//!
//! The keeper reads the command line, the file and the control socket; the server reads guests. A
//! server that a guest has taken over can ask at any time, and is refused unless a user stands behind
//! it: at the start for every place and port of theirs, later for the one of the request that it is
//! working on. What it may always do is to take away.

use std::net::SocketAddr;

use net_manager::control::Request;
use net_manager::kernel::{KernelAttach, KernelForward};
use net_manager::{Protocol, PublishedPort};

use crate::namespace::INTERFACE;
use crate::place::Place;

/// What has been asked for and not been granted yet.
#[derive(Debug)]
pub(super) struct Permits {
    places: Vec<Place>,
    ports: Vec<PublishedPort>,
}

impl Permits {
    /// For the places and ports that the network starts with.
    pub(super) fn new(places: &[Place], ports: &[PublishedPort]) -> Self {
        Self {
            places: places.to_vec(),
            ports: ports.to_vec(),
        }
    }

    /// For what a user asks for now, and for nothing else any more.
    pub(super) fn for_request(&mut self, request: &Request) {
        self.clear();
        match request {
            // What cannot be read the server refuses, with the reason.
            Request::Attach { place } => {
                let place: Option<Place> = place.parse().ok();
                self.places.extend(place.filter(Place::can_join_later));
            }
            Request::Publish { port, .. } => {
                self.ports.extend(port.parse::<PublishedPort>().ok());
            }
            _ => {}
        }
    }

    /// For nothing.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.ports.clear();
    }

    /// A place that is to be opened.
    pub(super) fn place(&mut self, place: &Place) -> bool {
        take(&mut self.places, |it| it == place)
    }

    /// Something to attach to the bridge in the kernel.
    pub(super) fn attachment(&mut self, what: &KernelAttach) -> bool {
        take(&mut self.places, |place| match (place, what) {
            (Place::Tap(tap), KernelAttach::Tap(port)) => tap.port() == *port,
            (Place::Macvtap(macvtap), KernelAttach::Macvtap(port)) => {
                macvtap.parent == port.parent
                    && macvtap.interface() == port.name
                    && macvtap.owner == port.owner
            }
            (Place::Netns(name), KernelAttach::Netns(port)) => {
                *name == port.namespace && port.interface == INTERFACE && port.vlan.is_none()
            }
            _ => false,
        })
    }

    /// A port of the host to bind.
    pub(super) fn port(&mut self, protocol: Protocol, address: SocketAddr) -> bool {
        take(&mut self.ports, |it| {
            it.protocol == protocol && it.bind == address
        })
    }

    /// A port of the host that the kernel leads to a port of a guest. Which guest is the server's to
    /// know; that it is one the network in the kernel looks at.
    pub(super) fn forward(&mut self, forward: &KernelForward) -> bool {
        take(&mut self.ports, |it| {
            it.protocol == forward.protocol
                && it.bind == forward.bind
                && it.guest_port == forward.guest.port()
        })
    }
}

/// Takes the first that fits; whether there was one.
fn take<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> bool {
    let found = list.iter().position(is_it);
    found.map(|at| list.remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_manager::kernel::{MacvtapPort, NetnsPort};

    fn permits(places: &[&str], ports: &[&str]) -> Permits {
        let places: Vec<Place> = places.iter().map(|it| it.parse().unwrap()).collect();
        let ports: Vec<PublishedPort> = ports.iter().map(|it| it.parse().unwrap()).collect();
        Permits::new(&places, &ports)
    }

    fn tap(text: &str) -> KernelAttach {
        match text.parse().unwrap() {
            Place::Tap(tap) => KernelAttach::Tap(tap.port()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_is_granted_once_and_nothing_else() {
        let mut permits = permits(&["qemu-stream:/a", "tap:vm0,queues=2"], &["80:80"]);
        let (a, b): (Place, Place) = (
            "qemu-stream:/a".parse().unwrap(),
            "qemu-stream:/b".parse().unwrap(),
        );
        assert!(!permits.place(&b));
        assert!(permits.place(&a) && !permits.place(&a));
        assert!(!permits.attachment(&tap("tap:vm1,queues=2")));
        assert!(!permits.attachment(&tap("tap:vm0,queues=2,owner=0")));
        assert!(permits.attachment(&tap("tap:vm0,queues=2")));
        assert!(!permits.attachment(&tap("tap:vm0,queues=2")));
        let any = "0.0.0.0:80".parse().unwrap();
        assert!(!permits.port(Protocol::Udp, any));
        assert!(!permits.port(Protocol::Tcp, "0.0.0.0:81".parse().unwrap()));
        assert!(permits.port(Protocol::Tcp, any) && !permits.port(Protocol::Tcp, any));
    }

    #[test]
    fn a_request_is_permission_for_what_it_says_until_the_next() {
        let mut permits = permits(&["vfkit:/a"], &["80:80"]);
        let attach = |place: &str| Request::Attach {
            place: place.into(),
        };
        permits.for_request(&attach("netns:blue"));
        assert!(
            !permits.place(&"vfkit:/a".parse().unwrap()),
            "that was before"
        );
        let netns = |namespace: &str, interface: &str, vlan| {
            KernelAttach::Netns(NetnsPort {
                namespace: namespace.into(),
                interface: interface.into(),
                mac: [2; 6],
                address: None,
                address6: None,
                vlan,
            })
        };
        assert!(!permits.attachment(&netns("1", INTERFACE, None)));
        assert!(!permits.attachment(&netns("blue", "lo", None)));
        assert!(!permits.attachment(&netns("blue", INTERFACE, Some(7))));
        assert!(permits.attachment(&netns("blue", INTERFACE, None)));
        let macvtap = |parent: &str, name: &str, owner| {
            KernelAttach::Macvtap(MacvtapPort {
                parent: parent.into(),
                name: name.into(),
                mac: [2; 6],
                owner,
            })
        };
        permits.for_request(&attach("macvtap:eth0,owner=9"));
        assert!(!permits.attachment(&macvtap("eth1", "mv-eth0", Some(9))));
        assert!(!permits.attachment(&macvtap("eth0", "mv-eth0", None)));
        assert!(permits.attachment(&macvtap("eth0", "mv-eth0", Some(9))));
        // To listen is not to call, and the path is the user's.
        permits.for_request(&attach("vhost-user:/a,server=off"));
        for other in ["vhost-user:/a", "vhost-user:/b,server=off"] {
            assert!(!permits.place(&other.parse().unwrap()));
        }
        let called = "vhost-user:/a,server=off".parse().unwrap();
        assert!(permits.place(&called) && !permits.place(&called));
        // One of the keeper's own descriptors, whatever that is.
        permits.for_request(&attach("vz-fd:5"));
        assert!(!permits.place(&"vz-fd:5".parse().unwrap()));
        permits.for_request(&attach("tap:vm0"));
        permits.for_request(&Request::Status);
        assert!(!permits.attachment(&tap("tap:vm0")));
    }

    #[test]
    fn a_port_leads_to_the_port_that_was_named() {
        let forward = |bind: &str, guest: &str| KernelForward {
            protocol: Protocol::Tcp,
            bind: bind.parse().unwrap(),
            guest: guest.parse().unwrap(),
        };
        let mut permits = permits(&[], &[]);
        for (port, bind, guest) in [
            ("80:81", "0.0.0.0:80", "10.0.2.9"),
            ("[::]:80:81", "[::]:80", "[fd77::9]"),
        ] {
            permits.for_request(&Request::Publish {
                port: port.into(),
                guest: None,
            });
            assert!(!permits.forward(&forward(bind, &format!("{guest}:22"))));
            assert!(!permits.forward(&forward("192.0.2.1:80", &format!("{guest}:81"))));
            assert!(permits.forward(&forward(bind, &format!("{guest}:81"))));
            assert!(!permits.forward(&forward(bind, &format!("{guest}:81"))));
        }
    }
}
