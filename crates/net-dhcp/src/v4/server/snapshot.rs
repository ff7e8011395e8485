//! Leases as bytes, so that they outlive the process (RFC 2131 section 2.1 asks for it).
//!
//! Format, version 1, big-endian: the magic `net-dhcp`, `u16` version, `u32` number of records;
//! each record: address (4), MAC (6), remaining seconds (`u32`, 0 for a remembered address),
//! length (`u8`) and bytes of the client identifier, length and bytes of the host name.

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use super::table::{Binding, ClientKey, State};
use super::{MAX_CLIENT_ID, Owner, Server, is_unicast};

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

impl Server {
    /// Leases and remembered addresses at `now`, to be kept over a restart. Reservations are the
    /// host's own and not part of it, but the address of [`reserve_any`](Self::reserve_any) is
    /// remembered and will be given to the same hardware address again.
    pub fn snapshot(&mut self, now: Duration) -> Snapshot {
        self.expire(now);
        let record = |ip: u32, b: &Binding| LeaseRecord {
            ip: ip.into(),
            mac: b.mac,
            client_id: match &b.key {
                ClientKey::Id(id) => Some(id.to_vec()),
                ClientKey::Mac(_) => None,
            },
            hostname: b.hostname.clone(),
            remaining: match b.state {
                State::Bound => whole_secs_up(b.at.saturating_sub(self.clock)),
                _ => Duration::ZERO,
            },
        };
        let bound = self
            .table
            .iter()
            .filter(|(_, b)| matches!(b.state, State::Bound | State::Former));
        let mut leases: Vec<_> = bound.map(|(ip, b)| record(ip, b)).collect();
        for reservation in self.reservations.iter() {
            if let Owner::Mac(mac) = reservation.owner
                && self.table.get(reservation.ip.into()).is_none()
            {
                leases.push(LeaseRecord {
                    ip: reservation.ip,
                    mac,
                    client_id: None,
                    hostname: reservation.hostname.clone(),
                    remaining: Duration::ZERO,
                });
            }
        }
        leases.sort_by_key(|lease| lease.ip);
        Snapshot { leases }
    }

    /// Takes over the leases of a snapshot that is `age` old. Call it before the first message.
    /// Returns how many records were left out, because the configuration no longer has the
    /// address, another lease has it, or the record cannot be right.
    pub fn restore(&mut self, snapshot: &Snapshot, age: Duration, now: Duration) -> usize {
        self.expire(now);
        let before = self.table.iter().count();
        for lease in &snapshot.leases {
            let ip = u32::from(lease.ip);
            let key = match &lease.client_id {
                None => ClientKey::Mac(lease.mac),
                Some(id) if (1..=MAX_CLIENT_ID).contains(&id.len()) => {
                    ClientKey::Id(id.as_slice().into())
                }
                Some(_) => continue,
            };
            let reserved = self.reservations.get(ip);
            let own = reserved.is_some_and(|r| match &r.owner {
                Owner::Mac(mac) => *mac == lease.mac,
                Owner::ClientId(id) => lease.client_id.as_ref() == Some(id),
                Owner::Name(name) => lease.hostname.as_ref() == Some(name),
            });
            if !(own || reserved.is_none() && self.pool.is_blank(ip))
                || self.table.get(ip).is_some()
                || !is_unicast(lease.mac)
            {
                continue;
            }
            let remaining = lease
                .remaining
                .min(self.config.lease_time)
                .saturating_sub(age);
            let (state, at) = if remaining.is_zero() {
                (State::Former, self.clock)
            } else {
                (State::Bound, self.clock.saturating_add(remaining))
            };
            let hostname = lease.hostname.as_deref();
            let hostname = hostname.and_then(|name| self.free_name(name, ip));
            self.put(
                ip,
                Binding {
                    key,
                    mac: lease.mac,
                    port: None,
                    hostname,
                    state,
                    at,
                },
            );
        }
        snapshot.leases.len() - (self.table.iter().count() - before)
    }
}

fn whole_secs_up(d: Duration) -> Duration {
    Duration::from_secs(d.as_secs() + u64::from(d.subsec_nanos() > 0))
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
