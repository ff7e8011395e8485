//! Which guest has which address: reservations, addresses that were asked for, the lowest free one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnetwork::Ipv4Network;
use net_gateway::Gateway;
use net_wire::MacAddr;

use crate::error::ManagerError;
use crate::worker::AttachOptions;

/// Whom an address is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GuestKey {
    /// The guest with this hardware address.
    Mac(MacAddr),
    /// The guest attached under this name.
    Name(String),
}

/// An address that no other guest gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// Whom it is for.
    pub guest: GuestKey,
    /// The address, inside the network.
    pub address: Ipv4Addr,
}

impl FromStr for Reservation {
    type Err = ManagerError;

    /// Reads `MAC=ADDRESS` or `NAME=ADDRESS`.
    fn from_str(text: &str) -> Result<Self, ManagerError> {
        let bad = || ManagerError::BadReservation(text.to_owned());
        let (guest, address) = text.split_once('=').ok_or_else(bad)?;
        let guest = match guest.parse::<MacAddr>() {
            Ok(mac) if mac.is_unicast() => GuestKey::Mac(mac),
            Err(_) if !guest.is_empty() && !guest.contains(':') => GuestKey::Name(guest.to_owned()),
            _ => return Err(bad()),
        };
        let address = address.parse().map_err(|_| bad())?;
        Ok(Self { guest, address })
    }
}

/// Whether two networks have an address in common.
pub(crate) fn overlap(a: Ipv4Network, b: Ipv4Network) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// The addresses that were promised: every one of them is kept in the DHCP engine, which gives out
/// others of the same network, and no two guests have the same.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    reservations: Vec<Reservation>,
    /// Those that attachments have.
    seated: BTreeSet<Ipv4Addr>,
    /// Those that were asked for and have no attachment yet.
    asked: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// Keeps what is reserved.
    ///
    /// # Errors
    /// [`ManagerError::AddressTaken`] for a reservation that cannot be: outside of the network, of
    /// the gateway, or one of two for the same address or guest.
    pub(crate) fn new(
        reservations: Vec<Reservation>,
        pool: &mut Gateway,
    ) -> Result<Self, ManagerError> {
        for (n, reservation) in reservations.iter().enumerate() {
            let twice = reservations[..n]
                .iter()
                .any(|before| before.guest == reservation.guest);
            if twice || !keep(reservation, pool) {
                return Err(ManagerError::AddressTaken {
                    address: reservation.address,
                    why: "it is reserved twice, or no address for guests of this network",
                });
            }
        }
        Ok(Self {
            reservations,
            ..Self::default()
        })
    }

    /// An address for a guest that configures itself.
    ///
    /// # Errors
    /// [`ManagerError::PoolEmpty`].
    pub(crate) fn allocate(&mut self, pool: &mut Gateway) -> Result<Ipv4Addr, ManagerError> {
        let address = lowest(pool)?;
        self.asked.insert(address);
        Ok(address)
    }

    /// Gives back what [`Self::allocate`] gave, unless an attachment has it by now.
    pub(crate) fn release(&mut self, address: Ipv4Addr, pool: &mut Gateway) {
        if self.asked.remove(&address) {
            pool.release_ip(address);
        }
    }

    /// The address of a new attachment: the one it asks for, the one that is reserved for it, or the
    /// lowest that is free.
    ///
    /// # Errors
    /// [`ManagerError::AddressTaken`], [`ManagerError::PoolEmpty`].
    pub(crate) fn seat(
        &mut self,
        guest: &AttachOptions,
        pool: &mut Gateway,
    ) -> Result<Ipv4Addr, ManagerError> {
        let own = self.reserved_for(guest);
        let address = match guest.address.or(own) {
            Some(address) => self.take(address, own == Some(address), pool)?,
            None => lowest(pool)?,
        };
        // Whom the address is for is known before the guest speaks.
        if let Some(mac) = guest.mac.map(MacAddr) {
            self.tie(address, mac, pool)?;
        }
        self.seated.insert(address);
        Ok(address)
    }

    /// An attachment is gone. What is reserved for its guest stays so.
    pub(crate) fn unseat(&mut self, address: Ipv4Addr, pool: &mut Gateway) {
        if !self.seated.remove(&address) {
            return;
        }
        pool.release_ip(address);
        let reserved = self.reservations.iter().find(|it| it.address == address);
        if let Some(reservation) = reserved {
            keep(reservation, pool);
        }
    }

    fn take(
        &mut self,
        address: Ipv4Addr,
        own: bool,
        pool: &mut Gateway,
    ) -> Result<Ipv4Addr, ManagerError> {
        let taken = |why| Err(ManagerError::AddressTaken { address, why });
        if self.seated.contains(&address) {
            return taken("another guest has it");
        }
        if own || self.asked.remove(&address) {
            return Ok(address);
        }
        if self.reservations.iter().any(|it| it.address == address) {
            return taken("it is reserved for another guest");
        }
        match pool.reserve(None, address) {
            true => Ok(address),
            false => taken("it is in use, or no address for guests of this network"),
        }
    }

    /// Keeps an address for a hardware address in place of nobody in particular.
    fn tie(&self, address: Ipv4Addr, mac: MacAddr, pool: &mut Gateway) -> Result<(), ManagerError> {
        let reserved = self.reservations.iter().find(|it| it.address == address);
        if reserved.is_some_and(|it| it.guest == GuestKey::Mac(mac)) {
            return Ok(());
        }
        pool.release_ip(address);
        if pool.reserve(Some(mac), address) {
            return Ok(());
        }
        if let Some(reservation) = reserved {
            keep(reservation, pool);
        }
        Err(ManagerError::AddressTaken {
            address,
            why: "another is kept for the guest's hardware address",
        })
    }

    fn reserved_for(&self, guest: &AttachOptions) -> Option<Ipv4Addr> {
        let fits = |key: &GuestKey| match key {
            GuestKey::Mac(mac) => guest.mac == Some(mac.0),
            GuestKey::Name(name) => guest.name.as_ref() == Some(name),
        };
        let mut own = self.reservations.iter().filter(|it| fits(&it.guest));
        own.next().map(|reservation| reservation.address)
    }
}

fn lowest(pool: &mut Gateway) -> Result<Ipv4Addr, ManagerError> {
    let address = pool.allocate_ip();
    address.ok_or_else(|| ManagerError::PoolEmpty(pool.config().subnet))
}

/// Keeps a reserved address.
fn keep(reservation: &Reservation, pool: &mut Gateway) -> bool {
    let mac = match reservation.guest {
        GuestKey::Mac(mac) => Some(mac),
        GuestKey::Name(_) => None,
    };
    pool.reserve(mac, reservation.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reservations_in_both_spellings() {
        let parse = |text: &str| text.parse::<Reservation>();
        assert_eq!(
            parse("02:00:00:00:00:07=10.0.2.7").unwrap(),
            Reservation {
                guest: GuestKey::Mac(MacAddr([2, 0, 0, 0, 0, 7])),
                address: Ipv4Addr::new(10, 0, 2, 7),
            }
        );
        assert_eq!(
            parse("web=10.0.2.8").unwrap().guest,
            GuestKey::Name("web".to_owned())
        );
        for bad in [
            "",
            "web",
            "=10.0.2.7",
            "web=",
            "web=10.0.2",
            "01:00:00:00:00:07=10.0.2.7",
            "02:00:00:00:00=10.0.2.7",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    fn gateway(subnet: &str) -> Gateway {
        let config = net_gateway::Config::new(subnet.parse().unwrap()).unwrap();
        Gateway::new(config, [1; 16]).unwrap()
    }

    fn guest(name: Option<&str>, mac: Option<u8>, address: Option<u8>) -> AttachOptions {
        AttachOptions {
            name: name.map(str::to_owned),
            mac: mac.map(|n| [2, 0, 0, 0, 0, n]),
            address: address.map(ip),
            ..AttachOptions::default()
        }
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2, last)
    }

    fn reserved(texts: &[&str]) -> Vec<Reservation> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn reservations_are_kept_and_given_to_their_guests() {
        let mut pool = gateway("10.0.2.0/29");
        let kept = reserved(&["web=10.0.2.2", "02:00:00:00:00:07=10.0.2.4"]);
        let mut addresses = Addresses::new(kept, &mut pool).unwrap();
        let mut seat = |guest| addresses.seat(&guest, &mut pool);
        assert_eq!(seat(guest(None, None, None)).unwrap(), ip(3));
        assert_eq!(seat(guest(Some("web"), Some(1), None)).unwrap(), ip(2));
        assert_eq!(seat(guest(None, Some(7), None)).unwrap(), ip(4));
        // Its guest is here already; another may not have it either.
        let error = seat(guest(Some("web"), None, None)).unwrap_err();
        assert!(
            error.to_string().contains("another guest has it"),
            "{error}"
        );
        assert!(seat(guest(Some("db"), None, Some(4))).is_err());
        assert_eq!(seat(guest(Some("db"), None, Some(6))).unwrap(), ip(6));
        assert_eq!(seat(guest(None, None, None)).unwrap(), ip(5));
        let error = seat(guest(None, None, None)).unwrap_err();
        assert!(matches!(error, ManagerError::PoolEmpty(_)), "{error}");
        // Given back, a reserved address waits for its guest and no other.
        addresses.unseat(ip(2), &mut pool);
        assert!(addresses.allocate(&mut pool).is_err());
        let again = addresses.seat(&guest(Some("web"), None, None), &mut pool);
        assert_eq!(again.unwrap(), ip(2));
    }

    #[test]
    fn reservations_that_cannot_be_are_refused() {
        for texts in [
            &["web=10.0.3.2"][..],
            &["web=10.0.2.1"],
            &["web=10.0.2.7"],
            &["web=10.0.2.2", "db=10.0.2.2"],
            &["web=10.0.2.2", "web=10.0.2.3"],
            &["02:00:00:00:00:07=10.0.2.2", "02:00:00:00:00:07=10.0.2.3"],
        ] {
            let refused = Addresses::new(reserved(texts), &mut gateway("10.0.2.0/29"));
            let error = refused.unwrap_err();
            assert!(
                matches!(error, ManagerError::AddressTaken { .. }),
                "{texts:?}"
            );
        }
    }

    #[test]
    fn networks_that_share_an_address_overlap() {
        for (a, b, want) in [
            ("10.0.2.0/24", "10.0.2.128/25", true),
            ("10.0.0.0/8", "10.0.2.0/24", true),
            ("10.0.2.0/24", "10.0.2.0/24", true),
            ("10.0.2.0/25", "10.0.2.128/25", false),
            ("10.0.2.0/24", "10.0.3.0/24", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlap(a, b), overlap(b, a)), (want, want), "{a} {b}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Seat(Option<u8>, Option<u8>, Option<u8>),
        Unseat(usize),
        Allocate,
        Release(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let small = || proptest::option::of(0u8..12);
        prop_oneof![
            (small(), small(), small()).prop_map(|(name, mac, ip)| Step::Seat(name, mac, ip)),
            (0usize..20).prop_map(Step::Unseat),
            Just(Step::Allocate),
            (0usize..20).prop_map(Step::Release),
        ]
    }

    proptest! {
        /// Whatever comes and goes: no address is with two guests, none is lost, and what is
        /// reserved goes to nobody else.
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec(step(), 0..60)) {
            let mut pool = gateway("10.0.2.0/28");
            let kept = reserved(&["g3=10.0.2.5", "02:00:00:00:00:04=10.0.2.6"]);
            let mut addresses = Addresses::new(kept, &mut pool).unwrap();
            let (mut seated, mut asked) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Seat(name, mac, address) => {
                        let name = name.map(|n| format!("g{n}"));
                        let options = guest(name.as_deref(), mac, address);
                        if let Ok(got) = addresses.seat(&options, &mut pool) {
                            prop_assert!(!seated.contains(&got), "{got} is given twice");
                            prop_assert!(got != ip(5) || name.as_deref() == Some("g3"));
                            prop_assert!(got != ip(6) || mac == Some(4));
                            prop_assert!(address.is_none_or(|n| got == ip(n)));
                            asked.retain(|it| *it != got);
                            seated.push(got);
                        } else {
                            // Refused, it may have lost what it asked for, and to nobody.
                            asked.retain(|it| address.map(ip) != Some(*it));
                        }
                    }
                    Step::Unseat(n) if n < seated.len() => {
                        addresses.unseat(seated.swap_remove(n), &mut pool);
                    }
                    Step::Allocate => {
                        if let Ok(got) = addresses.allocate(&mut pool) {
                            prop_assert!(!seated.contains(&got) && !asked.contains(&got));
                            prop_assert!(got != ip(5) && got != ip(6));
                            asked.push(got);
                        }
                    }
                    Step::Release(n) if n < asked.len() => {
                        addresses.release(asked.swap_remove(n), &mut pool);
                    }
                    _ => {}
                }
            }
            // 13 addresses for guests, 2 of them reserved; all others can be had again.
            for address in asked {
                addresses.release(address, &mut pool);
            }
            let taken = seated.iter().filter(|it| **it != ip(5) && **it != ip(6)).count();
            let rest = std::iter::from_fn(|| addresses.allocate(&mut pool).ok()).count();
            prop_assert_eq!(rest, 11 - taken);
        }
    }
}
