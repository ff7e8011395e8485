//! What a running network asks of whoever holds the privileges.
//!
//! Everything here can be written down, so that the asking side may be another process: one that
//! carries packets and may do nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;

use net_usernet::Protocol;
use serde::{Deserialize, Serialize};

use crate::error::ManagerError;

/// Something to attach to a network in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KernelAttach {
    /// A TAP device that a virtual machine opens by name.
    Tap(TapPort),
    /// An interface in a network namespace.
    Netns(NetnsPort),
    /// A macvtap on a physical interface, for hosts that may not have bridges. It stands beside the
    /// network: its guest reaches the physical network and not this host.
    Macvtap(MacvtapPort),
}

/// A TAP device for a virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapPort {
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// Queue pairs, 1 to 256; those of [`crate::NetworkConfig::queues`] where absent.
    pub queues: Option<u16>,
    /// The user that may open it without privileges.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
    /// The VLAN that its frames belong to, 1 to 4094.
    pub vlan: Option<u16>,
}

/// An interface in a network namespace, one end of a pair whose other end is a port of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetnsPort {
    /// The namespace: what `ip netns` knows by this name, or the number of a process in it.
    pub namespace: String,
    /// Name of the interface inside, 1 to 15 bytes.
    pub interface: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its address with its prefix, and the router; without it the namespace asks DHCP.
    pub address: Option<(ipnetwork::Ipv4Network, Option<std::net::Ipv4Addr>)>,
    /// Its IPv6 address with its prefix, where the network has IPv6. The router advertises itself.
    pub address6: Option<ipnetwork::Ipv6Network>,
    /// The VLAN that its frames belong to, 1 to 4094.
    pub vlan: Option<u16>,
}

/// A macvtap on a physical interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacvtapPort {
    /// The interface it stands on.
    pub parent: String,
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// Its hardware address, which has to be that of the guest.
    pub mac: [u8; 6],
    /// The user that owns its device file.
    pub owner: Option<u32>,
}

/// What was attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelPort {
    /// The interface on this side, by which it is detached again.
    pub interface: String,
    /// The device file to open, where it is not opened by name.
    pub device: Option<PathBuf>,
}

/// A port of the host that leads to a guest, as the kernel is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelForward {
    /// TCP or UDP.
    #[serde(with = "protocol")]
    pub protocol: Protocol,
    /// Where the host takes connections; port 0 lets the host choose.
    pub bind: SocketAddr,
    /// Where they go.
    pub guest: SocketAddr,
}

impl From<KernelForward> for net_backend_linux::nftables::Forward {
    fn from(forward: KernelForward) -> Self {
        use net_backend_linux::nftables;
        Self {
            protocol: match forward.protocol {
                Protocol::Tcp => nftables::Protocol::Tcp,
                Protocol::Udp => nftables::Protocol::Udp,
            },
            bind: forward.bind,
            guest: forward.guest,
        }
    }
}

/// Changes to a network that is running in the kernel.
///
/// The one implementation makes them ([`KernelNetwork`](super::KernelNetwork)); another may ask a
/// process that has the privileges. Every call waits for its answer, which takes milliseconds.
pub trait KernelOps: Send + Sync {
    /// Attaches something.
    ///
    /// # Errors
    /// As the kernel refuses; nothing is left behind then.
    fn attach(&self, what: &KernelAttach) -> Result<KernelPort, ManagerError>;

    /// Takes away what [`KernelOps::attach`] made.
    ///
    /// # Errors
    /// [`ManagerError::NotAttached`] if there is no such attachment.
    fn detach(&self, interface: &str) -> Result<(), ManagerError>;

    /// Publishes a port; gives back where the host takes connections.
    ///
    /// # Errors
    /// [`ManagerError::PortTaken`] if a program of the host has it.
    fn forward(&self, forward: &KernelForward) -> Result<SocketAddr, ManagerError>;

    /// Takes a published port back: the one that [`KernelOps::forward`] answered with. The
    /// connections that came in by it end.
    ///
    /// # Errors
    /// As the kernel refuses.
    fn unforward(&self, protocol: Protocol, address: SocketAddr) -> Result<(), ManagerError>;
}

/// A protocol by its name.
mod protocol {
    use net_usernet::Protocol;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        protocol: &Protocol,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Protocol, D::Error> {
        match &*String::deserialize(deserializer)? {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            other => Err(D::Error::custom(format!("`{other}` is no protocol"))),
        }
    }
}
