//! The mirror port: it gets a copy of every frame that chosen ports send and are sent.
//!
//! The switch says who is mirrored; whoever carries the frames makes the copies, which wait in the
//! mirror port's own queue and are lost there if it is slow. A frame from one mirrored port to
//! another is copied twice, as it passes each.

use crate::{PortId, Switch};

impl Switch {
    /// Makes a port the mirror port, or none. It sends nothing into the network, gets nothing but
    /// copies, and what was learned on it is forgotten. False if there is no such port, or if it has a
    /// static address: then nothing has changed.
    pub fn set_mirror(&mut self, id: Option<PortId>) -> bool {
        if let Some(id) = id {
            if self.find(id).is_none_or(|port| !port.statics.is_empty()) {
                return false;
            }
            self.forget_port(id);
        }
        self.last = None;
        self.mirror = id;
        true
    }

    /// The port that gets a copy of each frame which `port` sends, whatever becomes of it, and of
    /// each that it is sent; `None` if `port` is not mirrored.
    pub fn mirror_of(&self, port: PortId) -> Option<PortId> {
        let mirror = self.mirror?;
        let mirrored = self.find(port).is_some_and(|it| it.config.mirrored);
        (mirrored && mirror != port).then_some(mirror)
    }
}
