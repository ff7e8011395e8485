//! All sessions, mappings and forwards as bytes, for a restart or another machine.
//!
//! ```text
//! "arcNAT"  version u16  { family u8  mappings u32  mapping*  sessions u32  session* }*  0 u8  sum u64
//!
//! mapping   protocol u8  flags u8  inside  outside  remote  seconds u32
//! session   protocol u8  timer u8  opener u8  inside  outside  remote  seconds u32  [tcp 24]
//! endpoint  address 4 or 16  port u16
//! ```
//!
//! Flags are the sum of 1 for a forward, 2 for a port that rests, and 4 for one that was a forward. An
//! opener is 0 for the inside, 1 for the outside, and 2 for the outside where the inside has
//! answered. Numbers are little-endian, addresses in network order. Times are what is left of them,
//! so that the clock of the reader need not be the writer's. The sum is SipHash-1-3 without a key: it finds
//! damage, not malice.

use alloc::vec::Vec;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::address::Address;

/// What a snapshot begins with.
const MAGIC: &[u8; 6] = b"arcNAT";
/// The version this code writes, and the only one it reads.
const VERSION: u16 = 1;
const SUM: usize = 8;

/// Why a snapshot was not taken in. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are no snapshot of an engine.
    #[error("this is no snapshot")]
    NotOne,
    /// A version this code does not know.
    #[error("a snapshot of version {0} cannot be read")]
    Version(u16),
    /// The bytes are not those that were written.
    #[error("the snapshot is damaged")]
    Damaged,
    /// The engine has sessions or mappings already; forwards too are mappings.
    #[error("the engine is in use already")]
    InUse,
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Restored {
    /// Sessions that go on.
    pub sessions: usize,
    /// Mappings, forwards among them.
    pub mappings: usize,
    /// Sessions and mappings that do not fit this engine's configuration: another address, a network
    /// that is not inside any more, no room.
    pub skipped: usize,
}

/// A snapshot in the making.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        Self { bytes }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = sum(&self.bytes);
        self.bytes(&sum.to_le_bytes());
        self.bytes
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A snapshot being read. What was written as it was is sound; so an end too early is damage.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::NotOne)?;
        let (version, _) = rest.split_first_chunk().ok_or(SnapshotError::NotOne)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (all, stored) = bytes
            .split_last_chunk::<SUM>()
            .ok_or(SnapshotError::Damaged)?;
        if u64::from_le_bytes(*stored) != sum(all) {
            return Err(SnapshotError::Damaged);
        }
        let body = all.get(MAGIC.len() + size_of::<u16>()..);
        let bytes = body.ok_or(SnapshotError::Damaged)?;
        Ok(Self { bytes })
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (front, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(SnapshotError::Damaged)?;
        self.bytes = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, SnapshotError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An address: its octets.
    pub(crate) fn addr<A: Address>(&mut self) -> Result<A, SnapshotError> {
        let len = size_of::<A>();
        let (octets, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(SnapshotError::Damaged)?;
        self.bytes = rest;
        A::from_octets(octets).ok_or(SnapshotError::Damaged)
    }

    /// Bytes left: an upper bound of how many records may follow.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found_at_every_byte() {
        let mut writer = Writer::new();
        writer.u32(0x0102_0304);
        writer.u8(7);
        let whole = writer.finish();
        let mut reader = Reader::new(&whole).expect("whole");
        assert_eq!((reader.u32(), reader.u8()), (Ok(0x0102_0304), Ok(7)));
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), Err(SnapshotError::Damaged));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(Reader::new(&bytes).is_err(), "byte {at}");
            assert!(Reader::new(&whole[..at]).is_err(), "length {at}");
        }
    }
}
