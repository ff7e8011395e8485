//! Which interface to ask macOS for.

mod validate;

use std::net::{Ipv4Addr, Ipv6Addr};

use net_wire::MacAddr;

use crate::{ForwardRule, InterfaceId};

pub use validate::MIN_MTU;
pub(crate) use validate::{check_interface_name, prefix_of};

/// Whom the guest reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VmnetMode {
    /// The host, other guests in this mode, and the world behind the NAT of macOS.
    Shared,
    /// The host and other guests in this mode.
    HostOnly,
    /// The network of a physical interface, as a station of its own.
    Bridged {
        /// The BSD name of the interface, such as `en0`.
        interface: String,
    },
    /// Whom a [`VmnetNetwork`](crate::VmnetNetwork) reaches (macOS 26).
    Network,
}

impl VmnetMode {
    /// The name for messages.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::HostOnly => "host-only",
            Self::Bridged { .. } => "bridged",
            Self::Network => "network",
        }
    }
}

/// An interface to ask for. Nothing is checked until [`Self::validate`], which
/// [`Vmnet::new`](crate::Vmnet::new) calls; what is not set is left to macOS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmnetConfig {
    pub(crate) mode: VmnetMode,
    pub(crate) mtu: Option<u16>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) dhcp: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) mask: Option<Ipv4Addr>,
    pub(crate) isolation: Option<bool>,
    pub(crate) interface_id: Option<InterfaceId>,
    pub(crate) tso: bool,
    pub(crate) checksum_offload: bool,
    pub(crate) virtio_header: bool,
    pub(crate) nat66_prefix: Option<Ipv6Addr>,
    pub(crate) network_id: Option<InterfaceId>,
    pub(crate) host_address: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) host_ipv6: Option<Ipv6Addr>,
    pub(crate) forwards: Vec<ForwardRule>,
}

impl VmnetConfig {
    const fn new(mode: VmnetMode) -> Self {
        Self {
            mode,
            mtu: None,
            mac: None,
            dhcp: None,
            mask: None,
            isolation: None,
            interface_id: None,
            tso: false,
            checksum_offload: false,
            virtio_header: false,
            nat66_prefix: None,
            network_id: None,
            host_address: None,
            host_ipv6: None,
            forwards: Vec::new(),
        }
    }

    /// [`VmnetMode::Shared`].
    pub const fn shared() -> Self {
        Self::new(VmnetMode::Shared)
    }

    /// [`VmnetMode::HostOnly`].
    pub const fn host_only() -> Self {
        Self::new(VmnetMode::HostOnly)
    }

    /// [`VmnetMode::Bridged`] to the interface of this name, such as `en0`;
    /// [`Vmnet::shared_interfaces`](crate::Vmnet::shared_interfaces) lists those that can be.
    pub fn bridged(interface: impl Into<String>) -> Self {
        Self::new(VmnetMode::Bridged {
            interface: interface.into(),
        })
    }

    /// [`VmnetMode::Network`], for [`Vmnet::on_network`](crate::Vmnet::on_network). Addresses, MTU
    /// and forwarding rules belong to the network, not to the interface.
    pub const fn on_network() -> Self {
        Self::new(VmnetMode::Network)
    }

    /// Asks for an MTU, in bytes of an IP packet: 1,280 or more. The system may grant another:
    /// what holds is in the capabilities of the back end. Not for bridged interfaces.
    #[must_use]
    pub const fn with_mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The guest brings its own hardware address, this one: macOS is told to make none up. The
    /// framework has no way to be told which, so nothing keeps the guest to it here.
    #[must_use]
    pub const fn with_mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The gateway, `start`, and the last address that DHCP gives to guests, `end`; those between
    /// belong to DHCP too. Private addresses (RFC 1918). [`Self::with_subnet_mask`] belongs to it.
    /// Not for bridged interfaces.
    #[must_use]
    pub const fn with_dhcp_range(mut self, start: Ipv4Addr, end: Ipv4Addr) -> Self {
        self.dhcp = Some((start, end));
        self
    }

    /// The mask of the subnet in which [`Self::with_dhcp_range`] lies.
    #[must_use]
    pub const fn with_subnet_mask(mut self, mask: Ipv4Addr) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Keeps other guests of the framework away from this interface (macOS 11).
    #[must_use]
    pub const fn with_isolation(mut self, isolation: bool) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// The identity of the interface: with the same one it gets the same hardware address again.
    #[must_use]
    pub const fn with_interface_id(mut self, id: InterfaceId) -> Self {
        self.interface_id = Some(id);
        self
    }

    /// Super-frames of TCP in both directions (macOS 11). They need their checksums left out:
    /// [`Self::with_virtio_header`] or [`Self::with_checksum_offload`] belongs to it.
    #[must_use]
    pub const fn with_tso(mut self, tso: bool) -> Self {
        self.tso = tso;
        self
    }

    /// The framework computes the checksums of frames sent, and verifies those received (macOS
    /// 12). A received frame says nothing of it, so that each counts as one whose checksum is yet
    /// to be filled in.
    #[must_use]
    pub const fn with_checksum_offload(mut self, checksum_offload: bool) -> Self {
        self.checksum_offload = checksum_offload;
        self
    }

    /// A `virtio_net_hdr` in front of each frame, which says what the offloads have left undone
    /// (macOS 15.4). It takes the place of [`Self::with_checksum_offload`].
    #[must_use]
    pub const fn with_virtio_header(mut self, virtio_header: bool) -> Self {
        self.virtio_header = virtio_header;
        self
    }

    /// The IPv6 prefix behind the NAT, 64 bits long and of the unique local addresses (`fd00::/8`).
    /// Shared mode only.
    #[must_use]
    pub const fn with_nat66_prefix(mut self, prefix: Ipv6Addr) -> Self {
        self.nat66_prefix = Some(prefix);
        self
    }

    /// Joins the isolated network of this identity, which has no DHCP. Host-only mode only (macOS
    /// 11).
    #[must_use]
    pub const fn with_network_id(mut self, id: InterfaceId) -> Self {
        self.network_id = Some(id);
        self
    }

    /// The host's address on the network of [`Self::with_network_id`], and its mask.
    #[must_use]
    pub const fn with_host_address(mut self, address: Ipv4Addr, mask: Ipv4Addr) -> Self {
        self.host_address = Some((address, mask));
        self
    }

    /// The host's IPv6 address on the network of [`Self::with_network_id`].
    #[must_use]
    pub const fn with_host_ipv6(mut self, address: Ipv6Addr) -> Self {
        self.host_ipv6 = Some(address);
        self
    }

    /// A port of the host that leads to a guest from the start; may be repeated. Shared mode only
    /// (macOS 12).
    #[must_use]
    pub fn with_forward(mut self, rule: ForwardRule) -> Self {
        self.forwards.push(rule);
        self
    }

    /// Whom the guest reaches.
    pub const fn mode(&self) -> &VmnetMode {
        &self.mode
    }

    /// The MTU asked for, in bytes; `None` leaves it to macOS.
    pub const fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// The guest's own hardware address; `None` has macOS make one up.
    pub const fn mac(&self) -> Option<MacAddr> {
        self.mac
    }
}
