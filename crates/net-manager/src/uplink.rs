//! The way out of a network with the fast engine: an interface, and the addresses it has outside.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::error::ManagerError;
use crate::ipv6::MIN_MTU;

/// The interface that packets leave by. Linux only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UplinkDevice {
    /// A TAP device: opened where it exists, else made, and gone with the network.
    Tap(String),
    /// An Ethernet interface that exists and is up, shared with the host: a packet socket sends and
    /// receives beside the kernel, under a hardware address of its own.
    Interface(String),
}

impl UplinkDevice {
    /// Opens it, for [`UplinkConfig::opened`] of a network in this process or another one.
    ///
    /// # Errors
    /// [`ManagerError::Uplink`] with the reason: no such interface, it is down, a lack of
    /// privileges (CAP_NET_ADMIN for a TAP device, CAP_NET_RAW else), or a system other than Linux.
    pub fn open(&self) -> Result<OpenUplink, ManagerError> {
        crate::worker::open_uplink(self)
    }
}

impl std::fmt::Display for UplinkDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Interface(name) => write!(f, "if:{name}"),
        }
    }
}

impl std::str::FromStr for UplinkDevice {
    type Err = ManagerError;

    /// Reads `tap:NAME` or `if:NAME`; a name has 1 to 15 bytes, none of them `/` or blank.
    fn from_str(text: &str) -> Result<Self, ManagerError> {
        let is_name = |name: &str| {
            (1..=15).contains(&name.len())
                && !matches!(name, "." | "..")
                && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
        };
        match text.split_once(':') {
            Some(("tap", name)) if is_name(name) => Ok(Self::Tap(name.to_owned())),
            Some(("if", name)) if is_name(name) => Ok(Self::Interface(name.to_owned())),
            _ => Err(ManagerError::BadUplink(text.to_owned())),
        }
    }
}

/// An interface that is open: by a process that may do that, for one that may not.
#[derive(Debug, Clone)]
pub struct OpenUplink {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) mtu: u16,
}

impl OpenUplink {
    /// Takes the descriptor and the largest packet of [`UplinkDevice::open`] in another process.
    pub fn new(fd: OwnedFd, mtu: u16) -> Self {
        Self {
            fd: Arc::new(fd),
            mtu,
        }
    }

    /// The descriptor, to be passed on.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Largest IP packet of its link, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }
}

/// The way out of a network with [`crate::Engine::Fast`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UplinkConfig {
    /// The interface.
    pub device: UplinkDevice,
    /// The address that all guests share outside, with the length of its network's prefix. Nobody
    /// else may have it, the host's kernel included.
    pub outside: Ipv4Network,
    /// The router of the outside network; without one, guests reach that network alone.
    pub via: Option<Ipv4Addr>,
    /// The IPv6 address that all guests share outside, with the length of its network's prefix: a
    /// global or unique local one. Without it no IPv6 leaves. Nobody else may have it; it is tried
    /// before it is used (RFC 4862, section 5.4).
    pub outside6: Option<Ipv6Network>,
    /// The IPv6 router of the outside network: a link-local address, or one of the network of
    /// [`Self::outside6`]. Without it the routers that advertise themselves are taken (RFC 4861).
    pub via6: Option<Ipv6Addr>,
    /// The hardware address outside; derived from [`Self::outside`] when absent.
    pub mac: Option<[u8; 6]>,
    /// [`Self::device`], where it is open already. Should it go, it is opened anew, if this process
    /// may.
    pub opened: Option<OpenUplink>,
}

impl UplinkConfig {
    /// The way out by `device` with the address `outside` and the router `via`.
    pub fn new(device: UplinkDevice, outside: Ipv4Network, via: Option<Ipv4Addr>) -> Self {
        Self {
            device,
            outside,
            via,
            outside6: None,
            via6: None,
            mac: None,
            opened: None,
        }
    }

    /// The hardware address outside: locally administered, and the same for the same address, so
    /// that neighbours need not learn it again after a restart.
    pub(crate) fn hardware_address(&self) -> [u8; 6] {
        let [a, b, c, d] = self.outside.ip().octets();
        self.mac.unwrap_or([0x02, 0xac, a, b, c, d])
    }

    /// Checks what can be wrong with the addresses, of themselves and towards the guests' network.
    pub(crate) fn validate(
        &self,
        inside: Ipv4Network,
        inside6: Option<Ipv6Network>,
    ) -> Result<(), ManagerError> {
        let outside = self.outside;
        let is_host = |ip: Ipv4Addr| {
            let [first, ..] = ip.octets();
            let unicast = first != 0 && first != 127 && first < 224 && !ip.is_link_local();
            // A prefix of 31 or 32 bits has no address of its own (RFC 3021).
            let reserved =
                outside.prefix() < 31 && (ip == outside.network() || ip == outside.broadcast());
            unicast && !reserved
        };
        if !is_host(outside.ip()) {
            return wrong(format!("{} is not a host's", outside.ip()));
        }
        if outside.contains(inside.network()) || inside.contains(outside.network()) {
            return wrong(format!("{outside} overlaps the guests' network {inside}"));
        }
        if let Some(via) = self.via
            && (!outside.contains(via) || !is_host(via) || via == outside.ip())
        {
            return wrong(format!("the router {via} is no other host of {outside}"));
        }
        if self
            .mac
            .is_some_and(|mac| !net_wire::MacAddr(mac).is_unicast())
        {
            return wrong("the hardware address is a group's".to_owned());
        }
        self.validate6(inside6)
    }

    fn validate6(&self, inside: Option<Ipv6Network>) -> Result<(), ManagerError> {
        let Some(outside) = self.outside6 else {
            return match self.via6 {
                Some(via) => wrong(format!("the router {via} needs an IPv6 address outside")),
                None => Ok(()),
            };
        };
        let is_host = |ip: Ipv6Addr| {
            let unicast = !ip.is_unspecified()
                && !ip.is_loopback()
                && !ip.is_multicast()
                && ip.to_ipv4_mapped().is_none();
            // The first address of a network is all of its routers' (RFC 4291, section 2.6.1), but
            // for networks of two hosts (RFC 6164).
            unicast && (outside.prefix() >= 127 || ip != outside.network())
        };
        if !is_host(outside.ip()) || outside.ip().is_unicast_link_local() {
            return wrong(format!("{} is not a host's beyond its link", outside.ip()));
        }
        let Some(inside) = inside else {
            return wrong(format!("{outside} is for guests, and they have no IPv6"));
        };
        if outside.contains(inside.network()) || inside.contains(outside.network()) {
            return wrong(format!("{outside} overlaps the guests' network {inside}"));
        }
        let own = net_gateway::link_local(net_wire::MacAddr(self.hardware_address()));
        if let Some(via) = self.via6
            && (!is_host(via)
                || [outside.ip(), own].contains(&via)
                || !(outside.contains(via) || via.is_unicast_link_local()))
        {
            return wrong(format!(
                "the router {via} is no other host of {outside}, nor link-local"
            ));
        }
        Ok(())
    }

    /// Checks the interface's largest packet, in bytes.
    pub(crate) fn validate_mtu(&self, mtu: u16) -> Result<(), ManagerError> {
        if self.outside6.is_some() && mtu < MIN_MTU {
            return wrong(format!(
                "the uplink's MTU of {mtu} is below {MIN_MTU}, the least of IPv6"
            ));
        }
        Ok(())
    }
}

fn wrong<T>(what: String) -> Result<T, ManagerError> {
    Err(ManagerError::UplinkAddresses(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_back() {
        for text in ["tap:out0", "if:eth0", "if:a"] {
            assert_eq!(text.parse::<UplinkDevice>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "tap",
            "tap:",
            "if:",
            "eth0",
            "tun:x",
            "if:a b",
            "if:a/b",
            "if:..",
            "tap:sixteen-bytes-xx",
        ] {
            assert!(bad.parse::<UplinkDevice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        let check = |outside: &str, via: Option<&str>| {
            let device = UplinkDevice::Tap("x".to_owned());
            let via = via.map(|via| via.parse().unwrap());
            UplinkConfig::new(device, outside.parse().unwrap(), via)
                .validate("10.0.2.0/24".parse().unwrap(), None)
        };
        for (outside, via, ok) in [
            ("198.51.100.2/24", Some("198.51.100.1"), true),
            ("198.51.100.2/24", None, true),
            ("198.51.100.2/31", Some("198.51.100.3"), true),
            ("198.51.100.0/24", None, false),
            ("198.51.100.255/24", None, false),
            ("127.0.0.1/8", None, false),
            ("224.0.0.1/4", None, false),
            ("169.254.1.1/16", None, false),
            ("0.0.0.1/24", None, false),
            ("10.0.2.9/24", None, false),
            ("10.0.2.9/32", None, false),
            ("10.1.2.3/8", None, false),
            ("198.51.100.2/24", Some("198.51.100.2"), false),
            ("198.51.100.2/24", Some("198.51.101.1"), false),
            ("198.51.100.2/24", Some("198.51.100.255"), false),
        ] {
            assert_eq!(check(outside, via).is_ok(), ok, "{outside} {via:?}");
        }
    }

    #[test]
    fn ipv6_addresses_that_cannot_work_are_refused() {
        let check = |outside: Option<&str>, via: Option<&str>, inside: Option<&str>| {
            let device = UplinkDevice::Tap("x".to_owned());
            let mut config = UplinkConfig::new(device, "198.51.100.2/24".parse().unwrap(), None);
            config.outside6 = outside.map(|outside| outside.parse().unwrap());
            config.via6 = via.map(|via| via.parse().unwrap());
            let inside = inside.map(|inside| inside.parse().unwrap());
            config.validate("10.0.2.0/24".parse().unwrap(), inside)
        };
        let guests = Some("fd00:1::/64");
        for (outside, via, ok) in [
            ("2001:db8::9/64", None, true),
            ("2001:db8::9/64", Some("fe80::1"), true),
            ("2001:db8::9/64", Some("2001:db8::1"), true),
            ("2001:db8::9/128", Some("fe80::1"), true),
            ("2001:db8::/127", Some("2001:db8::1"), true),
            ("fd00:2::9/64", None, true),
            ("2001:db8::/64", None, false),
            ("fe80::9/64", None, false),
            ("ff02::9/64", None, false),
            ("::1/64", None, false),
            ("::ffff:192.0.2.1/128", None, false),
            ("fd00:1::9/64", None, false),
            ("fd00:1::9/48", None, false),
            ("fd00:1::9/128", None, false),
            ("2001:db8::9/64", Some("2001:db8::9"), false),
            ("2001:db8::9/64", Some("2001:db8:1::1"), false),
            ("2001:db8::9/64", Some("ff02::2"), false),
            ("2001:db8::9/64", Some("fe80::ac:c6ff:fe33:6402"), false),
        ] {
            let checked = check(Some(outside), via, guests);
            assert_eq!(checked.is_ok(), ok, "{outside} {via:?} {checked:?}");
        }
        assert!(check(None, Some("fe80::1"), guests).is_err());
        assert!(check(None, None, None).is_ok());
        assert!(check(Some("2001:db8::9/64"), None, None).is_err());
        let mut config = UplinkConfig::new(
            UplinkDevice::Tap("x".to_owned()),
            "198.51.100.2/24".parse().unwrap(),
            None,
        );
        assert!(config.validate_mtu(1279).is_ok());
        config.outside6 = Some("2001:db8::9/64".parse().unwrap());
        assert!(config.validate_mtu(1279).is_err());
        assert!(config.validate_mtu(1280).is_ok());
    }
}
