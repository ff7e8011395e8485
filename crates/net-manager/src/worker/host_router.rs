//! The host as the router of IPv6, where the kernel carries the network: what it tells guests.
//!
//! The kernel routes and says nothing of it. What it would have to say goes out here, by a socket on
//! the bridge that whoever has the privileges has opened: guests know a router by the link-local
//! address that it speaks from, which has to be the bridge's.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use net_backend_linux::ra_socket::{ALL_NODES, RaSocket};
use net_dhcp::ra::{Advertisement, Advertiser, Destination, RaConfig};

use super::{Worker, no_random, token};
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

/// Solicitations heard at a time. Whatever the others ask, the answer to these is theirs too.
const BUDGET: usize = 64;
/// The longest solicitation that is read, in bytes: what is cut is no valid one.
const MAX_MESSAGE: usize = 1500;
/// For how long guests use the router without hearing from it (RFC 4861, section 6.2.1): three times
/// the longest interval between two advertisements.
const LIFETIME: Duration = Duration::from_secs(1800);
/// The one who asks, to the advertiser: guests cannot be told apart behind a bridge, so that they
/// share one answer to a single host at a time, and the advertisements to all.
const GUESTS: u32 = 0;

/// The host's voice.
pub(super) struct HostRouter {
    socket: RaSocket,
    advertiser: Advertiser,
    /// Whether anything leaves the network.
    pub(super) routes: bool,
}

impl Worker {
    /// Speaks for the host as the router of IPv6 from now on, by the socket that it was given; or
    /// knows why the network, which `config` describes without IPv6 then, has none.
    pub(crate) fn speak_for_host(
        &mut self,
        socket: Result<RaSocket, String>,
        config: &NetworkConfig,
    ) -> Result<(), ManagerError> {
        let socket = match socket {
            Ok(socket) => socket,
            Err(why) => {
                self.no_ipv6 = Some(why);
                return Ok(());
            }
        };
        let Some(advertised) = self.core.gateway.config().advertisement() else {
            return Ok(());
        };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(no_random)?;
        self.host_router = Some(HostRouter::new(
            socket,
            advertised,
            config.mode == NetworkMode::Nat,
            u64::from_ne_bytes(seed),
            self.poll.registry(),
            Duration::ZERO,
        )?);
        self.follow_routes(Duration::ZERO);
        Ok(())
    }
}

impl HostRouter {
    /// Advertises `config` from now on, and listens to those who ask.
    fn new(
        socket: RaSocket,
        config: RaConfig,
        routes: bool,
        seed: u64,
        registry: &Registry,
        now: Duration,
    ) -> Result<Self, ManagerError> {
        let wrong = |err: net_dhcp::ra::RaConfigError| {
            net_gateway::ConfigError::Advertisement(err.to_string())
        };
        let mut advertiser = Advertiser::new(config, seed).map_err(wrong)?;
        registry
            .register(
                &mut SourceFd(&socket.as_fd().as_raw_fd()),
                token::ROUTER,
                Interest::READABLE,
            )
            .map_err(ManagerError::host("watch for router solicitations"))?;
        advertiser.start(now);
        Ok(Self {
            socket,
            advertiser,
            routes,
        })
    }

    /// Says whether there is a way out, as far as is known now.
    pub(super) fn set_routed(&mut self, routed: bool, now: Duration) {
        let lifetime = if routed { LIFETIME } else { Duration::ZERO };
        if let Err(err) = self.advertiser.set_router_lifetime(lifetime, now) {
            log::debug!("router lifetime: {err}");
        }
    }

    /// A guest has come that may not ask.
    pub(super) fn announce(&mut self, now: Duration) {
        self.advertiser.announce(now);
    }

    /// Hears those who ask.
    pub(super) fn ready(&mut self, now: Duration) {
        let mut buffer = [0; MAX_MESSAGE];
        for _ in 0..BUDGET {
            match self.socket.receive(&mut buffer) {
                Ok(Some((source, len))) => {
                    let message = buffer.get(..len).unwrap_or_default();
                    // The socket has checked the hop limit. What is wrong is the guest's affair.
                    let _ = self.advertiser.solicited(GUESTS, source, 255, message, now);
                }
                Ok(None) => return,
                Err(err) => {
                    log::debug!("{err}");
                    return;
                }
            }
        }
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.advertiser.next_deadline()
    }

    /// Advertises what is due.
    pub(super) fn on_deadline(&mut self, now: Duration) {
        while let Some(due) = self.advertiser.poll(now) {
            self.send(&due);
        }
    }

    /// The network ends: guests are told that its router, prefix and name server are no more
    /// (RFC 4861, section 6.2.5).
    pub(super) fn farewell(&mut self) {
        if let Some(last) = self.advertiser.stop() {
            self.send(&last);
        }
    }

    fn send(&self, advertisement: &Advertisement) {
        let to: Ipv6Addr = match advertisement.to {
            Destination::AllNodes => ALL_NODES,
            Destination::Host { address, .. } => address,
        };
        // A bridge that is down has nobody to tell; the next one is due in minutes at most.
        if let Err(err) = self.socket.send(to, &advertisement.message) {
            log::debug!("{err}");
        }
    }
}
