//! Reading `/etc/resolv.conf` (resolv.conf(5)), as text that someone else has read from the disk.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Name servers kept; the C library uses three.
pub const MAX_NAMESERVERS: usize = 8;
/// Search domains kept.
pub const MAX_SEARCH: usize = 32;
/// Lines read; the rest of a longer file is ignored.
const MAX_LINES: usize = 1024;

/// What a `resolv.conf` says. Lines and options that are unknown or wrong are passed over, as the
/// C library does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers in order of preference; empty when the file has none (the C library then
    /// asks 127.0.0.1).
    pub nameservers: Vec<Nameserver>,
    /// Search list; the last `search` or `domain` line counts.
    pub search: Vec<String>,
    /// Options.
    pub options: Options,
}

/// One `nameserver` line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// What stood behind `%`: the name or the index of the interface of a link-local address.
    pub scope: Option<String>,
}

impl Nameserver {
    /// Address and port 53. A numeric scope is put in; the name of an interface is for the I/O
    /// layer to look up, `index` does it.
    #[must_use]
    pub fn socket_addr(&self, index: impl FnOnce(&str) -> Option<u32>) -> SocketAddr {
        match (self.address, &self.scope) {
            (IpAddr::V6(address), Some(scope)) => {
                let scope = scope.parse().ok().or_else(|| index(scope)).unwrap_or(0);
                SocketAddrV6::new(address, 53, 0, scope).into()
            }
            (address, _) => SocketAddr::new(address, 53),
        }
    }
}

/// The `options` lines, with the C library's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Dots from which a name is tried as it is first; 0 to 15.
    pub ndots: u8,
    /// Seconds until the next server is tried; 1 to 30.
    pub timeout: u8,
    /// Rounds over the list; 1 to 5.
    pub attempts: u8,
    /// Servers are used in turn.
    pub rotate: bool,
    /// EDNS is used.
    pub edns0: bool,
    /// TCP is used for every query.
    pub use_vc: bool,
    /// The AD flag of the servers is trusted.
    pub trust_ad: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ndots: 1,
            timeout: 5,
            attempts: 2,
            rotate: false,
            edns0: false,
            use_vc: false,
            trust_ad: false,
        }
    }
}

/// Reads the text of a `resolv.conf`. Never fails: what cannot be read is not there.
///
/// ```
/// use net_dns::parse_resolv_conf;
///
/// let conf = parse_resolv_conf("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a.example b.example\n");
/// assert_eq!(conf.nameservers.len(), 2);
/// assert_eq!(conf.nameservers[1].scope.as_deref(), Some("eth0"));
/// assert_eq!(conf.search, ["a.example", "b.example"]);
/// ```
#[must_use]
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines().take(MAX_LINES) {
        let is_comment = |word: &&str| word.starts_with(['#', ';']);
        let mut words = line
            .split_ascii_whitespace()
            .take_while(|word| !is_comment(word));
        match words.next() {
            Some("nameserver") => {
                if let Some(server) = words.next().and_then(nameserver)
                    && conf.nameservers.len() < MAX_NAMESERVERS
                    && !conf.nameservers.contains(&server)
                {
                    conf.nameservers.push(server);
                }
            }
            Some("search") => {
                conf.search = words
                    .filter(|w| w.len() < 256)
                    .take(MAX_SEARCH)
                    .map(Into::into)
                    .collect();
            }
            Some("domain") => {
                conf.search = words
                    .filter(|w| w.len() < 256)
                    .take(1)
                    .map(Into::into)
                    .collect();
            }
            Some("options") => words.for_each(|word| option(&mut conf.options, word)),
            _ => {}
        }
    }
    conf
}

fn nameserver(word: &str) -> Option<Nameserver> {
    let (address, scope) = match word.split_once('%') {
        Some((address, scope)) => (address.parse::<Ipv6Addr>().ok()?.into(), Some(scope)),
        None => (word.parse::<IpAddr>().ok()?, None),
    };
    // Interface names have at most 15 characters.
    let scope = scope
        .filter(|scope| (1..=15).contains(&scope.len()))
        .map(Into::into);
    Some(Nameserver { address, scope })
}

fn option(options: &mut Options, word: &str) {
    let (key, value) = word.split_once(':').unwrap_or((word, ""));
    let number = |low: u8, high: u8| {
        value
            .parse::<u32>()
            .ok()
            .map(|n| n.clamp(low.into(), high.into()) as u8)
    };
    match key {
        "ndots" => options.ndots = number(0, 15).unwrap_or(options.ndots),
        "timeout" => options.timeout = number(1, 30).unwrap_or(options.timeout),
        "attempts" => options.attempts = number(1, 5).unwrap_or(options.attempts),
        "rotate" => options.rotate = true,
        "edns0" => options.edns0 = true,
        "use-vc" | "usevc" | "tcp" => options.use_vc = true,
        "trust-ad" => options.trust_ad = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn row67_real_files() {
        let systemd = "# This is /run/systemd/resolve/stub-resolv.conf\n#\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
        let conf = parse_resolv_conf(systemd);
        assert_eq!(conf.nameservers[0].address, IpAddr::from([127, 0, 0, 53]));
        assert_eq!(conf.search, ["lan"]);
        assert!(conf.options.edns0 && conf.options.trust_ad && !conf.options.rotate);

        let messy = "\tnameserver\t192.0.2.1 # first\r\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver\n;nameserver 192.0.2.9\nnameserver fe80::1%3\nnameserver fe80::2%wlan0\nnameserver 192.0.2.3%eth0\nnameserver 2001:db8::1\nsearch old.example\ndomain example.org ignored\noptions ndots:99 timeout:0 attempts:x rotate unknown:7\nlookup file bind\n";
        let conf = parse_resolv_conf(messy);
        let addresses: Vec<SocketAddr> = conf
            .nameservers
            .iter()
            .map(|server| server.socket_addr(|name| (name == "wlan0").then_some(8)))
            .collect();
        assert_eq!(
            addresses,
            [
                "192.0.2.1:53".parse::<SocketAddr>().unwrap(),
                "[fe80::1%3]:53".parse().unwrap(),
                "[fe80::2%8]:53".parse().unwrap(),
                "[2001:db8::1]:53".parse().unwrap(),
            ]
        );
        assert_eq!(conf.search, ["example.org"]);
        let expected = Options {
            ndots: 15,
            timeout: 1,
            rotate: true,
            ..Options::default()
        };
        assert_eq!(conf.options, expected);
        assert_eq!(parse_resolv_conf(""), ResolvConf::default());
    }

    proptest! {
        #[test]
        fn any_text_stays_in_bounds(text in "(nameserver |search |options |[a-z0-9:.%#; \n]){0,200}") {
            let conf = parse_resolv_conf(&text);
            prop_assert!(conf.nameservers.len() <= MAX_NAMESERVERS);
            prop_assert!(conf.search.len() <= MAX_SEARCH);
        }
    }
}
