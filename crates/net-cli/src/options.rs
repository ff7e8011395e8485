//! The settings of a network as they were asked for, on the command line or in a file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use net_manager::{
    Engine, NetworkConfig, NetworkMode, Polling, PublishedPort, Reservation, UplinkConfig,
    UplinkDevice,
};

use crate::storm::Storm;
use crate::subnet6::Subnet6;
use crate::usage::UsageError;

/// The options every network takes; `None` is "not given".
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct NetworkOptions {
    pub(crate) name: Option<String>,
    pub(crate) mode: Option<NetworkMode>,
    pub(crate) engine: Option<Engine>,
    pub(crate) fallback: Option<Engine>,
    pub(crate) bridge: Option<String>,
    pub(crate) take_over: Option<String>,
    pub(crate) isolated: bool,
    pub(crate) storm: Option<Storm>,
    pub(crate) snooping: bool,
    pub(crate) queues: Option<u16>,
    pub(crate) poll: bool,
    pub(crate) poll_us: Option<u64>,
    pub(crate) reserve: Vec<Reservation>,
    pub(crate) uplink: Option<UplinkDevice>,
    pub(crate) outside: Option<Ipv4Network>,
    pub(crate) via: Option<Ipv4Addr>,
    pub(crate) outside6: Option<Ipv6Network>,
    pub(crate) via6: Option<Ipv6Addr>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) subnet: Option<Ipv4Network>,
    pub(crate) subnet6: Option<Subnet6>,
    pub(crate) mtu: Option<u16>,
    pub(crate) publish: Vec<PublishedPort>,
    pub(crate) dns: Vec<SocketAddr>,
    pub(crate) domain: Option<String>,
    pub(crate) host_loopback: bool,
    pub(crate) pcap: Option<PathBuf>,
}

impl NetworkOptions {
    /// The settings these options ask for; `name` where they give none.
    pub(crate) fn config(&self, name: &str) -> Result<NetworkConfig, UsageError> {
        let given = self.clone();
        let mut config = NetworkConfig::default();
        config.name = given.name.unwrap_or_else(|| name.to_owned());
        config.mode = given.mode.unwrap_or(config.mode);
        config.engine = given.engine.unwrap_or(Engine::Auto);
        config.fallback = given.fallback;
        config.bridge = given.bridge;
        config.take_over = given.take_over;
        config.isolated = given.isolated;
        config.storm = given.storm.unwrap_or_default().0;
        config.snooping = given.snooping;
        config.queues = given.queues.unwrap_or(config.queues);
        config.polling = match (given.poll, given.poll_us) {
            (true, Some(_)) => {
                return Err(UsageError::new(
                    "--poll has no end, and --poll-us says one: take one of both",
                ));
            }
            (true, None) => Polling::Always,
            (false, Some(us)) => Polling::UpTo(Duration::from_micros(us)),
            (false, None) => config.polling,
        };
        // What the control group allows stands in files, which the server does not have later.
        let processors = std::thread::available_parallelism();
        config.processors = processors.ok().map(std::num::NonZero::get);
        config.reservations = given.reserve;
        config.state_dir = given.state_dir;
        config.subnet = given.subnet.unwrap_or(config.subnet);
        if let Some(subnet6) = given.subnet6 {
            subnet6.apply(&mut config);
        }
        config.mtu = given.mtu.unwrap_or(config.mtu);
        config.publish = given.publish;
        config.dns = given.dns;
        config.domain = given.domain.unwrap_or(config.domain);
        config.host_loopback = given.host_loopback;
        config.pcap = given.pcap;
        config.uplink = match (given.uplink, given.outside) {
            (Some(device), Some(outside)) => {
                let mut uplink = UplinkConfig::new(device, outside, given.via);
                (uplink.outside6, uplink.via6) = (given.outside6, given.via6);
                Some(uplink)
            }
            (None, None)
                if given.via.is_none() && given.outside6.is_none() && given.via6.is_none() =>
            {
                None
            }
            _ => {
                return Err(UsageError::new(
                    "--uplink and --outside need each other and --engine fast; --via, --outside6 and \
                     --via6 need both",
                ));
            }
        };
        Ok(config)
    }

    /// These options over those of a file: what is given here wins, lists add up.
    pub(crate) fn over(mut self, file: Self) -> Self {
        self.name = self.name.or(file.name);
        self.mode = self.mode.or(file.mode);
        self.engine = self.engine.or(file.engine);
        self.fallback = self.fallback.or(file.fallback);
        self.bridge = self.bridge.or(file.bridge);
        self.take_over = self.take_over.or(file.take_over);
        self.isolated |= file.isolated;
        self.storm = self.storm.or(file.storm);
        self.snooping |= file.snooping;
        self.queues = self.queues.or(file.queues);
        // Of two things that exclude each other the one given here.
        if !self.poll {
            self.poll = file.poll && self.poll_us.is_none();
            self.poll_us = self.poll_us.or(file.poll_us);
        }
        self.reserve.splice(0..0, file.reserve);
        self.uplink = self.uplink.or(file.uplink);
        self.outside = self.outside.or(file.outside);
        self.via = self.via.or(file.via);
        self.outside6 = self.outside6.or(file.outside6);
        self.via6 = self.via6.or(file.via6);
        self.state_dir = self.state_dir.or(file.state_dir);
        self.subnet = self.subnet.or(file.subnet);
        self.subnet6 = self.subnet6.or(file.subnet6);
        self.mtu = self.mtu.or(file.mtu);
        self.publish.splice(0..0, file.publish);
        if self.dns.is_empty() {
            self.dns = file.dns;
        }
        self.domain = self.domain.or(file.domain);
        self.host_loopback |= file.host_loopback;
        self.pcap = self.pcap.or(file.pcap);
        self
    }
}

/// Microseconds of polling, within what there may be.
pub(crate) fn poll_us(us: u64) -> Result<u64, UsageError> {
    let most = Polling::LONGEST.as_micros();
    if u128::from(us) > most {
        return Err(UsageError::new(format!(
            "poll-us: {us} is not between 0 and {most}"
        )));
    }
    Ok(us)
}

/// An IPv4 network with its prefix.
pub(crate) fn subnet(text: &str) -> Result<Ipv4Network, UsageError> {
    network(text).map_err(|_| {
        UsageError::new(format!(
            "subnet `{text}` is not an IPv4 network such as 10.0.2.0/24"
        ))
    })
}

/// An IPv4 address with the prefix of its network.
pub(crate) fn network(text: &str) -> Result<Ipv4Network, UsageError> {
    let parsed = text.contains('/').then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(|| {
        UsageError::new(format!(
            "`{text}` is not an IPv4 address with its prefix, such as 198.51.100.2/24"
        ))
    })
}

/// An IPv6 address with the prefix of its network.
pub(crate) fn network6(text: &str) -> Result<Ipv6Network, UsageError> {
    let parsed = text.contains('/').then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(|| {
        UsageError::new(format!(
            "`{text}` is not an IPv6 address with its prefix, such as 2001:db8::9/64"
        ))
    })
}

/// A resolver: an address, or an address and a port.
pub(crate) fn resolver(text: &str) -> Result<SocketAddr, UsageError> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse::<SocketAddr>())
        .map_err(|_| {
            UsageError::new(format!(
                "DNS server `{text}` is not an address such as 192.0.2.53"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = NetworkOptions {
            mtu: Some(9000),
            domain: Some("file".to_owned()),
            publish: vec!["1:1".parse().unwrap()],
            engine: Some(Engine::User),
            isolated: true,
            ..NetworkOptions::default()
        };
        let line = NetworkOptions {
            mtu: Some(1400),
            publish: vec!["2:2".parse().unwrap()],
            engine: Some(Engine::Kernel),
            ..NetworkOptions::default()
        };
        let both = line.over(file);
        assert_eq!(
            (both.mtu, both.domain.as_deref()),
            (Some(1400), Some("file"))
        );
        assert_eq!((both.engine, both.isolated), (Some(Engine::Kernel), true));
        let ports: Vec<u16> = both.publish.iter().map(|port| port.guest_port).collect();
        assert_eq!(ports, [1, 2]);
    }

    #[test]
    fn polling_is_for_ever_or_for_a_while() {
        let polling = |line: &NetworkOptions| line.config("x").map(|config| config.polling);
        let of = |poll, poll_us| NetworkOptions {
            poll,
            poll_us,
            ..NetworkOptions::default()
        };
        let us = |us| Polling::UpTo(Duration::from_micros(us));
        assert_eq!(polling(&of(false, None)).unwrap(), Polling::default());
        assert_eq!(polling(&of(true, None)).unwrap(), Polling::Always);
        assert_eq!(polling(&of(false, Some(0))).unwrap(), us(0));
        assert!(polling(&of(true, Some(7))).is_err());
        // What the command line says goes before what the file says, which the other may exclude.
        for (line, file, expected) in [
            (of(true, None), of(false, Some(7)), Polling::Always),
            (of(false, Some(7)), of(true, None), us(7)),
            (of(false, None), of(true, None), Polling::Always),
            (of(false, None), of(false, Some(9)), us(9)),
        ] {
            assert_eq!(polling(&line.over(file)).unwrap(), expected);
        }
        assert_eq!(poll_us(1000).unwrap(), 1000);
        assert!(poll_us(1001).is_err());
    }

    #[test]
    fn an_uplink_is_whole_or_not_there() {
        let mut options = NetworkOptions {
            uplink: Some("tap:out0".parse().unwrap()),
            ..NetworkOptions::default()
        };
        assert!(options.config("x").is_err());
        options.outside = Some("198.51.100.2/24".parse().unwrap());
        assert!(options.config("x").unwrap().uplink.is_some());
        options.outside6 = Some(network6("2001:db8::9/64").unwrap());
        options.via6 = Some("fe80::1".parse().unwrap());
        let uplink = options.config("x").unwrap().uplink.unwrap();
        assert_eq!(uplink.outside6, options.outside6);
        assert_eq!(uplink.via6, options.via6);
        options.uplink = None;
        assert!(options.config("x").is_err());
        for bad in ["2001:db8::9", "198.51.100.2/24", "2001:db8::9/129"] {
            let error = network6(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        let only = NetworkOptions {
            outside6: options.outside6,
            ..NetworkOptions::default()
        };
        assert!(only.config("x").is_err());
        assert!(
            NetworkOptions::default()
                .config("x")
                .unwrap()
                .uplink
                .is_none()
        );
    }
}
