//! What an engine has done and how full it is.

use crate::verdict::DropReason;

/// Counters of an engine, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Packets translated from the inside.
    pub outbound: u64,
    /// Packets translated from the outside.
    pub inbound: u64,
    /// Packets from the inside that went back to it.
    pub hairpinned: u64,
    /// ICMP errors translated.
    pub errors: u64,
    /// Packets left alone.
    pub passed: u64,
    /// Packets of another shard.
    pub sharded: u64,
    /// ICMP errors made.
    pub replies: u64,
    /// Answers and released fragments lost because nobody fetched what was there.
    pub outputs_lost: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that have ended.
    pub closed: u64,
    /// TCP segments outside their window that were translated all the same.
    pub out_of_window: u64,
    /// Packets that went no further, by [`DropReason`].
    pub(crate) drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Packets that went no further for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Packets that went no further.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// How full an engine is (RFC 6888, REQ-7 asks that utilisation can be seen).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Sessions.
    pub sessions: usize,
    /// Sessions there can be.
    pub sessions_max: usize,
    /// Mappings, with those whose port rests.
    pub mappings: usize,
    /// Mappings there can be.
    pub mappings_max: usize,
    /// Inside hosts.
    pub hosts: usize,
    /// Datagrams whose fragments are on the way.
    pub fragmented: usize,
    /// Bytes of address space of all tables; what was never used takes no memory.
    pub bytes: usize,
}
