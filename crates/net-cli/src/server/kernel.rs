//! Places whose frames the kernel carries: nothing of them passes through this process.

use net_manager::AttachOptions;

use super::{Attached, Server};
use crate::namespace::INTERFACE;
use crate::place::Place;
use crate::usage::UsageError;

impl Server {
    /// Attaches a place of the kernel's; `None` for one that this process serves.
    pub(super) fn attach_in_kernel(&self, place: &Place) -> Result<Option<Attached>, UsageError> {
        let options = AttachOptions::default();
        let network = &self.network;
        let made = match place {
            Place::Tap(tap) if self.is_in_kernel() => network.attach_tap(tap.port(), options),
            Place::Macvtap(macvtap) => {
                let name = macvtap.interface();
                network.attach_macvtap(&macvtap.parent, &name, macvtap.owner, options)
            }
            Place::Netns(name) if self.is_in_kernel() => {
                network.attach_netns(name, INTERFACE, None, options)
            }
            _ => return Ok(None),
        };
        let made = made.map_err(|err| UsageError::new(format!("{place}: {err}")))?;
        let device = made.port.device;
        Ok(Some(Attached {
            place: place.clone(),
            info: made.info,
            mac: Some(net_wire::MacAddr(made.mac).to_string()),
            device: device.map(|path| path.display().to_string()),
        }))
    }
}
