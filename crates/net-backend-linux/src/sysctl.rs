//! The kernel's network settings that a network changes, and what a change of one does to others.
//!
//! A [`Sysctl`] has a text form, its path below `/proc/sys`, so that a journal can hold it; only the
//! settings listed here have one, whatever a journal says.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Context;
use crate::{LinuxError, Result, ioctl};

/// A setting of the current network namespace. Where it has a name, that is an interface's, or
/// `all` or `default`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Sysctl {
    /// Whether IPv4 packets are passed on at all. A change sets that of every interface, and
    /// `all/accept_redirects` to the opposite (RFC 1122 for hosts, RFC 1812 for routers).
    Ipv4Forwarding,
    /// Whether IPv6 packets are passed on at all. A change sets that of every interface: a host that
    /// has its own default route by router advertisements keeps it only with [`Self::AcceptRa`] of 2.
    Ipv6Forwarding,
    /// Whether IPv4 packets that arrive at this interface are passed on. It works without
    /// [`Self::Ipv4Forwarding`].
    Ipv4InterfaceForwarding(String),
    /// Whether the host is a router on this interface for IPv6. Nothing is passed on without
    /// [`Self::Ipv6Forwarding`].
    Ipv6InterfaceForwarding(String),
    /// Whether a router may tell of a better way (ICMP redirect).
    AcceptRedirects(String),
    /// Whether 127.0.0.0/8 is routed on this interface.
    RouteLocalnet(String),
    /// Router advertisements: 0 ignored, 1 heeded unless the host passes packets on, 2 heeded.
    AcceptRa(String),
    /// Whether a new IPv6 address is first asked for (RFC 4862): 0 not, so that it serves at once.
    AcceptDad(String),
    /// Whether the interface has no IPv6.
    DisableIpv6(String),
    /// How the interface makes its link-local address: 0 of its hardware address, 1 not at all, 2 and
    /// 3 so that the latter stays hidden (RFC 7217).
    AddrGenMode(String),
}

impl Sysctl {
    /// Where it is below `/proc/sys`: what comes before the interface's name, and after.
    fn parts(&self) -> (&'static str, Option<&str>, &'static str) {
        const FOUR: &str = "net/ipv4/conf/";
        const SIX: &str = "net/ipv6/conf/";
        match self {
            Self::Ipv4Forwarding => ("net/ipv4/ip_forward", None, ""),
            Self::Ipv6Forwarding => ("net/ipv6/conf/all/forwarding", None, ""),
            Self::Ipv4InterfaceForwarding(name) => (FOUR, Some(name), "/forwarding"),
            Self::Ipv6InterfaceForwarding(name) => (SIX, Some(name), "/forwarding"),
            Self::AcceptRedirects(name) => (FOUR, Some(name), "/accept_redirects"),
            Self::RouteLocalnet(name) => (FOUR, Some(name), "/route_localnet"),
            Self::AcceptRa(name) => (SIX, Some(name), "/accept_ra"),
            Self::AcceptDad(name) => (SIX, Some(name), "/accept_dad"),
            Self::DisableIpv6(name) => (SIX, Some(name), "/disable_ipv6"),
            Self::AddrGenMode(name) => (SIX, Some(name), "/addr_gen_mode"),
        }
    }

    fn is_valid(&self) -> bool {
        self.parts().1.is_none_or(|name| {
            (1..=ioctl::NAME_MAX).contains(&name.len())
                && !matches!(name, "." | "..")
                && !name
                    .bytes()
                    .any(|byte| byte == b'/' || byte.is_ascii_control())
        })
    }
}

impl fmt::Display for Sysctl {
    /// The path below `/proc/sys`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, name, after) = self.parts();
        write!(f, "{before}{}{after}", name.unwrap_or_default())
    }
}

impl FromStr for Sysctl {
    type Err = LinuxError;

    /// Reads the path of one of these settings.
    fn from_str(text: &str) -> Result<Self> {
        let named: [fn(String) -> Self; 8] = [
            Self::Ipv4InterfaceForwarding,
            Self::Ipv6InterfaceForwarding,
            Self::AcceptRedirects,
            Self::RouteLocalnet,
            Self::AcceptRa,
            Self::AcceptDad,
            Self::DisableIpv6,
            Self::AddrGenMode,
        ];
        let candidates = named.iter().filter_map(|make| {
            let probe = make(String::new());
            let (before, _, after) = probe.parts();
            let name = text.strip_prefix(before)?.strip_suffix(after)?;
            Some(make(name.to_owned()))
        });
        [Self::Ipv4Forwarding, Self::Ipv6Forwarding]
            .into_iter()
            .chain(candidates)
            .find(|sysctl| sysctl.to_string() == text && sysctl.is_valid())
            .ok_or_else(|| {
                LinuxError::Invalid(format!("{text:?} is no setting that is known here"))
            })
    }
}

/// Where settings are read and written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

impl Default for Sysctls {
    /// The kernel's, of the network namespace that this thread is in.
    fn default() -> Self {
        Self::below("/proc/sys")
    }
}

impl Sysctls {
    /// Those below another directory: for tests.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, sysctl: &Sysctl) -> Result<PathBuf> {
        if !sysctl.is_valid() {
            return Err(LinuxError::Invalid(format!(
                "{sysctl} has no interface's name in it"
            )));
        }
        Ok(self.root.join(sysctl.to_string()))
    }

    /// The value, as the kernel writes it, without the end of the line.
    ///
    /// # Errors
    /// [`LinuxError::Host`] with ENOENT where there is no such interface, or no IPv6;
    /// [`LinuxError::Invalid`] for a name that cannot be an interface's.
    pub fn read(&self, sysctl: &Sysctl) -> Result<String> {
        let path = self.path(sysctl)?;
        let text = fs::read_to_string(&path).context(format!("read {}", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    /// Changes a value.
    ///
    /// # Errors
    /// As [`Self::read`]; EACCES or EPERM without CAP_NET_ADMIN, EROFS where a container has `/proc`
    /// read-only, EINVAL for a value that the kernel does not take.
    pub fn write(&self, sysctl: &Sysctl, value: &str) -> Result<()> {
        let path = self.path(sysctl)?;
        fs::write(&path, value)
            .context(format!("write {value:?} to {}", path.display()))
            .map_err(|error| match error.errno() {
                Some(libc::EROFS) => error.with_advice(
                    "/proc/sys is read-only here: set it on the host, or give the container it",
                ),
                _ => error,
            })
    }

    /// The settings that a change of this one can change, itself first, with the values they have now:
    /// to be written back in this order. What is not there is left out.
    ///
    /// # Errors
    /// As [`Self::read`] for the setting itself.
    pub fn affected_by(&self, sysctl: &Sysctl) -> Result<Vec<(Sysctl, String)>> {
        let own = self.read(sysctl)?;
        let mut values = vec![(sysctl.clone(), own)];
        let (directory, make): (&str, fn(String) -> Sysctl) = match sysctl {
            Sysctl::Ipv4Forwarding => ("net/ipv4/conf", Sysctl::Ipv4InterfaceForwarding),
            Sysctl::Ipv6Forwarding => ("net/ipv6/conf", Sysctl::Ipv6InterfaceForwarding),
            _ => return Ok(values),
        };
        let mut others = Vec::new();
        if *sysctl == Sysctl::Ipv4Forwarding {
            others.push(Sysctl::AcceptRedirects("all".into()));
        }
        let mut names = interface_names(&self.root.join(directory))?;
        // "all" is the setting itself by another name.
        names.retain(|name| name != "all");
        others.extend(names.into_iter().map(make));
        for other in others {
            // An interface may have gone since.
            if let Ok(value) = self.read(&other) {
                values.push((other, value));
            }
        }
        Ok(values)
    }
}

fn interface_names(directory: &Path) -> Result<Vec<String>> {
    let what = || format!("list {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).context(what())? {
        let name = entry.context(what())?.file_name();
        names.extend(name.to_str().map(str::to_owned));
    }
    // "default" before the interfaces, which is of no matter but to readers.
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_and_nothing_else() {
        for sysctl in [
            Sysctl::Ipv4Forwarding,
            Sysctl::Ipv6Forwarding,
            Sysctl::Ipv4InterfaceForwarding("eth0.100".into()),
            Sysctl::Ipv6InterfaceForwarding("br0".into()),
            Sysctl::AcceptRedirects("all".into()),
            Sysctl::RouteLocalnet("ab-net".into()),
            Sysctl::AcceptRa("eth0".into()),
            Sysctl::AcceptDad("default".into()),
            Sysctl::DisableIpv6("eth0".into()),
            Sysctl::AddrGenMode("ab-net".into()),
        ] {
            let text = sysctl.to_string();
            assert_eq!(text.parse::<Sysctl>().ok(), Some(sysctl), "{text}");
        }
        for text in [
            "",
            "kernel/core_pattern",
            "net/ipv4/conf/../../../kernel/x/forwarding",
            "net/ipv4/conf/../forwarding",
            "net/ipv4/conf//forwarding",
            "net/ipv4/conf/eth0/rp_filter",
            "net/ipv6/conf/eth0/route_localnet",
            "net/ipv4/conf/sixteen-bytes-xx/forwarding",
        ] {
            assert!(text.parse::<Sysctl>().is_err(), "{text}");
        }
        let tree = Sysctls::below("/nowhere");
        let odd = Sysctl::RouteLocalnet("..".into());
        assert!(matches!(tree.read(&odd), Err(LinuxError::Invalid(_))));
        assert!(matches!(tree.write(&odd, "1"), Err(LinuxError::Invalid(_))));
    }
}
