//! Making interfaces.
//!
//! The kernel takes an alias only for an interface that exists already, so that there is a moment in
//! which a new one has none. Its hardware address is there from the first moment: whoever wants to
//! know an interface again after a crash in between prescribes that.

use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use net_wire::MacAddr;
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
    MacVtapMode,
};
use rtnetlink::{LinkBridge, LinkMacVtap, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Link, Netlink};
use crate::{LinuxError, Result};

/// What a new bridge is to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BridgeOptions {
    /// Its hardware address. Without one the kernel chooses, and changes it as ports come and go.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes. Without it the kernel follows the smallest of the ports.
    pub mtu: Option<u16>,
    /// Whether it keeps VLANs apart (IEEE 802.1Q); see [`PortOptions`](super::PortOptions).
    pub vlan_filtering: bool,
    /// Whether it speaks the spanning tree protocol (IEEE 802.1D). A port then forwards nothing
    /// for its first 30 seconds.
    pub stp: bool,
    /// Whether it watches IGMP and MLD, and sends a group's frames only where it is listened to.
    /// Without a querier on the network that loses multicast.
    pub multicast_snooping: bool,
}

/// One end of a new virtual Ethernet pair.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Its name, 1 to 15 bytes.
    pub name: &'a str,
    /// Its hardware address; the kernel chooses one otherwise.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes; 1,500 otherwise.
    pub mtu: Option<u16>,
    /// The network namespace it is made in; the current one otherwise.
    pub netns: Option<BorrowedFd<'a>>,
}

impl<'a> VethEnd<'a> {
    /// An end of this name in the current namespace.
    pub const fn named(name: &'a str) -> Self {
        Self {
            name,
            mac: None,
            mtu: None,
            netns: None,
        }
    }

    fn describe<T>(&self, mut message: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
        message = message.name(self.name);
        if let Some(mac) = self.mac {
            message = message.address(mac.0.to_vec());
        }
        if let Some(mtu) = self.mtu {
            message = message.mtu(mtu.into());
        }
        if let Some(netns) = self.netns {
            message = message.setns_by_fd(netns.as_raw_fd());
        }
        message
    }
}

impl Netlink {
    /// Makes a bridge, which is down.
    ///
    /// # Errors
    /// As for every method; EEXIST if the name is taken; EOPNOTSUPP where the kernel has no bridges,
    /// or VLAN filtering is wanted of one that does not have it. No bridge is left then.
    pub fn create_bridge(&self, name: &str, options: &BridgeOptions) -> Result<Link> {
        let mut message = LinkMessageBuilder::<LinkBridge>::new(name)
            .stp_state(match options.stp {
                true => BridgeStpState::KernelStp,
                false => BridgeStpState::Disabled,
            })
            .mcast_snooping(options.multicast_snooping);
        if options.vlan_filtering {
            message = message.vlan_filtering(true);
        }
        if let Some(mac) = options.mac {
            message = message.address(mac.0.to_vec());
        }
        if let Some(mtu) = options.mtu {
            message = message.mtu(mtu.into());
        }
        let request = self.handle.link().add(message.build()).execute();
        self.wait(|| format!("make the bridge {name}"), request)
            .map_err(|error| match error.errno() {
                Some(libc::EOPNOTSUPP) if options.vlan_filtering => error.with_advice(NO_VLANS),
                _ => explain(error, "bridge"),
            })?;
        let link = self.link(name)?;
        // Some kernels without the feature take the attribute and say nothing.
        if options.vlan_filtering && !self.filters_vlans(link.index)? {
            self.delete_link(link.index)?;
            return Err(LinuxError::host(
                format!("make the bridge {name}"),
                &std::io::Error::from_raw_os_error(libc::EOPNOTSUPP),
            )
            .with_advice(NO_VLANS));
        }
        Ok(link)
    }

    /// Lets a bridge keep VLANs apart from now on. Every port is in VLAN 1 until it is told otherwise.
    ///
    /// # Errors
    /// As for every method; ENODEV if there is no such interface. [`LinuxError::Invalid`] of a kernel
    /// that does not know VLANs on bridges.
    pub fn filter_vlans(&self, bridge: &str) -> Result<()> {
        // Not by the crate's shorthand, which brings the bridge up as well.
        let message = LinkMessageBuilder::<LinkBridge>::new(bridge)
            .vlan_filtering(true)
            .build();
        let request = self.handle.link().change(message).execute();
        let refused = || LinuxError::Invalid(NO_VLANS.into());
        match self.wait(|| format!("let {bridge} keep VLANs apart"), request) {
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => return Err(refused()),
            other => other?,
        }
        match self.filters_vlans(self.link(bridge)?.index)? {
            true => Ok(()),
            // Some kernels take the attribute and say nothing.
            false => Err(refused()),
        }
    }

    /// Whether a bridge keeps VLANs apart.
    ///
    /// # Errors
    /// As for every method; ENODEV if there is no such interface.
    pub fn filters_vlans(&self, bridge: u32) -> Result<bool> {
        let what = || format!("ask about interface {bridge}");
        let request = self.handle.link().get().match_index(bridge).execute();
        let messages: Vec<LinkMessage> = self.wait(what, request.try_collect())?;
        let infos = messages.iter().flat_map(|message| &message.attributes);
        let infos = infos.filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let data = infos.flatten().filter_map(|info| match info {
            LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
            _ => None,
        });
        let mut flags = data.flatten().filter_map(|info| match info {
            InfoBridge::VlanFiltering(on) => Some(*on),
            _ => None,
        });
        Ok(flags.next().unwrap_or(false))
    }

    /// Makes a pair of virtual Ethernet interfaces, both down; what goes into one comes out of the
    /// other.
    ///
    /// # Errors
    /// As for every method; EEXIST if a name is taken.
    pub fn create_veth(&self, near: &VethEnd<'_>, far: &VethEnd<'_>) -> Result<()> {
        let peer = far
            .describe(LinkMessageBuilder::<LinkUnspec>::new())
            .build();
        let message = near
            .describe(LinkVeth::new(near.name, far.name))
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let request = self.handle.link().add(message).execute();
        self.wait(
            || format!("make the pair {} and {}", near.name, far.name),
            request,
        )
        .map_err(|error| explain(error, "veth"))
    }

    /// Makes a macvtap on the interface `parent`, which is down: a port with an address of its own
    /// on that interface, opened by [`Tap::open_macvtap`](crate::Tap::open_macvtap). Those of one
    /// parent reach one another (mode `bridge`); the host itself does not reach them.
    ///
    /// # Errors
    /// As for every method; EBUSY if the parent is a port of a bridge, EEXIST if the name is taken.
    pub fn create_macvtap(&self, parent: u32, name: &str, mac: Option<MacAddr>) -> Result<Link> {
        let mut message = LinkMacVtap::new(name, parent, MacVtapMode::Bridge);
        if let Some(mac) = mac {
            message = message.address(mac.0.to_vec());
        }
        let request = self.handle.link().add(message.build()).execute();
        self.wait(
            || format!("make the macvtap {name} on interface {parent}"),
            request,
        )
        .map_err(|error| match error.errno() {
            Some(libc::EBUSY | libc::EINVAL) => {
                error.with_advice("an interface that is a port of a bridge carries no macvtap")
            }
            _ => explain(error, "macvtap"),
        })?;
        self.link(name)
    }
}

/// What a bridge that should filter VLANs and cannot means.
pub(super) const NO_VLANS: &str =
    "this kernel's bridges do not know VLANs (CONFIG_BRIDGE_VLAN_FILTERING)";

/// A kind of interface that the kernel does not have is a module to load.
fn explain(error: LinuxError, module: &str) -> LinuxError {
    match error.errno() {
        Some(libc::EOPNOTSUPP) => {
            error.with_advice(format!("load the kernel module: modprobe {module}"))
        }
        Some(libc::EEXIST) => error.with_advice("an interface of that name exists"),
        _ => error,
    }
}
