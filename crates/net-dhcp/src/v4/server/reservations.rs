//! Addresses the host has set aside for a guest.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use thiserror::Error;

use super::table::ClientKey;

/// Whom an address is reserved for. A client that matches several gets the first of: client
/// identifier, hardware address, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A hardware address. On a network whose switch does not tie addresses to ports, a guest can
    /// claim another's hardware address; what that guest holds at the time stays its own.
    Mac([u8; 6]),
    /// The bytes of option 61.
    ClientId(Vec<u8>),
    /// A host name, as sanitised from option 12 or 81. Any guest can claim a name.
    Name(String),
}

/// An address set aside, and the name its guest is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whom it is for.
    pub owner: Owner,
    /// The address: in the network, inside or outside the pool.
    pub ip: Ipv4Addr,
    /// Host name to tell the guest and to list, instead of what the guest calls itself.
    pub hostname: Option<String>,
}

impl Reservation {
    /// Reserves `ip` for `owner`.
    pub fn new(owner: Owner, ip: Ipv4Addr) -> Self {
        Self {
            owner,
            ip,
            hostname: None,
        }
    }

    /// Gives the guest this name.
    pub fn with_hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }
}

/// Why an address could not be set aside.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No address is left that could be given without taking it from a guest.
    #[error("no free address: all {size} of the pool are in use or reserved")]
    Exhausted {
        /// Addresses in the pool.
        size: u32,
    },
    /// Not a host address of the network.
    #[error("{0} is not a host address of the network")]
    Outside(Ipv4Addr),
    /// The address is the server's, a router's, a resolver's or excluded by configuration.
    #[error("{0} belongs to the network itself")]
    Infrastructure(Ipv4Addr),
    /// Reserved for someone else.
    #[error("{0} is already reserved")]
    Reserved(Ipv4Addr),
    /// A guest has it, was offered it, or declined it a moment ago.
    #[error("{0} is in use")]
    InUse(Ipv4Addr),
    /// The owner already has a reservation; release it first.
    #[error("this owner already has {0}")]
    HasOther(Ipv4Addr),
    /// Not a DNS label, or a name no guest may have, or taken.
    #[error("{0:?} cannot be a guest's name")]
    Name(String),
    /// Not a unicast hardware address, or a client identifier that is empty or over 255 bytes.
    #[error("not the identity of a guest")]
    Owner,
}

#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_ip: BTreeMap<u32, Reservation>,
    by_owner: BTreeMap<Owner, u32>,
    names: BTreeMap<String, u32>,
}

impl Reservations {
    pub(super) fn get(&self, ip: u32) -> Option<&Reservation> {
        self.by_ip.get(&ip)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reservation> {
        self.by_ip.values()
    }

    pub(super) fn of_owner(&self, owner: &Owner) -> Option<u32> {
        self.by_owner.get(owner).copied()
    }

    /// The address that a name is tied to.
    pub(super) fn of_name(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// What is reserved for a client.
    pub(super) fn find(&self, key: &ClientKey, mac: [u8; 6], name: Option<&str>) -> Option<u32> {
        let by_id = match key {
            ClientKey::Id(id) => self.of_owner(&Owner::ClientId(id.to_vec())),
            ClientKey::Mac(_) => None,
        };
        by_id
            .or_else(|| self.of_owner(&Owner::Mac(mac)))
            .or_else(|| {
                let name = name?;
                self.of_owner(&Owner::Name(name.to_owned()))
            })
    }

    pub(super) fn insert(&mut self, reservation: Reservation) {
        let ip = u32::from(reservation.ip);
        self.remove(ip);
        self.by_owner.insert(reservation.owner.clone(), ip);
        if let Owner::Name(name) = &reservation.owner {
            self.names.insert(name.clone(), ip);
        }
        if let Some(name) = &reservation.hostname {
            self.names.insert(name.clone(), ip);
        }
        self.by_ip.insert(ip, reservation);
    }

    pub(super) fn remove(&mut self, ip: u32) -> Option<Reservation> {
        let reservation = self.by_ip.remove(&ip)?;
        self.by_owner.remove(&reservation.owner);
        self.names.retain(|_, &mut of| of != ip);
        Some(reservation)
    }
}
