//! The thread that carries a network's packets.
//!
//! One thread owns everything a packet touches: ports, switch, gateway, uplink. It sleeps until a
//! socket, a command or a deadline wakes it, serves what is ready, and hands every frame that
//! became ready to its port before it sleeps again. Nothing is polled while nothing happens.

mod links;
mod listener;
mod pcap;
mod port;
mod ports;
mod token;

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use net_backend::{BackendError, NetworkBackend};
use net_datapath::packet::ZeroCopyPacket;
use net_gateway::{Gateway, Output, Target, Verdict as GatewayVerdict};
use net_switch::{Switch, Verdict};
use net_usernet::{Forward, UserNet};
use slab::Slab;

use self::links::Links;
pub(crate) use self::listener::Listener;
use self::listener::ListenerId;
use self::pcap::Capture;
pub use self::port::PortStatistics;
use self::ports::{GATEWAY, PortId, Ports};
use self::token::Owner;
use crate::config::{NetworkConfig, PublishedPort};
use crate::dns_io::DnsIo;
use crate::error::ManagerError;
use crate::resolv::Resolvers;

/// Frames read from one port before the others have their turn.
const READ_BUDGET: usize = 256;
/// Connections one listener may have at a time.
const CONNECTIONS_PER_LISTENER: usize = 64;

/// What can be attached: both are bound or opened by the caller, so that errors are the caller's.
pub(crate) enum Attach {
    /// One device.
    Backend(Box<dyn NetworkBackend>),
    /// A socket on which devices arrive.
    Listener(Listener),
}

/// What is known about a guest before it says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// A name, under which it is found by DNS; `guest1`, `guest2`, ... where absent.
    pub name: Option<String>,
    /// Its hardware address: with it, the guest has its address from the start, DHCP or not.
    pub mac: Option<[u8; 6]>,
    /// Its address, one that [`crate::NetworkManager::allocate_ip`] gave; the lowest free one where
    /// absent.
    pub address: Option<Ipv4Addr>,
}

/// Names an attachment of a running network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub(crate) usize);

/// A place where a guest is, or will be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttachmentInfo {
    /// Its number.
    pub id: AttachmentId,
    /// Its name, under which the guest is found by DNS.
    pub name: String,
    /// The address kept for its guest.
    pub address: Ipv4Addr,
    /// Whether a guest is connected.
    pub connected: bool,
}

/// What the worker can be asked.
pub(crate) enum Command {
    Attach {
        what: Attach,
        options: AttachOptions,
        reply: Reply<AttachmentInfo>,
    },
    Detach {
        id: AttachmentId,
        reply: Reply<()>,
    },
    AllocateIp {
        reply: Reply<Ipv4Addr>,
    },
    ReleaseIp {
        ip: Ipv4Addr,
    },
    Publish {
        port: PublishedPort,
        reply: Reply<PublishedAs>,
    },
    Unpublish {
        id: net_usernet::ForwardId,
    },
    Status {
        reply: Reply<Status>,
    },
    Stop,
}

/// Where the answer to a command goes.
pub(crate) type Reply<T> = mpsc::SyncSender<Result<T, ManagerError>>;

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedAs {
    /// Names it for unpublishing.
    pub id: net_usernet::ForwardId,
    /// Where the host listens: with the port that the host chose, where 0 was asked for.
    pub address: std::net::SocketAddr,
    /// The guest's end.
    pub guest: std::net::SocketAddr,
}

/// A network at one moment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Status {
    /// Every attachment.
    pub attachments: Vec<AttachmentInfo>,
    /// Every connected port by name, with its counters.
    pub ports: Vec<(String, PortStatistics)>,
}

/// An attachment as the worker knows it.
struct Attachment {
    name: String,
    address: Ipv4Addr,
    mac: Option<[u8; 6]>,
    listener: Option<ListenerId>,
    /// The port that has the attachment's address.
    port: Option<PortId>,
}

/// A listener and whose it is.
struct Listening {
    listener: Listener,
    attachment: usize,
    connections: usize,
}

/// Everything a packet touches.
struct Core {
    ports: Ports,
    switch: Switch,
    gateway: Gateway,
    /// Whether the gateway is on the network. Where it is not, no frame reaches it.
    has_gateway: bool,
    uplink: UserNet,
    outputs: Vec<Output>,
}

/// The worker of one network.
pub(crate) struct Worker {
    core: Core,
    dns: DnsIo,
    resolvers: Option<Resolvers>,
    /// Questions up to the last look at the resolvers.
    dns_queries: u64,
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    attachments: Slab<Attachment>,
    listeners: Slab<Listening>,
    /// Ports that had more to read than their turn allowed.
    pending: Vec<PortId>,
    epoch: Instant,
}

impl Worker {
    /// Sets everything up; returns the worker and the way to wake it.
    pub(crate) fn new(
        config: &NetworkConfig,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(Self, Waker), ManagerError> {
        let host = ManagerError::host;
        let poll = Poll::new().map_err(host("make an event queue"))?;
        let waker =
            Waker::new(poll.registry(), token::WAKER).map_err(host("make an event queue"))?;
        let registry = |what| poll.registry().try_clone().map_err(host(what));

        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|err| host("read random bytes")(std::io::Error::other(err)))?;
        let (dns_seed, relay_seed) = split_seed(&seed);

        let mut resolvers = None;
        let mut gateway_config = net_gateway::Config::new(config.subnet)?;
        gateway_config.mtu = config.mtu;
        gateway_config.domain = config.domain.clone();
        if let Some(mac) = config.mac {
            gateway_config.mac = net_wire::MacAddr(mac);
        }
        if config.dns.is_empty() {
            let host = Resolvers::host();
            gateway_config.upstreams = host.servers().to_vec();
            resolvers = Some(host);
        } else {
            gateway_config.upstreams = config.dns.clone();
        }
        let gateway = Gateway::new(gateway_config, dns_seed)?;

        let subnet = net_usernet::Subnet {
            addr: config.subnet.network(),
            prefix: config.subnet.prefix(),
        };
        let mut relay_config = net_usernet::Config::new(gateway.config().ip, subnet, relay_seed);
        relay_config.host_loopback = config.host_loopback;
        let mut uplink = UserNet::new(
            relay_config,
            registry("make an event queue")?,
            token::USERNET_BASE,
        )
        .map_err(host("start the user-mode uplink"))?;
        uplink.add_tcp_service((gateway.config().ip, 53).into());

        let capture = match &config.pcap {
            Some(path) => Some(
                Capture::create(path).map_err(|source| ManagerError::Capture {
                    path: path.clone(),
                    source,
                })?,
            ),
            None => None,
        };
        let mut switch = Switch::new(net_switch::Config::new(relay_seed));
        if config.gateway {
            switch.add_port(GATEWAY, net_switch::PortConfig::default());
            switch.add_static(gateway.config().mac, GATEWAY);
        }

        let core = Core {
            ports: Ports::new(config.mtu, capture)
                .map_err(|err| ManagerError::Pool(err.to_string()))?,
            switch,
            gateway,
            has_gateway: config.gateway,
            uplink,
            outputs: Vec::new(),
        };
        let dns = DnsIo::new(registry("make an event queue")?, token::DNS_BASE);
        let worker = Self {
            core,
            dns,
            resolvers,
            dns_queries: 0,
            poll,
            commands,
            attachments: Slab::new(),
            listeners: Slab::new(),
            pending: Vec::new(),
            epoch: Instant::now(),
        };
        Ok((worker, waker))
    }

    /// Serves until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let now = self.epoch.elapsed();
            let timeout = self.timeout(now);
            if timeout != Some(Duration::ZERO) {
                self.core.ports.before_sleep();
            }
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(err) => {
                    log::error!("the network stops: waiting for events failed: {err}");
                    return;
                }
            }
            let now = self.epoch.elapsed();
            let mut stop = false;
            for event in &events {
                match token::owner(event.token()) {
                    Owner::Waker => stop |= self.commands(now),
                    Owner::Port(id) => {
                        if event.is_writable() {
                            self.core.ports.mark_dirty(id);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.want_read(id);
                        }
                    }
                    Owner::Listener(id) => self.accept(id, now),
                    Owner::Dns => {
                        let work = (&mut self.core.gateway, &mut self.core.outputs);
                        self.dns.ready(event, now, work);
                    }
                    Owner::Usernet => {
                        self.core
                            .with_uplink(now, |uplink, links| uplink.ready(event, now, links));
                    }
                }
            }
            if stop {
                return;
            }
            self.read_ports(now);
            self.follow_resolvers(now);
            self.deadlines(now);
            self.settle(now);
        }
    }

    /// How long to sleep.
    fn timeout(&self, now: Duration) -> Option<Duration> {
        if !self.pending.is_empty() || self.core.ports.has_dirty() {
            return Some(Duration::ZERO);
        }
        let backends = self.core.ports.iter().filter_map(|(_, port)| {
            port.backend
                .as_ref()
                .and_then(|backend| backend.next_deadline())
        });
        let engines = [
            self.core.uplink.next_deadline(),
            self.core.gateway.next_deadline(),
            self.dns.next_deadline(),
        ];
        let next = backends.chain(engines.into_iter().flatten()).min()?;
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

    /// Gives every port with something to read its turn.
    fn read_ports(&mut self, now: Duration) {
        for id in std::mem::take(&mut self.pending) {
            let Some(port) = self.core.ports.get_mut(id) else {
                continue;
            };
            port.pending = false;
            let Some(mut backend) = port.backend.take() else {
                continue;
            };
            let core = &mut self.core;
            let result = backend.receive(READ_BUDGET, &mut |frames| core.ingress(id, frames, now));
            if let Some(port) = self.core.ports.get_mut(id) {
                port.backend = Some(backend);
            }
            match result {
                Ok(0) => {}
                // Readiness comes as an edge: ask again until there is nothing.
                Ok(_) => self.want_read(id),
                Err(err) => self.port_failed(id, &err, now),
            }
        }
    }

    fn deadlines(&mut self, now: Duration) {
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

    /// A port's back end failed: a connection ends, a device that takes a new peer stays.
    fn port_failed(&mut self, id: PortId, err: &BackendError, now: Duration) {
        let Some(port) = self.core.ports.get_mut(id) else {
            return;
        };
        let ends =
            port.listener.is_some() || !port.backend.as_ref().is_some_and(|b| b.reattaches());
        let then = if ends { "" } else { "; waiting for a new peer" };
        // What the host refuses the user can mend; that a guest goes is its own affair. A guest can
        // provoke either as often as it likes, so each port says it once.
        match err {
            BackendError::Host { .. } if !std::mem::replace(&mut port.warned, true) => {
                log::warn!("{}: {err}{then}", port.name);
            }
            _ => log::info!("{}: {err}{then}", port.name),
        }
        if ends {
            self.close_port(id, now);
        } else {
            port.clear();
            self.core.guest_gone(id, now);
            self.want_read(id);
        }
    }

    fn close_port(&mut self, id: PortId, now: Duration) {
        self.core.guest_gone(id, now);
        self.core.switch.remove_port(id);
        let Some(port) = self.core.ports.remove(id, self.poll.registry()) else {
            return;
        };
        if let Some(listening) = port
            .listener
            .and_then(|listener| self.listeners.get_mut(listener))
        {
            listening.connections -= 1;
        }
        for (_, attachment) in &mut self.attachments {
            if attachment.port == Some(id) {
                attachment.port = None;
            }
        }
    }

    /// Takes the connections that wait at a listener.
    fn accept(&mut self, id: ListenerId, now: Duration) {
        loop {
            let Some(listening) = self.listeners.get_mut(id) else {
                return;
            };
            let backend = match listening.listener.accept() {
                Ok(Some(backend)) => backend,
                Ok(None) => return,
                Err(err) => {
                    log::warn!("accept: {err}");
                    return;
                }
            };
            if listening.connections >= CONNECTIONS_PER_LISTENER {
                log::warn!(
                    "a socket has {CONNECTIONS_PER_LISTENER} connections; one more is refused"
                );
                continue;
            }
            let attachment = listening.attachment;
            if let Err(err) = self.add_port(backend, attachment, Some(id), now) {
                log::warn!("accept: {err}");
            }
        }
    }

    /// Makes a port of a back end that belongs to an attachment.
    fn add_port(
        &mut self,
        backend: Box<dyn NetworkBackend>,
        attachment: usize,
        listener: Option<ListenerId>,
        now: Duration,
    ) -> Result<PortId, BackendError> {
        let Some(owner) = self.attachments.get_mut(attachment) else {
            return Err(BackendError::Disconnected);
        };
        let id =
            self.core
                .ports
                .add(backend, owner.name.clone(), listener, self.poll.registry())?;
        self.core
            .switch
            .add_port(id, net_switch::PortConfig::default());
        if owner.port.is_none() {
            owner.port = Some(id);
            let mac = owner.mac.map(net_wire::MacAddr);
            self.core
                .gateway
                .port_opened(id, owner.address, &owner.name, mac, now);
        }
        if let Some(listening) = listener.and_then(|listener| self.listeners.get_mut(listener)) {
            listening.connections += 1;
        }
        self.want_read(id);
        Ok(id)
    }

    /// Carries out every command that waits; true when the last one was to stop.
    fn commands(&mut self, now: Duration) -> bool {
        loop {
            // A reply that nobody waits for any more is not an error.
            match self.commands.try_recv() {
                Ok(Command::Attach {
                    what,
                    options,
                    reply,
                }) => {
                    let _ = reply.send(self.attach(what, options, now));
                }
                Ok(Command::Detach { id, reply }) => {
                    self.detach(id, now);
                    let _ = reply.send(Ok(()));
                }
                Ok(Command::AllocateIp { reply }) => {
                    let subnet = self.core.gateway.config().subnet;
                    let ip = self.core.gateway.allocate_ip();
                    let _ = reply.send(ip.ok_or(ManagerError::PoolEmpty(subnet)));
                }
                Ok(Command::ReleaseIp { ip }) => self.core.gateway.release_ip(ip),
                Ok(Command::Publish { port, reply }) => {
                    let _ = reply.send(self.publish(&port));
                }
                Ok(Command::Unpublish { id }) => {
                    self.core.uplink.unpublish(id);
                }
                Ok(Command::Status { reply }) => {
                    let _ = reply.send(Ok(self.status()));
                }
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return true,
                Err(mpsc::TryRecvError::Empty) => return false,
            }
        }
    }

    fn attach(
        &mut self,
        what: Attach,
        options: AttachOptions,
        now: Duration,
    ) -> Result<AttachmentInfo, ManagerError> {
        let AttachOptions { name, mac, address } = options;
        let subnet = self.core.gateway.config().subnet;
        let address = address
            .or_else(|| self.core.gateway.allocate_ip())
            .ok_or(ManagerError::PoolEmpty(subnet))?;
        let key = self.attachments.vacant_key();
        let name = name.unwrap_or_else(|| format!("guest{}", key + 1));
        self.attachments.insert(Attachment {
            name: name.clone(),
            address,
            mac,
            listener: None,
            port: None,
        });
        let result = match what {
            Attach::Backend(backend) => self.add_port(backend, key, None, now).map(|_| ()),
            Attach::Listener(listener) => self.listen(listener, key),
        };
        if let Err(err) = result {
            self.attachments.remove(key);
            self.core.gateway.release_ip(address);
            return Err(err.into());
        }
        let connected = self.attachments[key].port.is_some();
        Ok(AttachmentInfo {
            id: AttachmentId(key),
            name,
            address,
            connected,
        })
    }

    fn listen(&mut self, listener: Listener, attachment: usize) -> Result<(), BackendError> {
        let entry = self.listeners.vacant_entry();
        let id = entry.key();
        self.poll
            .registry()
            .register(
                &mut SourceFd(&listener.source().as_raw_fd()),
                token::listener(id),
                Interest::READABLE,
            )
            .map_err(|err| BackendError::host("watch a listening socket", &err))?;
        entry.insert(Listening {
            listener,
            attachment,
            connections: 0,
        });
        if let Some(owner) = self.attachments.get_mut(attachment) {
            owner.listener = Some(id);
        }
        Ok(())
    }

    fn detach(&mut self, id: AttachmentId, now: Duration) {
        let Some(attachment) = self.attachments.try_remove(id.0) else {
            return;
        };
        let listener = attachment.listener;
        let ports: Vec<PortId> = self
            .core
            .ports
            .iter()
            .filter(|(port, it)| {
                attachment.port == Some(*port) || (listener.is_some() && it.listener == listener)
            })
            .map(|(port, _)| port)
            .collect();
        for port in ports {
            self.close_port(port, now);
        }
        if let Some(listening) = listener.and_then(|listener| self.listeners.try_remove(listener)) {
            let _ = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&listening.listener.source().as_raw_fd()));
        }
        self.core.gateway.release_ip(attachment.address);
    }

    fn publish(&mut self, port: &PublishedPort) -> Result<PublishedAs, ManagerError> {
        if !self.core.has_gateway {
            return Err(ManagerError::NoGateway(port.bind.port()));
        }
        let first = self
            .attachments
            .iter()
            .next()
            .map(|(_, attachment)| attachment.address);
        let guest = port
            .guest
            .or(first)
            .ok_or(ManagerError::NoGuest(port.bind.port()))?;
        let guest = (guest, port.guest_port).into();
        let id = self.core.uplink.publish(Forward {
            protocol: port.protocol,
            bind: port.bind,
            guest,
        })?;
        let address = self.core.uplink.forward_addr(id).unwrap_or(port.bind);
        Ok(PublishedAs { id, address, guest })
    }

    fn status(&self) -> Status {
        Status {
            attachments: self
                .attachments
                .iter()
                .map(|(key, attachment)| AttachmentInfo {
                    id: AttachmentId(key),
                    name: attachment.name.clone(),
                    address: attachment.address,
                    connected: attachment.port.is_some(),
                })
                .collect(),
            ports: self
                .core
                .ports
                .iter()
                .map(|(_, port)| (port.name.clone(), port.statistics))
                .collect(),
        }
    }
}

impl Core {
    /// Lets the uplink work with a way back to the guests.
    fn with_uplink(&mut self, now: Duration, work: impl FnOnce(&mut UserNet, &mut Links<'_>)) {
        let mut links = Links {
            ports: &mut self.ports,
            gateway: &mut self.gateway,
            outputs: &mut self.outputs,
            now,
        };
        work(&mut self.uplink, &mut links);
    }

    /// Takes frames that a guest sent. Neighbouring frames for one port go there in one call.
    fn ingress(&mut self, from: PortId, frames: &mut [ZeroCopyPacket<'_>], now: Duration) {
        if let Some(port) = self.ports.get_mut(from) {
            port.statistics.sent_frames += frames.len() as u64;
            port.statistics.sent_bytes +=
                frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        }
        let mut run: Option<(PortId, usize)> = None;
        for n in 0..frames.len() {
            let frame = &frames[n];
            self.ports.capture(&frame.frame_segments());
            let verdict = self
                .switch
                .forward(from, frame.dst_mac(), frame.src_mac(), now);
            let to = match verdict {
                Verdict::To(port) if port != GATEWAY => Some(port),
                _ => None,
            };
            if let Some((port, start)) = run
                && to != Some(port)
            {
                self.ports.forward(port, &frames[start..n]);
                run = None;
            }
            match (verdict, to) {
                (_, Some(port)) => run = run.or(Some((port, n))),
                (Verdict::To(_), None) => self.hand_to_gateway(from, &frames[n], now),
                (Verdict::Flood, None) => {
                    let targets: Vec<PortId> = self.switch.flood_targets(from).collect();
                    for port in targets {
                        if port == GATEWAY {
                            self.hand_to_gateway(from, &frames[n], now);
                        } else {
                            self.ports.copy(port, &frames[n]);
                        }
                    }
                }
                // Counted by the switch.
                _ => {}
            }
        }
        if let Some((port, start)) = run {
            self.ports.forward(port, &frames[start..]);
        }
    }

    fn hand_to_gateway(&mut self, from: PortId, frame: &ZeroCopyPacket<'_>, now: Duration) {
        let verdict = self.gateway.ingress(from, frame, now, &mut self.outputs);
        if verdict == GatewayVerdict::Uplink {
            self.with_uplink(now, |uplink, links| uplink.ingress(from, frame, now, links));
        }
    }

    /// Sends a frame that the gateway built.
    fn send_built(&mut self, to: Target, frame: &[u8]) {
        // It knows of guests without hearing from them, and would ask for their addresses.
        if !self.has_gateway {
            return;
        }
        let targets: Vec<PortId> = match to {
            Target::Port(port) => vec![port],
            Target::Flood => self.switch.flood_targets(GATEWAY).collect(),
        };
        for port in targets {
            let Some(mut buffer) = self.ports.buffer(frame.len()) else {
                return;
            };
            if buffer.extend_from_slice(frame).is_some() {
                self.ports.send(port, Default::default(), buffer);
            }
        }
    }

    /// Forgets the guest behind a port: its flows end, its addresses are free to move.
    fn guest_gone(&mut self, port: PortId, now: Duration) {
        self.uplink.guest_gone(port);
        self.gateway.port_closed(port, now, &mut self.outputs);
        self.switch.forget_port(port);
    }
}

/// Cuts the random seed into what each engine gets.
fn split_seed(seed: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut dns, mut relay) = ([0; 16], [0; 16]);
    dns.copy_from_slice(&seed[..16]);
    relay.copy_from_slice(&seed[16..]);
    (dns, relay)
}
