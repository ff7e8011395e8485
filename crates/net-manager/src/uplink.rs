//! The way out of a network with the fast engine: an interface, and the address it has outside.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipnetwork::Ipv4Network;

use crate::error::ManagerError;

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
    pub(crate) fn validate(&self, inside: Ipv4Network) -> Result<(), ManagerError> {
        let wrong = |what: String| Err(ManagerError::UplinkAddresses(what));
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
        Ok(())
    }
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
                .validate("10.0.2.0/24".parse().unwrap())
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
}
