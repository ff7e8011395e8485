//! What becomes of a packet.

use core::fmt;

use net_datapath::stats::DropReason as DatapathReason;

/// A side of the translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The guests' network.
    Inside,
    /// The network the outside addresses belong to.
    Outside,
}

/// What the caller does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use]
pub enum Verdict {
    /// The packet was rewritten: send it to this side. A packet from the inside comes back to it
    /// when it was for an outside address of ours (hairpinning, RFC 4787, section 6).
    Translated(Side),
    /// Rewritten, and too long for that side, but allowed to be cut:
    /// [`fragments_v4`](crate::fragment::fragments_v4).
    Fragment(Side),
    /// Not the translator's business, and unchanged: guest to guest, or for an address that is
    /// neither inside nor one of ours.
    Pass,
    /// The packet goes no further.
    Drop(DropReason),
    /// The packet goes no further; an answer to its sender waits in
    /// [`NatEngine::next_output`](crate::NatEngine::next_output).
    Reply,
    /// A fragment that came before the one with the ports. A copy is kept; when it can be
    /// translated it comes out of [`NatEngine::next_output`](crate::NatEngine::next_output).
    Hold,
    /// The packet belongs to the engine with this number, in the same direction; unchanged.
    Shard(u16),
    /// The packet, which is half translated, is for a guest of the engine with this number:
    /// [`NatEngine::translate_hairpinned`](crate::NatEngine::translate_hairpinned) of that one does
    /// the rest.
    Hairpin(u16),
}

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Not an IP packet, or a header contradicts itself.
    Malformed,
    /// A checksum that had to hold did not (RFC 5508, REQ-3).
    Checksum,
    /// No translation for this family or protocol is configured.
    Unsupported,
    /// A source that cannot be on that side, or an address no packet may have.
    Spoofed,
    /// From the outside, and for nobody inside.
    NoMapping,
    /// From the outside, for a mapping that does not admit this sender.
    Filtered,
    /// A TCP segment that may not open a session.
    NotOpening,
    /// A TCP segment outside the window, where the configuration is strict.
    OutOfWindow,
    /// An ICMP message that is not a query and belongs to no session.
    UnrelatedIcmp,
    /// Longer than the way allows, and not to be cut.
    TooBig,
    /// The table of sessions or mappings is full.
    TableFull,
    /// This guest has as many sessions or mappings as one may have.
    Quota,
    /// This guest opens sessions too fast.
    Rate,
    /// The outside address of this guest has no free port.
    NoPort,
    /// A fragment that is impossible, overlaps, or found no room.
    Fragment,
    /// An unsolicited SYN: answered later, if nobody inside turns out to want it (RFC 5382, REQ-4).
    Unsolicited,
    /// Policy: the mapping is being removed, or errors of this kind are muted.
    Policy,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Checksum,
        Self::Unsupported,
        Self::Spoofed,
        Self::NoMapping,
        Self::Filtered,
        Self::NotOpening,
        Self::OutOfWindow,
        Self::UnrelatedIcmp,
        Self::TooBig,
        Self::TableFull,
        Self::Quota,
        Self::Rate,
        Self::NoPort,
        Self::Fragment,
        Self::Unsolicited,
        Self::Policy,
    ];

    /// A short name for logs and metrics: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Unsupported => "unsupported",
            Self::Spoofed => "spoofed",
            Self::NoMapping => "no_mapping",
            Self::Filtered => "filtered",
            Self::NotOpening => "not_opening",
            Self::OutOfWindow => "out_of_window",
            Self::UnrelatedIcmp => "unrelated_icmp",
            Self::TooBig => "too_big",
            Self::TableFull => "table_full",
            Self::Quota => "quota",
            Self::Rate => "rate",
            Self::NoPort => "no_port",
            Self::Fragment => "fragment",
            Self::Unsolicited => "unsolicited",
            Self::Policy => "policy",
        }
    }

    /// The reason a worker's counters know it by.
    #[must_use]
    pub const fn datapath(self) -> DatapathReason {
        match self {
            Self::Malformed | Self::Fragment => DatapathReason::Malformed,
            Self::Checksum => DatapathReason::Checksum,
            Self::Unsupported => DatapathReason::Unsupported,
            Self::NoMapping => DatapathReason::NoRoute,
            Self::TooBig => DatapathReason::TooBig,
            Self::TableFull | Self::NoPort => DatapathReason::TableFull,
            Self::Quota | Self::Rate => DatapathReason::Quota,
            Self::Spoofed
            | Self::Filtered
            | Self::NotOpening
            | Self::OutOfWindow
            | Self::UnrelatedIcmp
            | Self::Unsolicited
            | Self::Policy => DatapathReason::Policy,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A packet the engine made or kept, to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where it goes.
    pub side: Side,
    /// The engine that has to translate it first, as inbound; `None` when it is ready.
    pub shard: Option<u16>,
    /// The packet, from its IP header on.
    pub packet: alloc::vec::Vec<u8>,
}
