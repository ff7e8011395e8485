//! The thread that carries a network's packets.
//!
//! One thread owns everything a packet touches: ports, switch, gateway, uplink. It sleeps until a
//! socket, a command or a deadline wakes it, serves what is ready, and hands every frame that
//! became ready to its port before it sleeps again. Nothing is polled while nothing happens; guests whose
//! memory is at hand are, for a moment after they sent something or for ever ([`spin`]).

mod attach;
mod command;
mod data_path;
mod fast;
#[cfg(target_os = "linux")]
mod host_router;
mod links;
mod listener;
mod moves;
mod pcap;
mod port;
mod port_options;
mod ports;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod rings_tests;
#[cfg(test)]
mod runs_tests;
mod spin;
#[cfg(test)]
mod spin_tests;
#[cfg(test)]
mod switching_tests;
mod token;
mod turn;
mod uplink;

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use net_gateway::{Gateway, Output};
use net_switch::Switch;
use slab::Slab;

use self::attach::{Attachment, Listening};
pub(crate) use self::command::{Attach, Command, Reply};
pub use self::command::{
    AttachOptions, AttachmentId, AttachmentInfo, ForwardId, PublishedAs, Status,
};
use self::data_path::Core;
pub(crate) use self::fast::open as open_uplink;
pub use self::fast::{UplinkDrops, UplinkStatus};
pub(crate) use self::listener::Listener;
use self::pcap::Capture;
pub use self::port::PortStatistics;
pub use self::port_options::PortOptions;
use self::ports::{GATEWAY, PortId, Ports};
use self::spin::Spin;
use self::uplink::Uplink;
use crate::addresses::Addresses;
use crate::config::{NetworkConfig, NetworkMode};
use crate::dns_io::DnsIo;
use crate::error::ManagerError;
use crate::ipv6::Router6;
use crate::resolv::Resolvers;

/// Frames read from one port before the others have their turn.
const READ_BUDGET: usize = 256;
/// Hardware addresses learned from a port with a bridge behind it.
const TRUNK_ADDRESSES: usize = 4096;

/// The worker of one network.
pub(crate) struct Worker {
    core: Core,
    dns: DnsIo,
    resolvers: Option<Resolvers>,
    /// Questions up to the last look at the resolvers.
    dns_queries: u64,
    /// Whether guests are told of a way out for IPv6.
    router6: Router6,
    /// What tells them, where that is the host.
    #[cfg(target_os = "linux")]
    host_router: Option<host_router::HostRouter>,
    /// Why the network has no IPv6, or none that leaves it.
    no_ipv6: Option<String>,
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    attachments: Slab<Attachment>,
    addresses: Addresses,
    listeners: Slab<Listening>,
    /// Ports that had more to read than their turn allowed; and room for the next turn's.
    pending: Vec<PortId>,
    spare: Vec<PortId>,
    spin: Spin,
    /// Whoever asks makes way for guests.
    has_one_processor: bool,
    /// When readers of the capture last saw it.
    flushed: Duration,
    epoch: Instant,
}

impl Worker {
    /// Sets everything up; returns the worker and the way to wake it.
    pub(crate) fn new(
        config: &NetworkConfig,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(Self, Waker), ManagerError> {
        let opened = config
            .uplink
            .as_ref()
            .and_then(|uplink| uplink.opened.clone());
        Self::with_device(config, commands, fast::opener(opened))
    }

    /// As [`Self::new`], for a network in the kernel: `service` is the port of its bridge that this
    /// worker has.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_kernel(
        config: &NetworkConfig,
        commands: mpsc::Receiver<Command>,
        service: Box<dyn net_backend::NetworkBackend>,
    ) -> Result<(Self, Waker), ManagerError> {
        if config.snooping || config.storm != net_switch::StormLimits::default() {
            return Err(ManagerError::CannotHave {
                what: "storm control or snooping".to_owned(),
                why: "the kernel's bridge carries the frames; take the engine user or fast"
                    .to_owned(),
            });
        }
        let (mut worker, waker) = Self::new(config, commands)?;
        worker.attach_trunk(config, service)?;
        Ok((worker, waker))
    }

    /// As [`Self::new`], with another way to open the interface of the uplink.
    fn with_device(
        config: &NetworkConfig,
        commands: mpsc::Receiver<Command>,
        open: fast::Open,
    ) -> Result<(Self, Waker), ManagerError> {
        let host = ManagerError::host;
        let poll = Poll::new().map_err(host("make an event queue"))?;
        let waker =
            Waker::new(poll.registry(), token::WAKER).map_err(host("make an event queue"))?;
        let registry = |what| poll.registry().try_clone().map_err(host(what));

        let mut seed = [0; 48];
        getrandom::fill(&mut seed).map_err(no_random)?;
        let [dns_seed, relay_seed, translator_seed] = split_seed(&seed);

        let mut resolvers = None;
        let mut gateway_config = net_gateway::Config::new(config.subnet)?;
        gateway_config.mtu = config.mtu;
        gateway_config.domain = config.domain.clone();
        if let Some(mac) = config.mac {
            gateway_config.mac = net_wire::MacAddr(mac);
        }
        if config.is_in_kernel() {
            // The bridge has the first address, and routes.
            let router = gateway_config.ip;
            gateway_config.ip = Ipv4Addr::from_bits(router.to_bits().saturating_add(1));
            gateway_config.router = Some(router);
            gateway_config.routed = config.mode == NetworkMode::Nat;
        }
        if config.mode == NetworkMode::HostOnly {
            // Nothing leaves: no question either.
        } else if config.dns.is_empty() {
            let host = Resolvers::host();
            gateway_config.upstreams = host.servers().to_vec();
            resolvers = Some(host);
        } else {
            gateway_config.upstreams = config.dns.clone();
        }
        if let Some(prefix) = config.prefix6() {
            gateway_config.ipv6 = Some(ipv6_of(config, prefix)?);
        }
        let mut gateway = Gateway::new(gateway_config, dns_seed)?;
        let addresses = Addresses::new(config.reservations.clone(), &mut gateway)?;
        // In bridge mode all that is the outside network's.
        let has_gateway = config.gateway && config.mode != NetworkMode::Bridge;

        let uplink = Uplink::new(
            config,
            &gateway,
            [relay_seed, translator_seed],
            registry("make an event queue")?,
            open,
        )?;

        let capture = Capture::of(config)?;
        let mut switch_config = net_switch::Config::new(relay_seed);
        switch_config.storm = config.storm;
        switch_config.snooping = config.snooping.then(Default::default);
        if config.is_in_kernel() {
            switch_config.addresses_per_port = TRUNK_ADDRESSES;
        }
        let mut switch = Switch::new(switch_config);
        if has_gateway {
            switch.add_port(GATEWAY, net_switch::PortConfig::default());
            switch.add_static(gateway.config().mac, GATEWAY);
        }

        let core = Core {
            ports: Ports::new(config.mtu, capture)
                .map_err(|err| ManagerError::Pool(err.to_string()))?,
            switch,
            gateway,
            has_gateway,
            trunk: None,
            isolated: config.isolated,
            mirror: None,
            scratch: Vec::new(),
            uplink,
            outputs: Vec::new(),
        };
        let processors = config.processors.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let dns = DnsIo::new(registry("make an event queue")?, token::DNS_BASE);
        let mut worker = Self {
            core,
            dns,
            resolvers,
            dns_queries: 0,
            router6: Router6::of(config),
            #[cfg(target_os = "linux")]
            host_router: None,
            no_ipv6: config.no_ipv6().or(config.ipv6_stays()).map(str::to_owned),
            poll,
            commands,
            attachments: Slab::new(),
            addresses,
            listeners: Slab::new(),
            pending: Vec::new(),
            spare: Vec::new(),
            spin: Spin::new(config.polling, processors),
            has_one_processor: processors < 2,
            flushed: Duration::ZERO,
            epoch: Instant::now(),
        };
        worker.attach_uplink(Duration::ZERO)?;
        worker.follow_routes(Duration::ZERO);
        Ok((worker, waker))
    }

    /// How long to sleep.
    fn timeout(&mut self, now: Duration) -> Option<Duration> {
        if !self.pending.is_empty() || self.core.ports.has_dirty() {
            return Some(Duration::ZERO);
        }
        let backends = self.core.ports.iter().filter_map(|(_, port)| {
            port.backend
                .as_ref()
                .and_then(|backend| backend.next_deadline())
        });
        let ports = self.core.ports.iter();
        let gone = ports.filter_map(|(_, port)| port.gone_at);
        let engines = [
            self.core.uplink.next_deadline(),
            self.core.gateway.next_deadline(),
            self.dns.next_deadline(),
            self.core
                .uplink
                .packets()
                .and_then(|packets| packets.reopen_at()),
            self.router_deadline(),
        ];
        let engines = engines.into_iter().flatten();
        let next = backends.chain(gone).chain(engines).min()?;
        Some(next.saturating_sub(now))
    }

    fn want_read(&mut self, id: PortId) {
        if let Some(port) = self.core.ports.get_mut(id)
            && !port.pending
        {
            port.pending = true;
            self.pending.push(id);
        }
    }

    /// Gives every port with something to read its turn; whether anything has come of it.
    fn read_ports(&mut self, now: Duration) -> bool {
        let mut found = false;
        let spare = std::mem::take(&mut self.spare);
        let mut turn = std::mem::replace(&mut self.pending, spare);
        for id in turn.drain(..) {
            let Some(port) = self.core.ports.get_mut(id) else {
                continue;
            };
            port.pending = false;
            let Some(mut backend) = port.backend.take() else {
                continue;
            };
            port.arrival.note(backend.presence());
            if port.gone_at.is_some() && port.arrival.is_another() {
                self.forget_guest(id, now);
            }
            let core = &mut self.core;
            let result = backend.receive(READ_BUDGET, &mut |frames| core.ingress(id, frames, now));
            let mut came_from = None;
            let mut shares_memory = false;
            if let Some(port) = self.core.ports.get_mut(id) {
                port.backend = Some(backend);
                came_from = port.arrival.conclude();
                shares_memory = port.shares_memory;
            }
            found |= !matches!(result, Ok(0));
            match result {
                Ok(0) => {}
                // Readiness comes as an edge: ask again until there is nothing.
                Ok(_) => {
                    self.want_read(id);
                    if shares_memory {
                        self.spin.found(now);
                    }
                }
                Err(err) => self.port_failed(id, &err, now),
            }
            if let Some(from) = came_from {
                self.move_guest(from, id);
            }
        }
        self.spare = turn;
        found
    }

    fn deadlines(&mut self, now: Duration) {
        self.forget_guests(now);
        if let Err(err) = self.attach_uplink(now) {
            log::warn!("{err}");
        }
        if self.core.uplink.next_deadline().is_some_and(|at| at <= now) {
            self.core
                .with_uplink(now, |uplink, links| uplink.on_deadline(now, links));
        }
        if self
            .core
            .gateway
            .next_deadline()
            .is_some_and(|at| at <= now)
        {
            self.core.gateway.on_deadline(now, &mut self.core.outputs);
        }
        #[cfg(target_os = "linux")]
        if let Some(router) = &mut self.host_router {
            router.on_deadline(now);
        }
        if self.dns.next_deadline().is_some_and(|at| at <= now) {
            self.dns
                .on_deadline(now, (&mut self.core.gateway, &mut self.core.outputs));
        }
        let due: Vec<PortId> = self
            .core
            .ports
            .iter()
            .filter(|(_, port)| {
                let deadline = port
                    .backend
                    .as_ref()
                    .and_then(|backend| backend.next_deadline());
                deadline.is_some_and(|at| at <= now)
            })
            .map(|(id, _)| id)
            .collect();
        for id in due {
            if let Some(backend) = self
                .core
                .ports
                .get_mut(id)
                .and_then(|port| port.backend.as_mut())
            {
                backend.on_deadline(now);
            }
            self.core.ports.mark_dirty(id);
        }
    }

    /// Carries out what the engines asked for and hands frames to ports until all is quiet.
    fn settle(&mut self, now: Duration) {
        let mut ready = Vec::new();
        loop {
            while let Some(connection) = self.core.uplink.take_service_connection() {
                self.dns.accept(connection, now);
            }
            for output in std::mem::take(&mut self.core.outputs) {
                let work = (&mut self.core.gateway, &mut self.core.outputs);
                match output {
                    Output::Frame { to, frame } => self.core.send_built(to, &frame),
                    Output::Dns(action) => self.dns.execute(action, now, work),
                    Output::DnsTcp {
                        connection,
                        message,
                    } => {
                        self.dns.reply(connection, &message, now, work);
                    }
                }
            }
            self.core.with_uplink(now, |uplink, links| {
                if let Some(packets) = uplink.packets() {
                    packets.resume_inward(links);
                }
            });
            self.core.ports.flush(&mut ready);
            for id in ready.drain(..) {
                self.core
                    .with_uplink(now, |uplink, links| uplink.guest_writable(id, now, links));
            }
            for (id, err) in self.core.ports.take_failed() {
                self.port_failed(id, &err, now);
            }
            if self.core.outputs.is_empty() && !self.core.ports.has_dirty() {
                return;
            }
        }
    }

    /// Asks these resolvers from now on, and follows the host's no more.
    fn set_resolvers(&mut self, servers: Vec<SocketAddr>) {
        self.resolvers = None;
        self.core.gateway.set_upstreams(servers);
    }

    /// Follows the host's routes, or the uplink's: guests are told of a way out for IPv6 while there is
    /// one.
    fn follow_routes(&mut self, now: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(router) = &mut self.host_router {
            if let Some(routed) = self.router6.look(router.routes, now) {
                router.set_routed(routed, now);
            }
            return;
        }
        let leaves = self.core.uplink.routes6();
        if self.core.gateway.advertises()
            && let Some(routed) = self.router6.look(leaves, now)
        {
            self.core.gateway.set_ipv6_router(routed, now);
        }
    }

    /// When the host has something to advertise, or its routes are to be looked at: no packet of a
    /// guest wakes this worker for that.
    fn router_deadline(&self) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        if let Some(router) = &self.host_router {
            let look = self.router6.next_look().filter(|_| router.routes);
            return router.next_deadline().into_iter().chain(look).min();
        }
        None
    }

    /// Follows the host's resolvers while guests ask questions.
    fn follow_resolvers(&mut self, now: Duration) {
        let queries = self.core.gateway.statistics().dns_queries;
        if std::mem::replace(&mut self.dns_queries, queries) == queries {
            return;
        }
        if let Some(resolvers) = &mut self.resolvers
            && resolvers.refresh(now)
        {
            self.core
                .gateway
                .set_upstreams(resolvers.servers().to_vec());
        }
    }
}

/// The gateway's part of IPv6 in `prefix`: it is the router itself, or next to the host that is.
fn ipv6_of(
    config: &NetworkConfig,
    prefix: ipnetwork::Ipv6Network,
) -> Result<net_gateway::Ipv6Config, ManagerError> {
    let mut six = net_gateway::Ipv6Config::new(prefix)?;
    #[cfg(target_os = "linux")]
    if config.is_in_kernel()
        && let Some(mac) = crate::kernel::router_mac(config)
    {
        six.behind_trunk = Some(net_gateway::Router6 { ip: six.ip, mac });
        six.ip = std::net::Ipv6Addr::from_bits(six.ip.to_bits().saturating_add(1));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (config, &mut six);
    Ok(six)
}

fn no_random(err: getrandom::Error) -> ManagerError {
    ManagerError::host("read random bytes")(std::io::Error::other(err))
}

/// Cuts the random seed into what each engine gets.
fn split_seed(seed: &[u8; 48]) -> [[u8; 16]; 3] {
    let mut parts = [[0; 16]; 3];
    for (part, bytes) in parts.iter_mut().zip(seed.chunks_exact(16)) {
        part.copy_from_slice(bytes);
    }
    parts
}
