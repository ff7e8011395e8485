//! The host's resolvers, followed as they change.
//!
//! The file is looked at again when a question comes in, at most every two seconds: nothing wakes
//! an idle network, and a change is in force before the next question that it matters to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a look at the file counts.
const INTERVAL: Duration = Duration::from_secs(2);
/// A resolver configuration is a few lines; a longer file is cut.
const MAX_BYTES: u64 = 64 * 1024;

/// What tells one version of the file from another: a file put in its place by a rename may have
/// the length and the time of the old one.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The resolvers in `/etc/resolv.conf`.
#[derive(Debug)]
pub(crate) struct Resolvers {
    path: PathBuf,
    stamp: Stamp,
    looked: Duration,
    servers: Vec<SocketAddr>,
}

/// The host's resolvers at this moment, in order of preference; 127.0.0.1 where the host names none,
/// as the C library has it. For [`crate::Network::set_resolvers`], where the process that
/// serves the network cannot read files.
pub fn host_resolvers() -> Vec<SocketAddr> {
    Resolvers::host().servers
}

impl Resolvers {
    /// Reads the host's configuration.
    pub(crate) fn host() -> Self {
        Self::at(Path::new("/etc/resolv.conf"))
    }

    fn at(path: &Path) -> Self {
        let mut resolvers = Self {
            path: path.to_owned(),
            stamp: None,
            looked: Duration::ZERO,
            servers: Vec::new(),
        };
        resolvers.load();
        resolvers
    }

    /// The servers, in order of preference.
    pub(crate) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Looks at the file if the last look is old; true where the servers have changed.
    pub(crate) fn refresh(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.looked) < INTERVAL {
            return false;
        }
        self.looked = now;
        if self.stamp == self.read_stamp() {
            return false;
        }
        let before = std::mem::take(&mut self.servers);
        self.load();
        before != self.servers
    }

    fn read_stamp(&self) -> Stamp {
        let meta = std::fs::metadata(&self.path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    }

    fn load(&mut self) {
        self.stamp = self.read_stamp();
        let text = read_bounded(&self.path);
        let parsed = net_dns::parse_resolv_conf(&text);
        self.servers = parsed
            .nameservers
            .iter()
            .map(|server| server.socket_addr(interface_index))
            .filter_map(usable)
            .collect();
        // What the C library does where the file names none (resolv.conf(5)).
        if self.servers.is_empty() {
            self.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        log::debug!("resolvers: {:?}", self.servers);
    }
}

/// The address to ask for a server that the file names; `None` where no question can go.
fn usable(mut server: SocketAddr) -> Option<SocketAddr> {
    let unspecified = server.ip().is_unspecified();
    let reachable = match server {
        SocketAddr::V4(v4) => !v4.ip().is_broadcast() && !v4.ip().is_multicast(),
        // A link-local address means nothing without its link.
        SocketAddr::V6(v6) => {
            !v6.ip().is_multicast() && (!v6.ip().is_unicast_link_local() || v6.scope_id() != 0)
        }
    };
    if unspecified {
        // The C library takes it for this host.
        server.set_ip(match server.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    reachable.then_some(server)
}

/// The index of an interface, by its name.
fn interface_index(name: &str) -> Option<u32> {
    // The name comes from a file: it must not lead anywhere else.
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    text.trim().parse().ok()
}

/// The text of the file; what is not there, or is no text, reads as empty.
fn read_bounded(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // A file that fails in the middle counts as far as it went.
        let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row67_a_change_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let mut resolvers = Resolvers::at(&path);
        assert_eq!(resolvers.servers(), ["192.0.2.1:53".parse().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        assert!(
            !resolvers.refresh(Duration::from_secs(1)),
            "too soon to look"
        );
        assert!(resolvers.refresh(Duration::from_secs(2)));
        assert_eq!(resolvers.servers().len(), 2);
        assert!(!resolvers.refresh(Duration::from_secs(5)), "nothing new");
    }

    #[test]
    fn a_file_that_names_nobody_means_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let resolvers = Resolvers::at(&dir.path().join("none"));
        assert_eq!(resolvers.servers(), ["127.0.0.1:53".parse().unwrap()]);
    }

    /// A file that a rename has put in place, of the same length and time.
    #[test]
    fn row67_a_replaced_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut resolvers = Resolvers::at(&path);
        let next = dir.path().join("next");
        std::fs::write(&next, "nameserver 192.0.2.2\n").unwrap();
        let file = std::fs::File::options().write(true).open(&next).unwrap();
        file.set_modified(time).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(resolvers.refresh(Duration::from_secs(2)));
        assert_eq!(resolvers.servers(), ["192.0.2.2:53".parse().unwrap()]);
    }

    #[test]
    fn servers_that_cannot_be_asked_are_left_out() {
        for (server, expected) in [
            ("192.0.2.1:53", Some("192.0.2.1:53")),
            ("127.0.0.53:53", Some("127.0.0.53:53")),
            ("0.0.0.0:53", Some("127.0.0.1:53")),
            ("[::]:53", Some("[::1]:53")),
            ("[fe80::1%3]:53", Some("[fe80::1%3]:53")),
            ("[fe80::1]:53", None),
            ("224.0.0.251:53", None),
            ("255.255.255.255:53", None),
            ("[ff02::fb]:53", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(usable(server.parse().unwrap()), expected, "{server}");
        }
    }

    #[test]
    fn names_of_interfaces_lead_nowhere_else() {
        for name in ["..", "../..", "lo/../lo", "", "no-such-interface"] {
            assert_eq!(interface_index(name), None, "{name}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(interface_index("lo"), Some(1));
    }
}
