//! Leases as bytes, so that they outlive the process (RFC 2131 section 2.1 asks for it).
//!
//! Format, version 1, big-endian: the magic `net-dhcp`, `u16` version, `u32` number of records;
//! each record: address (4), MAC (6), remaining seconds (`u32`, 0 for a remembered address),
//! length (`u8`) and bytes of the client identifier, length and bytes of the host name.

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

const MAGIC: &[u8; 8] = b"net-dhcp";
const VERSION: u16 = 1;

/// Every lease of a server at one moment. Ports are not kept: they do not survive a restart, and
/// the first port on which a client appears takes its lease over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// In the order of the addresses.
    pub leases: Vec<LeaseRecord>,
}

/// One lease of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The address.
    pub ip: Ipv4Addr,
    /// Hardware address of the client.
    pub mac: [u8; 6],
    /// Option 61, if the client sent one; 1 to 255 bytes.
    pub client_id: Option<Vec<u8>>,
    /// Host name, a DNS label.
    pub hostname: Option<String>,
    /// What was left of the lease, in whole seconds, rounded up. Zero: it is over, and only
    /// remembered so that the client gets the same address again.
    pub remaining: Duration,
}

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They do not begin like one.
    #[error("not a lease file")]
    Magic,
    /// Written by a version this one does not know.
    #[error("lease file version {0} is not supported")]
    Version(u16),
    /// They end too early, go on too long, or hold a value that cannot be.
    #[error("lease file is damaged")]
    Damaged,
}

impl Snapshot {
    /// As bytes, for a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(14 + self.leases.len() * 48);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        let count = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for lease in self.leases.iter().take(count as usize) {
            out.extend_from_slice(&lease.ip.octets());
            out.extend_from_slice(&lease.mac);
            let secs = u32::try_from(lease.remaining.as_secs()).unwrap_or(u32::MAX);
            out.extend_from_slice(&secs.to_be_bytes());
            let id = lease.client_id.as_deref().unwrap_or_default();
            let name = lease.hostname.as_deref().unwrap_or_default().as_bytes();
            for field in [id, name] {
                // Longer ones cannot come from a server; they would not fit the format either.
                let field = field.get(..255).unwrap_or(field);
                out.push(field.len() as u8);
                out.extend_from_slice(field);
            }
        }
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`SnapshotError`]; a damaged file gives no leases at all, because half of a lease file
    /// hands out addresses that are in use.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::Magic)?;
        let version = u16::from_be_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut leases = Vec::new();
        for _ in 0..count {
            let ip = Ipv4Addr::from(take::<4>(&mut rest)?);
            let mac = take(&mut rest)?;
            let remaining = Duration::from_secs(u32::from_be_bytes(take(&mut rest)?).into());
            let id = field(&mut rest)?;
            let name = std::str::from_utf8(field(&mut rest)?);
            let name = name.map_err(|_| SnapshotError::Damaged)?;
            leases.push(LeaseRecord {
                ip,
                mac,
                client_id: (!id.is_empty()).then(|| id.to_vec()),
                hostname: (!name.is_empty()).then(|| name.to_owned()),
                remaining,
            });
        }
        if rest.is_empty() {
            Ok(Self { leases })
        } else {
            Err(SnapshotError::Damaged)
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SnapshotError> {
    let (&head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(SnapshotError::Damaged)?;
    *rest = tail;
    Ok(head)
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SnapshotError> {
    let [len] = take::<1>(rest)?;
    let (head, tail) = rest
        .split_at_checked(usize::from(len))
        .ok_or(SnapshotError::Damaged)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let lease = |n: u8, client_id: Option<Vec<u8>>, hostname: Option<&str>| LeaseRecord {
            ip: Ipv4Addr::new(10, 0, 0, n),
            mac: [2, 0, 0, 0, 0, n],
            client_id,
            hostname: hostname.map(str::to_owned),
            remaining: Duration::from_secs(u64::from(n) * 100),
        };
        Snapshot {
            leases: vec![
                lease(0, None, None),
                lease(2, Some(vec![1; 255]), Some("web")),
                lease(3, None, Some("db")),
            ],
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Snapshot::from_bytes(&snapshot().to_bytes()), Ok(snapshot()));
        let none = Snapshot::default();
        assert_eq!(Snapshot::from_bytes(&none.to_bytes()), Ok(none));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = snapshot().to_bytes();
        for len in 0..bytes.len() {
            assert!(Snapshot::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Snapshot::from_bytes(&longer), Err(SnapshotError::Damaged));
    }

    #[test]
    fn newer_version_is_named() {
        let mut bytes = snapshot().to_bytes();
        bytes[9] = 2;
        assert_eq!(Snapshot::from_bytes(&bytes), Err(SnapshotError::Version(2)));
    }
}
