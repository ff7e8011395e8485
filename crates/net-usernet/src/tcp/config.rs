//! What a relay is told when it is made.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// Limits, time-outs and addresses of a [`TcpRelay`](super::TcpRelay).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// Source of ICMP errors.
    pub gateway: Ipv4Addr,
    /// Source of ICMPv6 errors; without it, the unreachable address itself.
    pub gateway6: Option<Ipv6Addr>,
    /// Flows of all guests together.
    pub flows: usize,
    /// Flows of one guest, in any state.
    pub flows_per_port: usize,
    /// Flows of one guest whose host connection is not yet made.
    pub half_open_per_port: usize,
    /// How long a host may take to answer a connect.
    pub connect: Duration,
    /// How long an established flow may be silent before the guest is probed. A guest that
    /// answers keeps its flow.
    pub established: Duration,
    /// The same for a flow of which one side has ended its direction.
    pub half_closed: Duration,
    /// Between two unanswered probes.
    pub probe_interval: Duration,
    /// Unanswered probes until a flow is given up.
    pub probes: u8,
    /// How long a closed flow is remembered to acknowledge a retransmitted FIN.
    pub time_wait: Duration,
}

impl RelayConfig {
    /// The default limits and time-outs.
    pub fn new(gateway: Ipv4Addr, gateway6: Option<Ipv6Addr>) -> Self {
        Self {
            gateway,
            gateway6,
            flows: 262_144,
            flows_per_port: 8192,
            half_open_per_port: 1024,
            connect: Duration::from_secs(75),
            established: Duration::from_secs(2 * 3600 + 4 * 60),
            half_closed: Duration::from_secs(4 * 60),
            probe_interval: Duration::from_secs(75),
            probes: 9,
            time_wait: Duration::from_secs(10),
        }
    }

    /// Where an ICMP error about `remote` comes from.
    pub(super) fn error_source(&self, remote: IpAddr) -> IpAddr {
        match remote {
            IpAddr::V4(_) => IpAddr::V4(self.gateway),
            IpAddr::V6(_) => self.gateway6.map_or(remote, IpAddr::V6),
        }
    }
}

impl From<&crate::Config> for RelayConfig {
    fn from(config: &crate::Config) -> Self {
        Self {
            flows_per_port: config.limits.tcp_flows,
            half_open_per_port: config.limits.tcp_half_open,
            established: config.timeouts.tcp_established,
            half_closed: config.timeouts.tcp_transitory,
            ..Self::new(config.gateway, config.gateway6)
        }
    }
}
