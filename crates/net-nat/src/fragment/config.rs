//! How much fragments may cost.

use core::time::Duration;

/// Bounds of a fragment table.
///
/// An owner is whoever fragments are charged to: an inside host, or all strangers outside together.
/// What an owner may use of each bound is meant to be a fraction of the whole, so that no owner
/// alone can fill the table; nobody's fragments are ever dropped to make room for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentConfig {
    /// Datagrams whose fragments are on the way at a time.
    pub datagrams: usize,
    /// How many of them may be one owner's.
    pub datagrams_per_owner: usize,
    /// Fragments held until the first of their datagram comes.
    pub held_packets: usize,
    /// How many of them may be one owner's.
    pub held_packets_per_owner: usize,
    /// How many of them may belong to one datagram; 45 of 1,500 bytes make the longest datagram.
    pub held_per_datagram: usize,
    /// Bytes of all held fragments.
    pub held_bytes: usize,
    /// How many of them may be one owner's.
    pub held_bytes_per_owner: usize,
    /// How long a record lives, and how long a fragment is held.
    ///
    /// RFC 4787 (REQ-14) leaves the time to the implementation. A receiver waits for 15 s
    /// (RFC 791, section 3.2) to 60 s (RFC 8200, section 4.5), but the fragments of a datagram leave
    /// their sender together and rarely arrive a second apart.
    pub timeout: Duration,
}

impl Default for FragmentConfig {
    fn default() -> Self {
        Self {
            datagrams: 1024,
            datagrams_per_owner: 128,
            held_packets: 2048,
            held_packets_per_owner: 256,
            held_per_datagram: 64,
            held_bytes: 1 << 20,
            held_bytes_per_owner: 128 << 10,
            timeout: Duration::from_secs(15),
        }
    }
}
