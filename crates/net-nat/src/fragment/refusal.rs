//! Why a fragment goes no further, and how often that happened.

/// Why a fragment was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FragmentRefusal {
    /// The first fragment ends within the transport header (RFC 1858, section 3).
    Tiny,
    /// A later fragment begins within the transport header (RFC 1858, section 4; RFC 3128).
    HeaderOverlap,
    /// The datagram would be longer than 65,535 bytes.
    Oversize,
    /// A fragment without payload that is not the whole datagram.
    Empty,
    /// A fragment other than the last whose length is not a multiple of 8 (RFC 791, section 3.2).
    Ragged,
    /// Another first fragment for a datagram that is being translated differently.
    Conflict,
    /// A held fragment that brings nothing beyond those already held.
    Duplicate,
    /// The table is full.
    TableFull,
    /// The owner has as many datagrams as it may.
    OwnerFull,
    /// No more fragments can be held.
    HeldFull,
    /// The owner has as many fragments held as it may.
    OwnerHeldFull,
    /// The datagram has as many fragments held as it may.
    DatagramHeldFull,
}

impl FragmentRefusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::Tiny,
        Self::HeaderOverlap,
        Self::Oversize,
        Self::Empty,
        Self::Ragged,
        Self::Conflict,
        Self::Duplicate,
        Self::TableFull,
        Self::OwnerFull,
        Self::HeldFull,
        Self::OwnerHeldFull,
        Self::DatagramHeldFull,
    ];
}

/// What a fragment table did, counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FragmentCounters {
    /// Datagrams whose first fragment was translated and recorded.
    pub recorded: u64,
    /// Later fragments translated by a record.
    pub translated: u64,
    /// Fragments held until the first of their datagram came.
    pub held: u64,
    /// Held fragments given back because it came.
    pub released: u64,
    /// Datagrams given up after the timeout, translated or not.
    pub expired: u64,
    /// Held fragments lost with them.
    pub expired_packets: u64,
    refused: [u64; FragmentRefusal::ALL.len()],
}

impl FragmentCounters {
    /// Fragments dropped for this reason.
    #[must_use]
    pub fn refused(&self, reason: FragmentRefusal) -> u64 {
        self.refused
            .get(reason as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Fragments dropped for any reason.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// These and those of another table.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut refused = self.refused;
        for (count, more) in refused.iter_mut().zip(other.refused) {
            *count += more;
        }
        Self {
            recorded: self.recorded + other.recorded,
            translated: self.translated + other.translated,
            held: self.held + other.held,
            released: self.released + other.released,
            expired: self.expired + other.expired,
            expired_packets: self.expired_packets + other.expired_packets,
            refused,
        }
    }

    /// Counts a dropped fragment.
    pub(super) fn refuse(&mut self, reason: FragmentRefusal) {
        if let Some(count) = self.refused.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut counters = FragmentCounters::default();
        for (index, reason) in FragmentRefusal::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                counters.refuse(reason);
            }
        }
        for (index, reason) in FragmentRefusal::ALL.into_iter().enumerate() {
            assert_eq!(counters.refused(reason), index as u64 + 1, "{reason:?}");
        }
        assert_eq!(counters.refused_total(), 12 * 13 / 2);
    }
}
