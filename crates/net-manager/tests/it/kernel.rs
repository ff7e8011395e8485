//! Networks in the kernel: three guests, the host they are on, and another one outside.
//!
//! ```text
//!  guest 0 ─ veth ┐
//!  guest 1 ─ veth ┼ bridge ══ host 198.51.100.2 ─ up0 ── eth0 far 198.51.100.1
//!  guest 2 ─ TAP ─ worker ┘
//! ```

mod killed;
mod modes;
mod six;
mod snapshot;

use std::net::Ipv4Addr;
use std::path::Path;

use net_backend_linux::netlink::{Netlink, VethEnd};
use net_backend_linux::{Tap, TapOptions};
use net_manager::{AttachOptions, Engine, Network, NetworkConfig, NetworkMode, kernel_can};
use net_wire::MacAddr;

use self::snapshot::Snapshot;
use crate::peer::Peer;

pub(crate) use killed::victim;

/// First argument of a process that is to be killed.
pub(crate) const VICTIM: &str = "kernel-victim";

pub(crate) const CASES: &[(&str, fn())] = &[
    ("kernel_nat", modes::nat),
    ("kernel_host_only", modes::host_only),
    ("kernel_isolated", modes::isolated),
    ("kernel_bridge", modes::bridge),
    ("kernel_bridge_of_the_host", modes::bridge_of_the_host),
    ("kernel_ports_for_machines", modes::ports_for_machines),
    ("kernel_macvtap", modes::macvtap),
    ("kernel_vlans", modes::vlans),
    ("kernel_served_tap", modes::served_tap),
    ("kernel_one_owner", modes::one_owner),
    ("kernel_ipv6_nat", six::nat),
    ("kernel_ipv6_isolated", six::isolated),
    ("kernel_ipv6_bridge", six::bridge),
    ("kernel_ipv6_none", six::none),
    ("kernel_killed", killed::killed),
];

const HOST: &str = "198.51.100.2";
const FAR: &str = "198.51.100.1";
const FAR6: &str = "2001:db8:1::1";
/// The prefix of the outside network, which the other host advertises where a case has IPv6.
const OUTSIDE6: &str = "2001:db8:1::/64";

/// The host, and what is outside of it.
struct World {
    netlink: Netlink,
    state: tempfile::TempDir,
    far: Peer,
}

impl World {
    /// Ends the case where this kernel or this user cannot have networks of this mode.
    fn new(mode: NetworkMode) -> Self {
        // Nothing is said over IPv6 that no case asked for.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        Self::make(mode)
    }

    /// The same with IPv6, of which the host outside is the router; this one has heard it.
    fn with_ipv6(mode: NetworkMode) -> Self {
        let default = Path::new("/proc/sys/net/ipv6/conf/default");
        if std::fs::write(default.join("accept_dad"), "0").is_err() {
            println!("skip: this kernel has no IPv6");
            std::process::exit(0);
        }
        // Whoever looks for a router does so at once.
        std::fs::write(default.join("router_solicitation_delay"), "0").unwrap();
        let mut world = Self::make(mode);
        world.far.ask(&format!("up eth0 {FAR6}/64 1500"));
        world.far.ask("forward");
        world.far.ask(&format!("serve-ra eth0 {OUTSIDE6}"));
        six::wait_for("the host's router", || six::heard(&world.netlink, "up0"));
        world
    }

    fn make(mode: NetworkMode) -> Self {
        if let Err(why) = kernel_can(mode) {
            println!("skip: {why}");
            std::process::exit(0);
        }
        let netlink = Netlink::new().unwrap();
        netlink.set_up(netlink.link("lo").unwrap().index).unwrap();
        let mut far = Peer::start();
        let far_end = VethEnd {
            netns: Some(far.namespace()),
            ..VethEnd::named("eth0")
        };
        netlink
            .create_veth(&VethEnd::named("up0"), &far_end)
            .unwrap();
        let up = netlink.link("up0").unwrap().index;
        netlink.set_up(up).unwrap();
        netlink
            .add_address(up, format!("{HOST}/24").parse().unwrap())
            .unwrap();
        far.ask(&format!("up eth0 {FAR}/24 1500"));
        Self {
            netlink,
            state: tempfile::tempdir().unwrap(),
            far,
        }
    }

    fn config(&self, mode: NetworkMode) -> NetworkConfig {
        config(self.state.path(), mode)
    }

    /// A guest whose interface is a port of the bridge.
    fn guest(&self, network: &Network) -> (Peer, Ipv4Addr) {
        let guest = Peer::start();
        let pid = guest.pid().to_string();
        let options = AttachOptions::default();
        let attached = network.attach_netns(&pid, "eth0", None, options).unwrap();
        (guest, attached.info.address)
    }

    /// A guest whose interface is a port of the worker's switch.
    fn guest_of_the_worker(&self, network: &Network, routed: bool) -> (Peer, Ipv4Addr) {
        let mut guest = Peer::start();
        let tap = Tap::open("guest0", TapOptions::default()).unwrap();
        let index = self.netlink.link("guest0").unwrap().index;
        let mac = MacAddr([2, 0, 0, 0, 0, 77]);
        self.netlink.set_mac(index, mac).unwrap();
        self.netlink
            .move_to_netns(index, guest.namespace())
            .unwrap();
        let options = AttachOptions {
            mac: Some(mac.0),
            ..AttachOptions::default()
        };
        let info = network.attach(Box::new(tap), options).unwrap();
        guest.ask(&format!("up guest0 {}/24 1500", info.address));
        if routed {
            guest.ask("route 0.0.0.0/0 10.7.0.1 guest0");
        }
        (guest, info.address)
    }
}

fn config(state: &Path, mode: NetworkMode) -> NetworkConfig {
    let mut config = NetworkConfig::default();
    config.name = "blue".to_owned();
    config.mode = mode;
    config.engine = Engine::Kernel;
    config.subnet = "10.7.0.0/24".parse().unwrap();
    config.dns = vec!["192.0.2.53:53".parse().unwrap()];
    config.state_dir = Some(state.to_owned());
    config
}

/// What a ping that comes back says.
fn reached(host: impl std::fmt::Display) -> String {
    format!("0/0 from {host}")
}

#[track_caller]
fn pings(guest: &mut Peer, host: impl std::fmt::Display) {
    let answer = guest.ask(&format!("ping {host} 64"));
    assert_eq!(answer, reached(host));
}

#[track_caller]
fn does_not_reach(guest: &mut Peer, host: impl std::fmt::Display) {
    let answer = guest.ask(&format!("udp {host}:80"));
    assert!(answer.starts_with("error"), "{host}: {answer}");
}
