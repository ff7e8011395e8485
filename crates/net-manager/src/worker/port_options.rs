//! What an attachment says about its ports, and what the switch is told of it.

use net_switch::{PortConfig, VlanId};

use super::data_path::Core;
use crate::error::ManagerError;

/// What the switch of this process is to do with an attachment's ports.
///
/// None of it is for a guest whose frames the kernel carries: see [`crate::NetworkConfig::isolated`],
/// and the VLAN of [`crate::kernel::TapPort`] and [`crate::Network::attach_netns`].
#[cfg_attr(
    not(target_os = "linux"),
    allow(rustdoc::broken_intra_doc_links, reason = "no other system has them")
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Its access VLAN, 1 to 4,094: it reaches ports of the same VLAN, and the gateway with all
    /// behind it. Without one it reaches ports without one.
    pub vlan: Option<u16>,
    /// It reaches the gateway and the way out, and no guest.
    pub isolated: bool,
    /// It is the mirror port of the network: it gets copies, and sends nothing. A network has one at
    /// most, a single connection.
    pub mirror: bool,
    /// The mirror port gets a copy of every frame that it sends and is sent.
    pub mirrored: bool,
    /// Its guest may be moved, while it runs, to another attachment that says so too, and one from there
    /// may come. What belongs to the guest goes along: address, name, published ports, flows. Whoever
    /// serves one such attachment, its VMM, can therefore take over what a guest of another has
    /// left, such as one that starts again: it is for attachments whose VMMs trust each other.
    pub moves: bool,
}

/// The same, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortSettings {
    vlan: Option<VlanId>,
    isolated: bool,
    pub(super) mirror: bool,
    mirrored: bool,
    pub(super) moves: bool,
}

impl PortSettings {
    /// Checks what an attachment asks for against what the network can do.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] and [`ManagerError::CannotHave`].
    pub(super) fn check(
        options: PortOptions,
        on_trunk: bool,
        core: &Core,
    ) -> Result<Self, ManagerError> {
        let cannot = |what: &str, why: &str| ManagerError::CannotHave {
            what: what.to_owned(),
            why: why.to_owned(),
        };
        let vlan = match options.vlan {
            None => None,
            Some(number) => Some(VlanId::new(number).ok_or_else(|| {
                ManagerError::Invalid(format!("a VLAN is a number from 1 to 4094, not {number}"))
            })?),
        };
        if on_trunk && options != PortOptions::default() {
            return Err(cannot(
                "this of a single guest",
                "the kernel carries its frames; --isolated is for all guests, and a VLAN is an \
                 option of its device",
            ));
        }
        if vlan.is_some() && (core.trunk.is_some() || !core.has_gateway) {
            return Err(cannot(
                "a VLAN",
                "frames of this guest leave by a bridge that this program does not tag for; take \
                 the engine user or fast, or a device of the kernel's",
            ));
        }
        if options.isolated && !core.isolated && core.trunk.is_some() {
            return Err(cannot(
                "isolation of this guest alone",
                "it would reach guests whose frames the kernel carries; --isolated is for all",
            ));
        }
        if options.mirror && options.mirrored {
            return Err(ManagerError::Invalid(
                "a mirror port is not mirrored itself".to_owned(),
            ));
        }
        if options.mirror && core.mirror.is_some() {
            return Err(cannot("a second mirror port", "a network has one"));
        }
        Ok(Self {
            vlan,
            isolated: options.isolated,
            mirror: options.mirror,
            mirrored: options.mirrored,
            moves: options.moves,
        })
    }

    /// The settings of a port in the switch; `isolated` for the network as a whole.
    pub(super) fn config(self, isolated: bool) -> PortConfig {
        PortConfig::default()
            .vlan(self.vlan)
            .isolated(self.isolated || isolated)
            .mirrored(self.mirrored)
    }
}

impl Core {
    /// Tells the ports who is mirrored.
    pub(super) fn follow_mirror(&mut self) {
        for (id, port) in self.ports.iter_mut() {
            port.mirror = self.switch.mirror_of(id);
        }
    }
}
