//! Which guest has which address: reservations, addresses that were asked for, the lowest free one.

use std::net::Ipv4Addr;
use std::str::FromStr;

use net_wire::MacAddr;

use crate::error::ManagerError;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
