//! The host's resolvers, followed as they change.
//!
//! The file is looked at again when a question comes in, at most every two seconds: nothing wakes
//! an idle network, and a change is in force before the next question that it matters to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a look at the file counts.
const INTERVAL: Duration = Duration::from_secs(2);
/// A resolver configuration is a few lines; a longer file is cut.
const MAX_BYTES: u64 = 64 * 1024;

/// What tells one version of the file from another.
type Stamp = Option<(SystemTime, u64)>;

/// The resolvers in `/etc/resolv.conf`.
#[derive(Debug)]
pub(crate) struct Resolvers {
    path: PathBuf,
    stamp: Stamp,
    looked: Duration,
    servers: Vec<SocketAddr>,
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
        Some((meta.modified().ok()?, meta.len()))
    }

    fn load(&mut self) {
        self.stamp = self.read_stamp();
        let text = read_bounded(&self.path);
        let parsed = net_dns::parse_resolv_conf(&text);
        self.servers = parsed
            .nameservers
            .iter()
            .map(|server| server.socket_addr(|_| None))
            .filter(|server| !server.ip().is_multicast() && !is_broadcast(server.ip()))
            .collect();
        // What the C library does where the file names none (resolv.conf(5)).
        if self.servers.is_empty() {
            self.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        log::debug!("resolvers: {:?}", self.servers);
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::BROADCAST)
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
}
