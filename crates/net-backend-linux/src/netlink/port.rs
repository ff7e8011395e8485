//! What a bridge does with a port.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use rtnetlink::{LinkBridgePort, LinkBridgeVlan};

use super::Netlink;
use super::create::NO_VLANS;
use crate::{LinuxError, Result};

/// The VLAN that every port of a bridge is in by default.
const DEFAULT_VLAN: u16 = 1;

/// What a bridge does with one of its ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortOptions {
    /// Whether frames pass between this port and others that are isolated.
    pub isolated: bool,
    /// Whether a frame may go back out of the port it came in by.
    pub hairpin: bool,
    /// The VLAN (1 to 4094) that the port is in: frames without a tag belong to it, and its frames
    /// leave without one. The port leaves the default VLAN 1. Without it nothing changes.
    pub pvid: Option<u16>,
    /// VLANs whose frames carry their tags on this port, besides. An uplink has those of the guests.
    pub tagged: Vec<u16>,
}

impl Netlink {
    /// Sets what a bridge does with the port `index`.
    ///
    /// # Errors
    /// As for every method; EOPNOTSUPP or EINVAL if the interface is no port of a bridge.
    /// [`LinuxError::Invalid`] for VLANs outside of 1 to 4094, where nothing is changed.
    pub fn set_port(&self, index: u32, options: &PortOptions) -> Result<()> {
        let mut vlans = options.pvid.iter().chain(&options.tagged);
        if let Some(vlan) = vlans.find(|vlan| !(1..=4094).contains(*vlan)) {
            return Err(LinuxError::Invalid(format!(
                "a VLAN is a number from 1 to 4094, not {vlan}"
            )));
        }
        let message = LinkBridgePort::new(index)
            .isolated(options.isolated)
            .hairpin(options.hairpin)
            .build();
        let request = self.handle.link().set_port(message).execute();
        self.wait(|| format!("set up the bridge port {index}"), request)
            .map_err(|error| match error.errno() {
                Some(libc::EOPNOTSUPP | libc::EINVAL) => {
                    error.with_advice("the interface is not a port of a bridge")
                }
                _ => error,
            })?;
        if let Some(pvid) = options.pvid {
            let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
            self.add_port_vlan(index, pvid, flags)?;
            if pvid != DEFAULT_VLAN && !options.tagged.contains(&DEFAULT_VLAN) {
                self.leave_default_vlan(index)?;
            }
        }
        for vlan in &options.tagged {
            self.add_port_vlan(index, *vlan, BridgeVlanInfoFlags::empty())?;
        }
        Ok(())
    }

    /// The VLANs that a bridge port is in, by number, each with whether frames without a tag belong
    /// to it.
    ///
    /// # Errors
    /// As for every method.
    pub fn port_vlans(&self, index: u32) -> Result<Vec<(u16, bool)>> {
        let request = self
            .handle
            .link()
            .get()
            .set_filter_mask(AddressFamily::Bridge, vec![LinkExtentMask::Brvlan])
            .execute();
        let what = || format!("list the VLANs of the bridge port {index}");
        let messages: Vec<LinkMessage> = self.wait(what, request.try_collect())?;
        let mine = messages.iter().filter(|m| m.header.index == index);
        let specs = mine.flat_map(|m| &m.attributes).filter_map(|a| match a {
            LinkAttribute::AfSpecBridge(specs) => Some(specs),
            _ => None,
        });
        let mut vlans: Vec<_> = specs
            .flatten()
            .filter_map(|spec| match spec {
                AfSpecBridge::VlanInfo(info) => {
                    Some((info.vid, info.flags.contains(BridgeVlanInfoFlags::Pvid)))
                }
                _ => None,
            })
            .collect();
        vlans.sort_unstable();
        Ok(vlans)
    }

    fn add_port_vlan(&self, index: u32, vlan: u16, flags: BridgeVlanInfoFlags) -> Result<()> {
        let message = LinkBridgeVlan::new(index).vlan(vlan, flags).build();
        let request = self.handle.link().set(message).execute();
        self.wait(
            || format!("put the bridge port {index} in VLAN {vlan}"),
            request,
        )
        .map_err(|error| match error.errno() {
            Some(libc::EOPNOTSUPP) => error.with_advice(NO_VLANS),
            _ => error,
        })
    }

    fn leave_default_vlan(&self, index: u32) -> Result<()> {
        let message = LinkBridgeVlan::new(index)
            .vlan(DEFAULT_VLAN, BridgeVlanInfoFlags::empty())
            .build();
        let request = self.handle.link().del_with_message(message).execute();
        let what = || format!("take the bridge port {index} out of VLAN {DEFAULT_VLAN}");
        match self.wait(what, request) {
            // A bridge without a default VLAN has nothing to leave.
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}
