//! What serving a network needs of the world: paths, privileges, processes.
//!
//! The server that carries packets has none of these. It asks its [`Host`]: the keeper at the other
//! end of a socket, or, on systems without the division, [`local::Local`] in the same process.

pub(crate) mod local;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use ipnetwork::{Ipv4Network, Ipv6Network};
use net_manager::{NetworkBackend, Protocol};
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::usage::UsageError;

/// What is known about the guest of a place when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    /// Its name.
    pub(crate) name: String,
    /// Its hardware address, where we choose it.
    pub(crate) mac: [u8; 6],
    /// Its address, where it gets one without asking.
    pub(crate) address: Option<Ipv4Network>,
    /// Its IPv6 address, the one that its kernel forms by itself when it hears the prefix.
    pub(crate) address6: Option<Ipv6Network>,
    /// Its router and resolver.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Its domain.
    pub(crate) domain: String,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u16,
}

#[cfg(test)]
impl Guest {
    /// One that is told nothing.
    pub(crate) fn example() -> Self {
        Self {
            name: "guest1".into(),
            mac: [2, 0, 0, 0, 0, 1],
            address: None,
            address6: None,
            gateway: None,
            domain: "internal".into(),
            mtu: 1500,
        }
    }
}

/// How a descriptor is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) enum Device {
    /// A bound stream socket, for QEMU to connect to.
    QemuStreamListener,
    /// A connected stream socket with QEMU behind it.
    QemuStream,
    /// A bound datagram socket for QEMU.
    QemuDgram,
    /// A bound datagram socket for vfkit and its kind.
    Unixgram,
    /// One end of a pair of datagram sockets.
    UnixgramPair,
    /// A bound socket of sequenced packets.
    BessListener,
    /// A bound stream socket, for a VMM to connect to; pairs of queues.
    VhostUserListener(u16),
    /// A socket over which connections to a VMM come; pairs of queues.
    VhostUserFeed(u16),
    /// A TAP device.
    Tap,
    /// A packet socket at one end of a virtual Ethernet pair.
    PacketSocket,
}

/// A place that has been opened.
pub(crate) enum Opened {
    /// A descriptor to serve.
    Served(Device, OwnedFd),
    /// A device that cannot be handed to another process.
    #[cfg_attr(target_os = "linux", allow(dead_code))]
    Backend(Box<dyn NetworkBackend>),
}

/// A host that several hold.
impl<H: Host> Host for std::sync::Arc<std::sync::Mutex<H>> {
    fn open(&mut self, place: &Place, guest: &Guest) -> Result<Opened, UsageError> {
        lock(self).open(place, guest)
    }

    fn close(&mut self, place: &Place) {
        lock(self).close(place);
    }

    fn bind(&mut self, protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, UsageError> {
        lock(self).bind(protocol, address)
    }

    fn ready(&mut self) {
        lock(self).ready();
    }
}

/// What is behind the lock is lists of what is open: a panic leaves nothing half made in them.
pub(crate) fn lock<T>(shared: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whoever has paths, privileges and child processes.
pub(crate) trait Host: Send {
    /// Opens a place.
    ///
    /// # Errors
    /// In one line, what was refused.
    fn open(&mut self, place: &Place, guest: &Guest) -> Result<Opened, UsageError>;

    /// Takes away what [`Host::open`] made. What was not opened is not missed.
    fn close(&mut self, place: &Place);

    /// Binds a port that only the privileged may bind.
    ///
    /// # Errors
    /// In one line, what was refused.
    fn bind(&mut self, protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, UsageError>;

    /// Everything that was asked for at the start is there.
    fn ready(&mut self);
}
