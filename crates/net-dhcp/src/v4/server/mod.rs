//! The DHCPv4 server.
//!
//! # Theory of operation
//!
//! [`Server::handle`] takes the UDP payload of one packet and gives at most one reply, which goes
//! back to the port the packet came from and to no other: a switch never floods it, so no guest
//! sees, or is moved by, an answer to another.
//!
//! A client is known by its identifier or hardware address (RFC 2131 section 4.2) *and* by the
//! port it is on. The port is what a guest cannot forge: a lease is renewed, released or declined
//! only from the port that holds it, whatever MAC address or identifier a message carries.
//! Two clones of one disk image, which send the same identifier from two ports, are two clients.
//! When a port goes ([`Server::port_closed`]), or after a restart, its leases run on detached,
//! and the first port on which the same client shows up takes them over.
//!
//! The address for a client is the first of these that is free: the one reserved for it; the one
//! it has or had; the one it asks for; the one its MAC hashes to; the next blank one; one of a
//! lease long over; one of a lease whose port is gone.
//!
//! | file | job |
//! |---|---|
//! | `config` | configuration and its checks |
//! | `engine` | one function per message type of RFC 2131 section 4.3 |
//! | `allocate` | which address |
//! | `reply` | which options |
//! | `lease` | replies, events and listings as the caller sees them |
//! | `table`, `pool`, `reservations` | bindings, blank addresses, what the host set aside |
//! | `snapshot` | leases that outlive the process |
//! | `stats` | counters |

mod allocate;
mod config;
mod engine;
mod lease;
mod pool;
mod reply;
mod reservations;
mod snapshot;
mod stats;
mod table;

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

pub use config::{ConfigError, MAX_POOL, MIN_MTU, ServerConfig, UnknownClient};
pub use lease::{Lease, LeaseEvent, Reply, ReplyDst};
pub use reservations::{Owner, PoolError, Reservation};
pub use snapshot::{LeaseRecord, Snapshot, SnapshotError};
pub use stats::{Refusal, Stats};

use super::Subnet;
use super::codec::names;
use pool::Pool;
use reservations::Reservations;
use table::{Binding, ClientKey, State, Table};

/// Events kept for [`Server::poll_event`]; beyond it the oldest is lost, and counted.
const MAX_EVENTS: usize = 1024;
/// Longest client identifier: what one option carries.
const MAX_CLIENT_ID: usize = 255;

/// A DHCPv4 server for one network. See the [module](self) for how it decides.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    subnet: Subnet,
    excluded: BTreeSet<u32>,
    pool: Pool,
    table: Table,
    reservations: Reservations,
    events: VecDeque<LeaseEvent>,
    stats: Stats,
    /// The latest `now` seen; time never runs backwards here.
    clock: Duration,
    /// The port with more than one guest behind it.
    trunk: Option<u32>,
}

impl Server {
    /// Makes a server.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn new(config: ServerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let excluded = config.excluded();
        let mut pool = Pool::new(*config.pool.start(), *config.pool.end());
        for &ip in &excluded {
            pool.set_used(ip, true);
        }
        Ok(Self {
            subnet: config.subnet(),
            excluded,
            pool,
            table: Table::default(),
            reservations: Reservations::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
            clock: Duration::ZERO,
            trunk: None,
            config,
        })
    }

    /// Says that another switch is behind this port, with any number of guests:
    /// [`ServerConfig::max_per_port`] does not hold for it.
    pub fn set_trunk(&mut self, port: u32) {
        self.trunk = Some(port);
    }

    /// The configuration the server was made with.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sets an address aside: no other guest is given it, and its owner is given no other (from
    /// its next DISCOVER or renewal on). Repeating a reservation changes nothing but its name.
    ///
    /// # Errors
    /// [`PoolError`] when the address cannot be reserved, or another guest has it at the moment.
    pub fn reserve(&mut self, reservation: Reservation) -> Result<(), PoolError> {
        let ip = u32::from(reservation.ip);
        self.check_owner(&reservation)?;
        if !self.subnet.is_host(reservation.ip) {
            return Err(PoolError::Outside(reservation.ip));
        }
        if self.excluded.contains(&ip) {
            return Err(PoolError::Infrastructure(reservation.ip));
        }
        if self
            .reservations
            .get(ip)
            .is_some_and(|held| held.owner != reservation.owner)
        {
            return Err(PoolError::Reserved(reservation.ip));
        }
        if let Some(other) = self.reservations.of_owner(&reservation.owner)
            && other != ip
        {
            return Err(PoolError::HasOther(other.into()));
        }
        if let Some(binding) = self.table.get(ip) {
            let own = match &reservation.owner {
                Owner::Mac(mac) => binding.mac == *mac,
                Owner::ClientId(id) => matches!(&binding.key, ClientKey::Id(key) if **key == **id),
                Owner::Name(name) => binding.hostname.as_ref() == Some(name),
            };
            match binding.state {
                State::Former if !own => self.take(ip),
                State::Former => {}
                State::Offered | State::Bound if own => {}
                _ => return Err(PoolError::InUse(reservation.ip)),
            }
        }
        self.reservations.insert(reservation);
        self.sync(ip);
        Ok(())
    }

    fn check_owner(&self, reservation: &Reservation) -> Result<(), PoolError> {
        let ip = u32::from(reservation.ip);
        let owner_name = match &reservation.owner {
            Owner::Mac(mac) if is_unicast(*mac) => None,
            Owner::ClientId(id) if (1..=MAX_CLIENT_ID).contains(&id.len()) => None,
            Owner::Name(name) => Some(name),
            Owner::Mac(_) | Owner::ClientId(_) => return Err(PoolError::Owner),
        };
        for name in owner_name.into_iter().chain(&reservation.hostname) {
            let label = names::sanitise_host_name(name.as_bytes());
            let free = self.reservations.of_name(name).is_none_or(|of| of == ip);
            if label.as_ref() != Some(name) || self.config.reserved_names.contains(name) || !free {
                return Err(PoolError::Name(name.clone()));
            }
        }
        Ok(())
    }

    /// Sets an address aside for a guest that may never speak DHCP, and gives the same one each
    /// time: the reserved one, else the one this hardware address has or had, else a blank one.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`] when no address is free, [`PoolError::Owner`] when `mac` is not a
    /// unicast address.
    pub fn reserve_any(&mut self, mac: [u8; 6]) -> Result<Ipv4Addr, PoolError> {
        let owner = Owner::Mac(mac);
        if let Some(ip) = self.reservations.of_owner(&owner) {
            return Ok(ip.into());
        }
        if !is_unicast(mac) {
            return Err(PoolError::Owner);
        }
        let usable = |ip: u32| self.reservations.get(ip).is_none() && self.pool.contains(ip);
        // Live ones first: the guest is using that address already.
        let had = |live: bool| {
            self.table.iter().find_map(|(ip, b)| {
                let live_now = matches!(b.state, State::Bound | State::Offered);
                let fits = if live {
                    live_now
                } else {
                    b.state == State::Former
                };
                (b.mac == mac && fits && usable(ip)).then_some(ip)
            })
        };
        let ip = had(true)
            .or_else(|| had(false))
            .or_else(|| self.pool.next_blank(self.slot(mac)))
            .or_else(|| self.reclaim(None))
            .ok_or_else(|| {
                let (first, last) = (*self.config.pool.start(), *self.config.pool.end());
                PoolError::Exhausted {
                    size: u32::from(last) - u32::from(first) + 1,
                }
            })?;
        self.reserve(Reservation::new(owner, ip.into()))?;
        Ok(ip.into())
    }

    /// Gives an address back: ends its reservation and any lease on it. `false` if there was
    /// neither. A guest that still uses it is told so by NAK when it renews.
    pub fn release(&mut self, ip: Ipv4Addr) -> bool {
        let key = u32::from(ip);
        let reserved = self.reservations.remove(key).is_some();
        let bound = self.table.get(key).is_some();
        self.end(key);
        self.sync(key);
        reserved || bound
    }

    /// What is set aside, in the order of the addresses.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.iter()
    }

    /// Addresses that were never given, reserved or excluded.
    pub fn blank_addresses(&self) -> u32 {
        self.pool.blanks()
    }

    /// Live leases, in the order of the addresses. Call [`expire`](Self::expire) first.
    pub fn leases(&self) -> impl Iterator<Item = Lease<'_>> {
        self.table
            .iter()
            .filter(|(_, b)| b.state == State::Bound)
            .map(|(ip, b)| Lease {
                ip: ip.into(),
                mac: b.mac,
                client_id: match &b.key {
                    ClientKey::Id(id) => Some(id),
                    ClientKey::Mac(_) => None,
                },
                hostname: b.hostname.as_deref(),
                expires: b.at,
                port: b.port,
            })
    }

    /// The guest of this port is gone. Its offers end; its leases run on until they expire, for
    /// the same client on another port.
    pub fn port_closed(&mut self, port: u32) {
        let ips: Vec<u32> = self.table.of_port(Some(port)).map(|(ip, _)| ip).collect();
        for ip in ips {
            let Some(mut binding) = self.table.remove(ip) else {
                continue;
            };
            binding.port = None;
            if binding.state == State::Offered {
                self.stats.offers_lapsed += 1;
            } else {
                self.table.insert(ip, binding);
            }
            self.sync(ip);
        }
    }

    /// Ends what is over at `now`. [`handle`](Self::handle) does it too; between messages call it
    /// when [`next_deadline`](Self::next_deadline) has come.
    pub fn expire(&mut self, now: Duration) {
        self.clock = self.clock.max(now);
        while let Some(ip) = self.table.due(self.clock) {
            match self.table.get(ip).map(|b| b.state) {
                Some(State::Bound) => {
                    self.stats.expiries += 1;
                    self.retire(ip, |ip, mac, hostname| LeaseEvent::Expired {
                        ip,
                        mac,
                        hostname,
                    });
                }
                Some(State::Offered) => {
                    self.stats.offers_lapsed += 1;
                    self.take(ip);
                }
                _ => self.take(ip),
            }
        }
    }

    /// When an offer, a lease or a quarantine ends next, on the caller's clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.table.next_deadline()
    }

    /// What happened to leases, oldest first. At most 1024 events wait; fetch them after every
    /// call that takes `&mut self`.
    pub fn poll_event(&mut self) -> Option<LeaseEvent> {
        self.events.pop_front()
    }

    /// Panics unless every index agrees with the bindings and no two clients share an address.
    /// For tests and fuzzing.
    #[doc(hidden)]
    pub fn assert_consistent(&self) {
        self.table.check();
        for (ip, _) in self.table.iter() {
            assert!(!self.excluded.contains(&ip), "infrastructure address given");
            assert!(
                self.subnet.is_host(ip.into()),
                "address outside the network given"
            );
            assert!(
                !self.pool.is_blank(ip),
                "used address still counts as blank"
            );
        }
        for reservation in self.reservations.iter() {
            assert!(!self.pool.is_blank(reservation.ip.into()));
        }
    }

    // What follows keeps `pool` in step with `table` and `reservations`.

    fn sync(&mut self, ip: u32) {
        let used = self.excluded.contains(&ip)
            || self.table.get(ip).is_some()
            || self.reservations.get(ip).is_some();
        self.pool.set_used(ip, used);
    }

    fn put(&mut self, ip: u32, binding: Binding) {
        self.table.insert(ip, binding);
        self.sync(ip);
    }

    fn take(&mut self, ip: u32) {
        self.table.remove(ip);
        self.sync(ip);
    }

    /// Ends whatever is on an address, and forgets it.
    fn end(&mut self, ip: u32) {
        if let Some(binding) = self.table.remove(ip)
            && binding.state == State::Bound
        {
            let Binding { mac, hostname, .. } = binding;
            self.event(LeaseEvent::Expired {
                ip: ip.into(),
                mac,
                hostname,
            });
        }
        self.sync(ip);
    }

    /// A lease is over; who had it is remembered, up to the port's share of memory.
    fn retire(
        &mut self,
        ip: u32,
        event: impl FnOnce(Ipv4Addr, [u8; 6], Option<String>) -> LeaseEvent,
    ) {
        let Some(mut binding) = self.table.remove(ip) else {
            return;
        };
        self.event(event(ip.into(), binding.mac, binding.hostname.clone()));
        binding.state = State::Former;
        binding.at = self.clock;
        let port = binding.port;
        self.put(ip, binding);
        if port.is_some() {
            let formers = self
                .table
                .of_port(port)
                .filter(|(_, b)| b.state == State::Former);
            if port != self.trunk
                && formers.count() > self.config.max_per_port
                && let Some(oldest) = self.table.oldest(port, State::Former)
            {
                self.take(oldest);
            }
        }
    }

    fn event(&mut self, event: LeaseEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
            self.stats.events_lost += 1;
        }
        self.events.push_back(event);
    }

    /// The name, if the guest at `ip` may have it: not the network's, not reserved for another,
    /// and not held by another live lease whose guest is still there.
    fn free_name(&mut self, name: &str, ip: u32) -> Option<String> {
        let name = names::sanitise_host_name(name.as_bytes())?;
        let reserved = self.reservations.of_name(&name).is_some_and(|of| of != ip);
        if reserved || self.config.reserved_names.contains(&name) {
            self.stats.name_conflicts += 1;
            return None;
        }
        if let Some(holder) = self.table.holder_of_name(&name)
            && holder != ip
        {
            let mut binding = self.table.get(holder)?.clone();
            if binding.port.is_some() {
                self.stats.name_conflicts += 1;
                return None;
            }
            // Its port is gone: the name goes to the guest that is here.
            binding.hostname = None;
            self.table.insert(holder, binding);
        }
        Some(name)
    }
}

/// Whether a hardware address can belong to one guest.
fn is_unicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}
