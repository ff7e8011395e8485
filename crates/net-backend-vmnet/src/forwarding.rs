//! Ports of the host that lead to guests, by the NAT of macOS (shared mode).

use std::fmt;
use std::net::IpAddr;

/// What is carried to the port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl ForwardProtocol {
    /// The protocol number of IP, which the framework takes (`netinet/in.h`).
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// The family of an address by the number that macOS has for it (`sys/socket.h`), which for IPv6
/// is not that of other systems.
pub(crate) const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => FAMILY_V4,
        IpAddr::V6(_) => FAMILY_V6,
    }
}

/// `AF_INET` of macOS.
pub(crate) const FAMILY_V4: u8 = 2;
/// `AF_INET6` of macOS.
pub(crate) const FAMILY_V6: u8 = 30;

/// A port of the host that leads to a guest. The host's end listens on every address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ForwardRule {
    /// TCP or UDP.
    pub protocol: ForwardProtocol,
    /// The host's port, 1 to 65,535.
    pub external_port: u16,
    /// The guest's address.
    pub address: IpAddr,
    /// The guest's port, 1 to 65,535.
    pub port: u16,
}

impl ForwardRule {
    /// Whether both ports exist and the address is a station's.
    pub(crate) fn is_sound(&self) -> bool {
        self.external_port != 0
            && self.port != 0
            && !self.address.is_unspecified()
            && !self.address.is_multicast()
    }

    /// The rule as the framework takes it.
    pub(crate) const fn raw(&self) -> RawRule {
        RawRule {
            protocol: self.protocol.number(),
            external_port: self.external_port,
            address: self.address,
            port: self.port,
        }
    }

    /// Reads what the framework lists; `None` if it is of a protocol that is not known here.
    pub(crate) fn from_raw(raw: RawRule) -> Option<Self> {
        Some(Self {
            protocol: ForwardProtocol::from_number(raw.protocol)?,
            external_port: raw.external_port,
            address: raw.address,
            port: raw.port,
        })
    }
}

impl fmt::Display for ForwardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            ForwardProtocol::Tcp => "tcp",
            ForwardProtocol::Udp => "udp",
        };
        let (address, port) = (self.address, self.port);
        write!(f, "{protocol} {} to {address} {port}", self.external_port)
    }
}

/// A rule in the numbers of the framework, which takes ports in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RawRule {
    pub(crate) protocol: u8,
    pub(crate) external_port: u16,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// An address in the layout of macOS, `in_addr` or `in6_addr`: bytes in network order from the front,
/// four or sixteen of them.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Reads an address of the family from the layout of macOS.
pub(crate) fn from_octets(family: u8, bytes: [u8; 16]) -> IpAddr {
    match (family, bytes) {
        (FAMILY_V4, [a, b, c, d, ..]) => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(bytes),
    }
}
