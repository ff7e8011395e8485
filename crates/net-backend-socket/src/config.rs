//! What the user says about an attachment.

use net_backend::{Capabilities, MAX_FRAME, Offloads};

/// The receive offloads a peer may use without saying so in the frame. UDP segmentation is not
/// among them: nothing in such a frame tells the length of its segments.
const DECLARABLE: Offloads = Offloads::RX_ALL;

/// What cannot be learned from the socket itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketConfig {
    /// Largest IP packet of an ordinary frame, in bytes.
    pub mtu: u16,
    /// The receive offloads that the peer uses. None of these sockets carries a `virtio_net_hdr`;
    /// but libkrun strips it from what the guest sends, so that super-frames and partial
    /// checksums arrive with nothing to tell them by. Declared here, they are recognised:
    /// [`Offloads::RX_CSUM`] says that checksums of TCP and UDP may be partial (the header is
    /// made again, the checksum never is a reason to drop), `RX_TSO4` and `RX_TSO6` that an IP
    /// packet over the MTU is a super-frame. `RX_USO` and all `TX_` offloads are ignored.
    pub declares: Offloads,
}

impl Default for SocketConfig {
    /// An MTU of 1,500 bytes and finished frames only.
    fn default() -> Self {
        Self {
            mtu: 1500,
            declares: Offloads::NONE,
        }
    }
}

impl SocketConfig {
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            offloads: self.declared(),
            mtu: self.mtu,
            mac: None,
            queue_pairs: 1,
            max_frame: MAX_FRAME,
        }
    }

    pub(crate) fn declared(&self) -> Offloads {
        ((self.declares & DECLARABLE) - Offloads::RX_USO).consistent()
    }
}
