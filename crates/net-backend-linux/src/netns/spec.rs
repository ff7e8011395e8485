//! What a namespace is to look like, and its form on the socket to the helper process.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use net_wire::MacAddr;

use crate::{LinuxError, Result, ioctl};

/// Which network namespace gets the interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Target {
    /// A new one, with mounts of its own, for a command to run in.
    #[default]
    New,
    /// The one that `ip netns` knows by this name (`/run/netns/NAME`).
    Name(String),
    /// That of a process.
    Pid(u32),
}

impl FromStr for Target {
    type Err = LinuxError;

    /// Reads a process number, or the name of a namespace.
    fn from_str(text: &str) -> Result<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(pid) if pid > 0 => Ok(Self::Pid(pid)),
                _ => Err(LinuxError::Invalid(format!("{text} is no process number"))),
            };
        }
        let plain = !text.is_empty()
            && text.len() <= 255
            && !matches!(text, "." | "..")
            && !text
                .bytes()
                .any(|byte| byte == b'/' || byte.is_ascii_control());
        if plain {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(LinuxError::Invalid(format!(
            "{text:?} is neither a process number nor the name of a network namespace"
        )))
    }
}

/// An interface in a namespace, and what surrounds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceSpec {
    /// Where.
    pub target: Target,
    /// Name of the interface, 1 to 15 bytes.
    pub interface: String,
    /// Its hardware address; the kernel chooses one otherwise.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Addresses with their prefixes; none leaves the interface up and without an address, for
    /// DHCP.
    pub addresses: Vec<IpNetwork>,
    /// Default routes, at most one of each family; each must be covered by an address.
    pub gateways: Vec<IpAddr>,
    /// Text of `/etc/resolv.conf` in a new namespace, at most 16 KiB.
    pub resolv_conf: Option<String>,
}

impl Default for NamespaceSpec {
    /// `eth0` in a new namespace, MTU 1,500, nothing else.
    fn default() -> Self {
        Self {
            target: Target::New,
            interface: "eth0".into(),
            mac: None,
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
            resolv_conf: None,
        }
    }
}

/// Longest text of a `resolv.conf`, in bytes.
const MAX_RESOLV_CONF: usize = 16 * 1024;
/// Most addresses and gateways.
const MAX_ADDRESSES: usize = 64;

impl NamespaceSpec {
    /// Checks what can be checked without the kernel.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`].
    pub fn validate(&self) -> Result<()> {
        let name = &self.interface;
        let plain = (1..=ioctl::NAME_MAX).contains(&name.len())
            && !matches!(&name[..], "." | "..")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
        if !plain {
            return Err(LinuxError::Invalid(format!(
                "{name:?} is not a name for an interface (1 to 15 characters, no / : %)"
            )));
        }
        if self.mtu < 576 {
            return Err(LinuxError::Invalid(format!(
                "an MTU of {} bytes is too small (576 or more; 1280 with IPv6)",
                self.mtu
            )));
        }
        if let Some(mac) = self.mac.filter(|mac| !mac.is_unicast()) {
            return Err(LinuxError::Invalid(format!(
                "{mac} is not the address of one station"
            )));
        }
        if self.addresses.len().max(self.gateways.len()) > MAX_ADDRESSES {
            return Err(LinuxError::Invalid(format!(
                "more than {MAX_ADDRESSES} addresses"
            )));
        }
        for gateway in &self.gateways {
            if !self
                .addresses
                .iter()
                .any(|network| network.contains(*gateway))
            {
                return Err(LinuxError::Invalid(format!(
                    "the gateway {gateway} is in none of the interface's networks"
                )));
            }
        }
        if self
            .resolv_conf
            .as_ref()
            .is_some_and(|text| text.len() > MAX_RESOLV_CONF)
        {
            return Err(LinuxError::Invalid(
                "a resolv.conf of more than 16 KiB".into(),
            ));
        }
        Ok(())
    }

    /// One line a setting: a key, a space, a value.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} {value}");
        };
        match &self.target {
            Target::New => line("target", &"new"),
            Target::Name(name) => line("target", &format_args!("name {name}")),
            Target::Pid(pid) => line("target", &format_args!("pid {pid}")),
        }
        line("interface", &self.interface);
        line("mtu", &self.mtu);
        if let Some(mac) = self.mac {
            line("mac", &mac);
        }
        for address in &self.addresses {
            line("address", address);
        }
        for gateway in &self.gateways {
            line("gateway", gateway);
        }
        if let Some(resolv_conf) = &self.resolv_conf {
            line("resolv-conf", &hex(resolv_conf.as_bytes()));
        }
        text
    }

    /// Reads back what [`Self::to_text`] writes.
    pub(crate) fn from_text(text: &str) -> Result<Self> {
        let mut spec = Self::default();
        for line in text.lines() {
            let bad = || LinuxError::Invalid(format!("malformed setting {line:?}"));
            let (key, value) = line.split_once(' ').ok_or_else(bad)?;
            match key {
                "target" => {
                    spec.target = match value.split_once(' ') {
                        None if value == "new" => Target::New,
                        Some(("name", name)) => Target::Name(name.to_owned()),
                        Some(("pid", pid)) => Target::Pid(pid.parse().map_err(|_| bad())?),
                        _ => return Err(bad()),
                    }
                }
                "interface" => spec.interface = value.to_owned(),
                "mtu" => spec.mtu = value.parse().map_err(|_| bad())?,
                "mac" => spec.mac = Some(value.parse().map_err(|_| bad())?),
                "address" => spec.addresses.push(value.parse().map_err(|_| bad())?),
                "gateway" => spec.gateways.push(value.parse().map_err(|_| bad())?),
                "resolv-conf" => spec.resolv_conf = Some(unhex(value).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
        Ok(spec)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<String> {
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> NamespaceSpec {
        NamespaceSpec {
            target: Target::Name("blue one".into()),
            interface: "eth0".into(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
            mtu: 9000,
            addresses: vec![
                "10.0.0.2/24".parse().unwrap(),
                "fd00::2/64".parse().unwrap(),
            ],
            gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            resolv_conf: Some("nameserver 10.0.0.1\nsearch grün.example\n".into()),
        }
    }

    #[test]
    fn the_text_reads_back() {
        for target in [Target::New, Target::Pid(77), full().target] {
            let spec = NamespaceSpec { target, ..full() };
            assert_eq!(NamespaceSpec::from_text(&spec.to_text()).unwrap(), spec);
        }
        let spec = NamespaceSpec::default();
        assert_eq!(NamespaceSpec::from_text(&spec.to_text()).unwrap(), spec);
        for bad in [
            "mtu",
            "mtu x",
            "target",
            "target pid x",
            "resolv-conf 0",
            "colour red",
        ] {
            assert!(NamespaceSpec::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_numbers_or_plain_names() {
        assert_eq!("123".parse::<Target>().unwrap(), Target::Pid(123));
        assert_eq!(
            "blue".parse::<Target>().unwrap(),
            Target::Name("blue".into())
        );
        for bad in ["", "0", "a/b", "..", "99999999999", "a\nb"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_before_a_process_starts() {
        assert!(full().validate().is_ok());
        let broken: [fn(&mut NamespaceSpec); 7] = [
            |spec| spec.interface = "sixteen-bytes-xx".into(),
            |spec| spec.interface = "a b".into(),
            |spec| spec.mtu = 100,
            |spec| spec.mac = Some(MacAddr::BROADCAST),
            |spec| spec.gateways[0] = "192.0.2.1".parse().unwrap(),
            |spec| spec.addresses = vec![spec.addresses[0]; 65],
            |spec| spec.resolv_conf = Some("x".repeat(20_000)),
        ];
        for change in broken {
            let mut spec = full();
            change(&mut spec);
            assert!(
                matches!(spec.validate(), Err(LinuxError::Invalid(_))),
                "{spec:?}"
            );
        }
    }
}
