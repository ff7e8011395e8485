//! What the manager needs of the kernel, and no more.
//!
//! One trait, so that every step of a network's life can be made to fail in a test. Interfaces are
//! named, not numbered: a name is what the journal has, and what is checked before anything is
//! taken away.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use net_backend_linux::LinuxError;
use net_backend_linux::netlink::{Address, PortOptions, Route};
use net_backend_linux::nftables::{Forward, Table};
use net_wire::MacAddr;

/// What the calls of [`System`] return.
pub(super) type Result<T> = std::result::Result<T, LinuxError>;

/// An interface, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) mac: Option<MacAddr>,
    pub(super) alias: Option<String>,
    /// Its kind as the kernel calls it.
    pub(super) kind: Option<String>,
    /// The bridge it is a port of.
    pub(super) bridge: Option<String>,
    pub(super) up: bool,
    pub(super) mtu: u32,
}

/// A TAP device to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewTap {
    pub(super) name: String,
    pub(super) queues: u16,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) mtu: u16,
    /// Its mark, which it has before it outlives its maker.
    pub(super) alias: String,
}

/// The far end of a pair, inside a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FarEnd {
    pub(super) namespace: String,
    pub(super) interface: String,
    pub(super) mac: MacAddr,
    pub(super) mtu: u16,
    pub(super) address: Option<(Ipv4Network, Option<std::net::Ipv4Addr>)>,
    /// The router of IPv6 tells the rest.
    pub(super) address6: Option<Ipv6Network>,
}

/// A macvtap to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewMacvtap {
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) mac: MacAddr,
    pub(super) owner: Option<u32>,
}

/// The kernel.
pub(super) trait System: Send {
    /// What runs on the system's behalf holds this lock too, so that it is free only when all that
    /// was begun has ended.
    fn hold(&self, lock: Arc<OwnedFd>);

    /// The boot of this machine.
    fn boot(&self) -> Result<String>;
    /// The network namespace.
    fn namespace(&self) -> Result<String>;

    fn find(&self, name: &str) -> Result<Option<Seen>>;
    fn interfaces(&self) -> Result<Vec<Seen>>;
    /// A bridge with this address, down, without spanning tree.
    fn create_bridge(&self, name: &str, mac: MacAddr, mtu: u16) -> Result<()>;
    fn create_tap(&self, tap: &NewTap) -> Result<()>;
    /// The near end is down and has the address `mac`; the far end is up and has its addresses.
    fn create_veth(&self, near: &str, mac: MacAddr, far: &FarEnd) -> Result<()>;
    /// Gives back its device file.
    fn create_macvtap(&self, macvtap: &NewMacvtap) -> Result<std::path::PathBuf>;
    fn set_alias(&self, name: &str, alias: &str) -> Result<()>;
    fn set_up(&self, name: &str, up: bool) -> Result<()>;
    /// Makes an interface a port of a bridge, or of none.
    fn set_bridge(&self, name: &str, bridge: Option<&str>) -> Result<()>;
    fn set_port(&self, name: &str, options: &PortOptions) -> Result<()>;
    /// Lets a bridge keep VLANs apart, if it is `ours`; else it has to do so already.
    fn filter_vlans(&self, bridge: &str, ours: bool) -> Result<()>;
    fn delete(&self, name: &str) -> Result<()>;

    fn addresses(&self, name: &str) -> Result<Vec<Address>>;
    fn add_address(&self, name: &str, address: IpNetwork) -> Result<()>;
    /// Gives an address as it was listed, to whichever interface; no error if it is there.
    fn restore_address(&self, name: &str, address: &Address) -> Result<()>;
    /// No error if it is not there.
    fn delete_address(&self, name: &str, address: IpNetwork) -> Result<()>;
    fn routes(&self, name: &str) -> Result<Vec<Route>>;
    /// The same route, through the interface `name`; no error if it is there.
    fn add_route(&self, name: &str, route: &Route) -> Result<()>;

    /// No error if it is not there.
    fn delete_route(&self, name: &str, route: &Route) -> Result<()>;

    /// Puts the rules in place of those that the network has.
    fn apply_rules(&self, rules: &Table) -> Result<()>;
    /// Takes away every rule of the network; no error if there is none.
    fn delete_rules(&self, network: &str) -> Result<()>;

    /// Ends the connections that came in by a forward whose rules are gone.
    fn end_connections(&self, forward: &Forward) -> Result<()>;

    /// A setting below `/proc/sys`; `None` if there is none of that name.
    fn setting(&self, path: &str) -> Result<Option<String>>;
    fn set_setting(&self, path: &str, value: &str) -> Result<()>;

    /// Why the host can be the router of no network of IPv6; `None` if it can.
    fn no_ipv6(&self) -> Result<Option<String>>;
}
