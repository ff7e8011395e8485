//! Counters of one attachment.

/// What an attachment has seen since it was made. Plain numbers: the back end belongs to one
/// thread, and whoever wants them elsewhere copies them.
///
/// "Receive" is from the peer to this program. Every frame a peer offered is in `rx_frames` or in
/// one of the receive drops; every frame that `transmit` took is in `tx_frames` or in one of the
/// transmit drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BackendStats {
    /// Frames lent to the caller.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames refused: too short, too long, truncated, or with a header that contradicts them.
    pub rx_malformed: u64,
    /// Frames refused because somebody else than the attached peer sent them.
    pub rx_strangers: u64,
    /// Calls of the operating system that received.
    pub rx_calls: u64,
    /// Frames given to the operating system or to the peer.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames dropped because of their length or of an offload that was not agreed: a defect of
    /// the caller.
    pub tx_invalid: u64,
    /// Frames dropped because no peer was there.
    pub tx_no_peer: u64,
    /// Frames dropped because the host had no buffer for them within the time allowed.
    pub tx_no_buffer: u64,
    /// Times that a transmission would have blocked.
    pub tx_blocked: u64,
    /// Calls of the operating system that sent.
    pub tx_calls: u64,
    /// Peers that have attached.
    pub peers: u64,
    /// Peers that have gone.
    pub disconnects: u64,
}

impl BackendStats {
    /// Frames taken for transmission and thrown away, for whatever reason.
    pub const fn tx_dropped(&self) -> u64 {
        self.tx_invalid + self.tx_no_peer + self.tx_no_buffer
    }

    /// Frames of a peer that were thrown away, for whatever reason.
    pub const fn rx_dropped(&self) -> u64 {
        self.rx_malformed + self.rx_strangers
    }
}
