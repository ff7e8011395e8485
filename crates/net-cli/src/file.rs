//! The configuration file of `up`: the same settings as the command line, in TOML.
//!
//! ```toml
//! name = "lab"
//! mode = "nat"
//! engine = "kernel"
//! fallback = "user"
//! isolated = false
//! storm = "broadcast=1000,multicast=10000,unknown=off"
//! snooping = false
//! queues = 2
//! poll = false
//! poll-us = 50
//! subnet = "10.0.2.0/24"
//! subnet6 = "fd00:77::/64"
//! mtu = 1500
//! publish = ["8080:80", "127.0.0.1:5353:53/udp"]
//! reserve = ["web=10.0.2.20", "02:00:00:00:00:07=10.0.2.21"]
//! dns = ["192.0.2.53"]
//! domain = "internal"
//! host-loopback = false
//! pcap = "frames.pcap"
//! attach = ["qemu-stream:/run/vm1.sock", "netns:blue", "tap:vm0,queues=2,owner=1000"]
//! ```
//!
//! And for the other modes `bridge = "br0"`, `take-over = "eth0"`; for the fast engine
//! `uplink = "tap:out0"`, `outside = "198.51.100.2/24"`, `via = "198.51.100.1"`,
//! `outside6 = "2001:db8::9/64"`, `via6 = "fe80::1"`. The places may also
//! stand in a table, a list for each kind:
//!
//! ```toml
//! [attach]
//! qemu-stream = ["/run/vm1.sock"]
//! netns = ["blue"]
//! ```
//!
//! The same form, in JSON, is what the keeper tells the server.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(any(target_os = "linux", test))]
use net_manager::{GuestKey, PublishedPort, Reservation};
use serde::{Deserialize, Serialize};

use crate::options::{NetworkOptions, network, network6, poll_us, resolver, subnet};
use crate::place::{Place, interface};
use crate::usage::UsageError;

/// Every setting as text; what is absent is not given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    name: Option<String>,
    mode: Option<String>,
    engine: Option<String>,
    fallback: Option<String>,
    bridge: Option<String>,
    take_over: Option<String>,
    isolated: bool,
    storm: Option<String>,
    snooping: bool,
    queues: Option<u16>,
    poll: bool,
    poll_us: Option<u64>,
    reserve: Vec<String>,
    uplink: Option<String>,
    outside: Option<String>,
    via: Option<Ipv4Addr>,
    outside6: Option<String>,
    via6: Option<Ipv6Addr>,
    state_dir: Option<PathBuf>,
    subnet: Option<String>,
    subnet6: Option<String>,
    mtu: Option<u16>,
    publish: Vec<String>,
    dns: Vec<String>,
    domain: Option<String>,
    host_loopback: bool,
    pcap: Option<PathBuf>,
    attach: Attach,
}

/// The places: as they are written on the command line, or by their kinds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Attach {
    List(Vec<String>),
    Kinds(BTreeMap<String, Wheres>),
}

/// One place of a kind, or several.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Wheres {
    Text(String),
    Number(i64),
    List(Vec<Where>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Where {
    Text(String),
    Number(i64),
}

impl Default for Attach {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Attach {
    fn places(self) -> Result<Vec<Place>, UsageError> {
        let texts: Vec<String> = match self {
            Self::List(list) => list,
            Self::Kinds(kinds) => kinds
                .into_iter()
                .flat_map(|(kind, wheres)| {
                    let list = match wheres {
                        Wheres::Text(text) => vec![Where::Text(text)],
                        Wheres::Number(number) => vec![Where::Number(number)],
                        Wheres::List(list) => list,
                    };
                    list.into_iter().map(move |place| match place {
                        Where::Text(text) => format!("{kind}:{text}"),
                        Where::Number(number) => format!("{kind}:{number}"),
                    })
                })
                .collect(),
        };
        texts.iter().map(|text| text.parse()).collect()
    }
}

impl File {
    /// The settings and the places, checked one by one.
    pub(crate) fn settings(self) -> Result<(NetworkOptions, Vec<Place>), UsageError> {
        let publish: Result<_, _> = self.publish.iter().map(|port| port.parse()).collect();
        let reserve: Result<_, _> = self.reserve.iter().map(|text| text.parse()).collect();
        let dns: Result<_, _> = self.dns.iter().map(|server| resolver(server)).collect();
        if self
            .queues
            .is_some_and(|queues| !(1..=256).contains(&queues))
        {
            return Err(UsageError::new("queues: not between 1 and 256"));
        }
        let options = NetworkOptions {
            name: self.name,
            mode: read(self.mode)?,
            engine: read(self.engine)?,
            fallback: read(self.fallback)?,
            bridge: self.bridge.as_deref().map(interface).transpose()?,
            take_over: self.take_over.as_deref().map(interface).transpose()?,
            isolated: self.isolated,
            storm: read(self.storm)?,
            snooping: self.snooping,
            queues: self.queues,
            poll: self.poll,
            poll_us: self.poll_us.map(poll_us).transpose()?,
            reserve: reserve?,
            uplink: read(self.uplink)?,
            outside: self.outside.as_deref().map(network).transpose()?,
            via: self.via,
            outside6: self.outside6.as_deref().map(network6).transpose()?,
            via6: self.via6,
            state_dir: self.state_dir,
            subnet: self.subnet.as_deref().map(subnet).transpose()?,
            subnet6: read(self.subnet6)?,
            mtu: self.mtu,
            publish: publish?,
            dns: dns?,
            domain: self.domain,
            host_loopback: self.host_loopback,
            pcap: self.pcap,
        };
        Ok((options, self.attach.places()?))
    }

    /// The file that says this.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn of(options: &NetworkOptions) -> Self {
        let NetworkOptions {
            name,
            mode,
            engine,
            fallback,
            bridge,
            take_over,
            isolated,
            storm,
            snooping,
            queues,
            poll,
            poll_us,
            reserve,
            uplink,
            outside,
            via,
            outside6,
            via6,
            state_dir,
            subnet,
            subnet6,
            mtu,
            publish,
            dns,
            domain,
            host_loopback,
            pcap,
        } = options.clone();
        Self {
            name,
            mode: text(mode),
            engine: text(engine),
            fallback: text(fallback),
            bridge,
            take_over,
            isolated,
            storm: text(storm),
            snooping,
            queues,
            poll,
            poll_us,
            reserve: reserve.iter().map(reservation).collect(),
            uplink: text(uplink),
            outside: text(outside),
            via,
            outside6: text(outside6),
            via6,
            state_dir,
            subnet: text(subnet),
            subnet6: text(subnet6),
            mtu,
            publish: publish.iter().map(published).collect(),
            dns: dns.iter().map(ToString::to_string).collect(),
            domain,
            host_loopback,
            pcap,
            attach: Attach::default(),
        }
    }
}

fn read<T: FromStr<Err: Display>>(text: Option<String>) -> Result<Option<T>, UsageError> {
    text.map(|text| text.parse().map_err(UsageError::new))
        .transpose()
}

#[cfg(any(target_os = "linux", test))]
fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// A published port as it is asked for: without a guest, whom neither file nor command line names.
#[cfg(any(target_os = "linux", test))]
fn published(port: &PublishedPort) -> String {
    let PublishedPort {
        protocol,
        bind,
        guest_port,
        ..
    } = port;
    format!("{bind}:{guest_port}/{protocol}")
}

#[cfg(any(target_os = "linux", test))]
fn reservation(reservation: &Reservation) -> String {
    let address = reservation.address;
    match &reservation.guest {
        GuestKey::Mac(mac) => format!("{mac}={address}"),
        GuestKey::Name(name) => format!("{name}={address}"),
    }
}

/// Reads `path`.
pub(crate) fn read_file(path: &Path) -> Result<(NetworkOptions, Vec<Place>), UsageError> {
    let text = std::fs::read_to_string(path)
        .map_err(|err| UsageError::new(format!("cannot read {}: {err}", path.display())))?;
    parse(&text).map_err(|err| UsageError::new(format!("{}: {err}", path.display())))
}

fn parse(text: &str) -> Result<(NetworkOptions, Vec<Place>), UsageError> {
    let file: File = toml::from_str(text).map_err(|err| {
        let line = err
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        UsageError::new(format!("line {line}: {}", err.message()))
    })?;
    file.settings()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples above, one after the other.
    fn examples() -> Vec<String> {
        let mut examples = Vec::new();
        let mut lines = include_str!("file.rs").lines();
        while lines.any(|line| line == "//! ```toml") {
            let example = lines
                .by_ref()
                .take_while(|line| *line != "//! ```")
                .map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n")
                .collect();
            examples.push(example);
        }
        examples
    }

    #[test]
    fn the_examples_of_the_documentation_are_read() {
        let examples = examples();
        assert_eq!(examples.len(), 2);
        let (network, attach) = parse(&examples[0]).unwrap();
        assert_eq!((network.publish.len(), network.reserve.len()), (2, 2));
        assert_eq!(attach.len(), 3);
        let (_, attach) = parse(&examples[1]).unwrap();
        let attach: Vec<String> = attach.iter().map(ToString::to_string).collect();
        assert_eq!(attach, ["netns:blue", "qemu-stream:/run/vm1.sock"]);
    }

    #[test]
    fn what_the_keeper_writes_the_server_reads() {
        let others = "bridge = \"br0\"\ntake-over = \"eth0\"\nuplink = \"if:veth0\"\n\
                      outside = \"198.51.100.2/24\"\nvia = \"198.51.100.1\"\nstate-dir = \"/x\"\n\
                      outside6 = \"2001:db8::9/64\"\nvia6 = \"fe80::1\"\n";
        let polled = "poll = true";
        let published = "publish = [\"[::1]:1:2/udp\"]\ndns = [\"[2001:db8::1]:5353\"]\n";
        let (first, _) = parse(&examples()[0]).unwrap();
        for given in [
            NetworkOptions::default(),
            first,
            parse(others).unwrap().0,
            parse(published).unwrap().0,
            parse(polled).unwrap().0,
        ] {
            let wire = serde_json::to_vec(&File::of(&given)).unwrap();
            let file: File = serde_json::from_slice(&wire).unwrap();
            assert_eq!(file.settings().unwrap().0, given);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("mtu = 1500\nfrob = 1\n", "line 2"),
            ("mtu = \"x\"", "line 1"),
            ("publish = [\"80\"]", "`80`"),
            ("engine = \"warp\"", "warp"),
            ("queues = 0", "queues"),
            ("poll-us = 1001", "1001"),
            ("bridge = \"a/b\"", "`a/b`"),
            ("reserve = [\"web\"]", "`web`"),
            ("[attach]\nstar = [\"x\"]", "`star:x`"),
            ("attach = [\"tap\"]", "`tap`"),
            ("[attach]\nvz-fd = [2]", "`2`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
