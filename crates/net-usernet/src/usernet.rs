//! The whole uplink: every packet to its relay, every event to its socket's owner.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use mio::Registry;
use net_datapath::{FragmentState, L3, VirtioNetHdr, ZeroCopyPacket};
use net_wire::ip_proto;

use crate::address::{self, Route};
use crate::compose::{DEFAULT_TTL, IcmpError};
use crate::errors::ErrorSender;
use crate::forward::{bind_published, is_guest_address};
use crate::icmp::PingRelay;
use crate::listen::Listeners;
use crate::reassembly::Reassembler;
use crate::tcp::host::{Destination, MioTcpHost, ServiceConnection};
use crate::tcp::{HostSocket, RelayConfig, TcpRelay, Unreachable};
use crate::token::{Source, TokenMap};
use crate::travel::Travel;
use crate::turn::Turn;
use crate::udp::UdpRelay;
use crate::{
    Config, DropStatistics, Egress, Forward, ForwardId, PortId, Protocol, PublishError, Statistics,
};

/// NAT without privileges for all guests of one network.
///
/// One thread owns it and drives it: packets of the guests through [`Self::ingress`], readiness
/// of its sockets through [`Self::ready`], time through [`Self::on_deadline`], and room in a guest's
/// queue through [`Self::guest_writable`]. `now` is the time since any fixed moment and never
/// goes backwards.
#[derive(Debug)]
pub struct UserNet {
    config: Config,
    registry: Registry,
    tokens: TokenMap,
    tcp: TcpRelay<MioTcpHost>,
    sockets: MioTcpHost,
    services: BTreeSet<SocketAddr>,
    udp: UdpRelay,
    ping: PingRelay,
    reassembly: Reassembler,
    errors: ErrorSender,
    listeners: Listeners,
    forwards: BTreeMap<ForwardId, Opened>,
    next_forward: u64,
    /// The last port of the gateway given to a client of a published TCP port.
    client_port: u16,
    dropped: DropStatistics,
}

/// A forward in force.
#[derive(Debug)]
struct Opened {
    protocol: Protocol,
    slot: usize,
    addr: SocketAddr,
}

/// Splits a `UserNet` into the relays and what one call brings along for them.
macro_rules! turn {
    ($this:ident, $now:expr, $out:expr) => {
        Turn {
            config: &$this.config,
            registry: &$this.registry,
            tokens: $this.tokens,
            errors: &mut $this.errors,
            out: $out,
            now: $now,
        }
    };
}

impl UserNet {
    /// An uplink without flows whose sockets report to `registry` under tokens from `token_base`
    /// on. All tokens from there on are its own.
    ///
    /// # Errors
    /// What the host refuses while it is set up.
    pub fn new(config: Config, registry: Registry, token_base: usize) -> io::Result<Self> {
        let tokens = TokenMap::new(token_base);
        let token = move |socket: HostSocket| tokens.token(Source::Tcp(socket.0 as usize));
        let services = BTreeSet::new();
        let route = tcp_route(config.clone(), services.clone());
        let [.., low, high] = config.seed;
        Ok(Self {
            tokens,
            tcp: TcpRelay::new(RelayConfig::from(&config), config.seed),
            sockets: MioTcpHost::new(registry.try_clone()?, token, route),
            services,
            client_port: u16::from_ne_bytes([low, high]),
            udp: UdpRelay::new(&config),
            ping: PingRelay::new(&config),
            reassembly: Reassembler::new(&config),
            errors: ErrorSender::new(config.limits.icmp_errors_per_second),
            listeners: Listeners::default(),
            forwards: BTreeMap::new(),
            next_forward: 0,
            dropped: DropStatistics::default(),
            registry,
            config,
        })
    }

    /// Takes a packet of the guest at `from` that leaves its network, or is for a port of the
    /// gateway that the gateway itself does not serve.
    pub fn ingress(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        if !packet.verify_ip_checksum() {
            self.dropped.malformed += 1;
            return;
        }
        self.dispatch(from, packet, false, now, out);
    }

    fn dispatch(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        reassembled: bool,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        let meta = packet.meta();
        let (Some(src), Some(dst)) = (packet.ip_src(), packet.ip_dst()) else {
            let ip = matches!(meta.ethertype, 0x0800 | 0x86dd);
            *(if ip {
                &mut self.dropped.malformed
            } else {
                &mut self.dropped.not_ip
            }) += 1;
            return;
        };
        let v6 = dst.is_ipv6();
        if v6 && self.config.gateway6.is_none() {
            self.dropped.no_ipv6 += 1;
            return;
        }
        if !address::is_guest_source(&self.config, src) {
            self.dropped.bad_source += 1;
            return;
        }
        let mut turn = turn!(self, now, out);
        let route = address::route(turn.config, dst);
        let refusal = match route {
            Route::Host(_) if address::is_link_local(src) && !turn.config.is_gateway(dst) => {
                self.dropped.bad_source += 1;
                return;
            }
            Route::Host(_) | Route::Gateway => None,
            Route::Multicast => {
                self.dropped.multicast += 1;
                return;
            }
            Route::Forbidden => {
                self.dropped.forbidden_destination += 1;
                Some(IcmpError::prohibited(v6))
            }
            Route::Local => {
                self.dropped.local_destination += 1;
                Some(IcmpError::host_unreachable(v6))
            }
        };
        let ttl = hop_limit(packet);
        // Every hop takes one; the gateway is one, its own services are not behind it.
        let is_behind = matches!(route, Route::Host(ip) if !ip.is_loopback());
        let refusal = match refusal {
            None if is_behind && ttl <= 1 => {
                self.dropped.ttl_expired += 1;
                Some(IcmpError::ttl_exceeded(v6))
            }
            other => other,
        };
        if let Some(error) = refusal {
            return turn.refuse(from, packet, error);
        }
        if meta.fragment != FragmentState::None {
            return self.fragment(from, packet, now, out);
        }
        let travel = Travel {
            ttl: if is_behind { ttl - 1 } else { DEFAULT_TTL },
            // Hosts alone fragment IPv6, so what came whole must stay whole.
            dont_fragment: if v6 {
                !reassembled
            } else {
                dont_fragment(packet)
            },
        };
        match (meta.l4_protocol, route) {
            (ip_proto::TCP, _) => self.tcp.ingress(&mut self.sockets, from, packet, now, out),
            (ip_proto::UDP, _) => self.udp.ingress(&mut turn, from, packet, route, travel),
            (ip_proto::ICMP, Route::Host(to)) if !v6 => {
                self.ping.ingress(&mut turn, from, packet, to, travel);
            }
            (ip_proto::ICMPV6, Route::Host(to)) if v6 => {
                self.ping.ingress(&mut turn, from, packet, to, travel);
            }
            _ => {
                self.dropped.protocol += 1;
                turn.refuse(from, packet, IcmpError::protocol_unreachable(v6));
            }
        }
    }

    fn fragment(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut dyn Egress,
    ) {
        // A first fragment without a whole transport header is an old trick (RFC 1858).
        if packet.meta().malformed || packet.vnet().is_gso() {
            self.dropped.malformed += 1;
            return;
        }
        if let Some(mut frame) = self.reassembly.push(from, packet, now)
            && write_addresses(&mut frame, packet)
            && let Ok(whole) = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN)
            && !out.take_whole(from, &whole)
        {
            self.dispatch(from, &whole, true, now, out);
        }
    }

    /// Takes a readiness event; those of other owners are ignored.
    pub fn ready(&mut self, event: &mio::event::Event, now: Duration, out: &mut dyn Egress) {
        let Some(source) = self.tokens.source(event.token()) else {
            return;
        };
        let mut turn = turn!(self, now, out);
        match source {
            Source::Udp(slot) => self.udp.flow_ready(&mut turn, slot),
            Source::Published(slot) => self.udp.published_ready(&mut turn, slot),
            Source::Ping(slot) => self.ping.ready(&mut turn, slot),
            Source::Tcp(slot) => {
                let Ok(socket) = u32::try_from(slot).map(HostSocket) else {
                    return;
                };
                let ready = self.sockets.readiness(socket, event);
                self.tcp
                    .host_ready(&mut self.sockets, socket, ready, now, out);
            }
            Source::Listener(slot) => self.accept(slot, now, out),
        }
    }

    /// Hands the connections that wait at a published port to their guest.
    fn accept(&mut self, slot: usize, now: Duration, out: &mut dyn Egress) {
        for (stream, client, guest) in self.listeners.accept(slot, now) {
            let Some(client) = self.name_client(client, guest.ip()) else {
                continue;
            };
            match self.sockets.adopt(mio::net::TcpStream::from_std(stream)) {
                Ok(socket) => {
                    self.sockets.came_by(socket, slot);
                    self.tcp
                        .accept(&mut self.sockets, socket, client, guest, now, out);
                }
                Err(error) => log::debug!("a connection from {client} is lost: {error}"),
            }
        }
    }

    /// The address under which a guest sees a TCP client: its own, or the gateway's with a port
    /// that was not used for long. Lower ports are those of the gateway's services.
    fn name_client(&mut self, client: SocketAddr, guest: IpAddr) -> Option<SocketAddr> {
        let ip = client.ip().to_canonical();
        if address::can_appear_as_itself(&self.config, ip, guest) {
            return Some(SocketAddr::new(ip, client.port()));
        }
        self.client_port = self.client_port.wrapping_add(1).max(1024);
        Some(SocketAddr::new(
            self.config.gateway_like(guest)?,
            self.client_port,
        ))
    }

    /// Makes guests' connections to `addr`, a port of the gateway's address, come out of
    /// [`Self::take_service_connection`].
    pub fn add_tcp_service(&mut self, addr: SocketAddr) {
        self.services.insert(addr);
        self.sockets
            .set_route(tcp_route(self.config.clone(), self.services.clone()));
    }

    /// The oldest connection of a guest to a service that has not been taken yet; look after every
    /// call that takes packets.
    pub fn take_service_connection(&mut self) -> Option<ServiceConnection> {
        self.sockets.take_service_connection()
    }

    /// When [`Self::on_deadline`] is due; [`Duration::ZERO`] while there is work at hand, `None`
    /// when there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Duration> {
        let all = [
            self.tcp.next_deadline(),
            self.udp.next_deadline(),
            self.ping.next_deadline(),
            self.reassembly.next_deadline(),
            self.listeners.next_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// Does what is due at `now`, and one round of the work at hand.
    pub fn on_deadline(&mut self, now: Duration, out: &mut dyn Egress) {
        for slot in self.listeners.due(now) {
            self.accept(slot, now, out);
        }
        self.reassembly.on_deadline(now);
        self.tcp.on_deadline(&mut self.sockets, now, out);
        let mut turn = turn!(self, now, out);
        self.udp.on_deadline(&mut turn);
        self.ping.on_deadline(&mut turn);
    }

    /// The guest at `port` takes packets again: after [`crate::SendStatus::Busy`], or after
    /// [`crate::GuestLink::ready`] was `false`.
    pub fn guest_writable(&mut self, port: PortId, now: Duration, out: &mut dyn Egress) {
        self.tcp.guest_writable(port);
        let mut turn = turn!(self, now, out);
        self.udp.guest_writable(&mut turn, port);
        self.ping.guest_writable(&mut turn, port);
    }

    /// Forgets the guest at `port`: its TCP connections are reset, its other flows closed.
    /// Published ports stay, as the guest may come back.
    pub fn guest_gone(&mut self, port: PortId) {
        self.tcp.guest_gone(&mut self.sockets, port);
        self.udp.guest_gone(port);
        self.ping.guest_gone(port);
        self.reassembly.guest_gone(port);
        self.errors.guest_gone(port);
    }

    /// Makes a port of the host lead to a guest. The guest need not be there yet.
    ///
    /// # Errors
    /// Why not, in one line for the user.
    pub fn publish(&mut self, forward: Forward) -> Result<ForwardId, PublishError> {
        self.check_forward(&forward)?;
        let socket = bind_published(forward.protocol, forward.bind)?;
        self.publish_bound(forward, socket)
    }

    /// As [`Self::publish`], on a socket of [`bind_published`] that another process has made: one
    /// that may bind a port that this one may not.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_bound(
        &mut self,
        forward: Forward,
        socket: OwnedFd,
    ) -> Result<ForwardId, PublishError> {
        self.check_forward(&forward)?;
        let Forward {
            protocol,
            bind,
            guest,
        } = forward;
        let opened = match protocol {
            Protocol::Tcp => self
                .listeners
                .open(&self.registry, self.tokens, socket, guest),
            Protocol::Udp => self
                .udp
                .publish(&self.registry, self.tokens, forward, socket),
        };
        let (slot, addr) =
            opened.map_err(|error| PublishError::from_host(protocol, bind, error))?;
        let id = ForwardId(self.next_forward);
        self.next_forward += 1;
        self.forwards.insert(
            id,
            Opened {
                protocol,
                slot,
                addr,
            },
        );
        Ok(id)
    }

    fn check_forward(&self, forward: &Forward) -> Result<(), PublishError> {
        let Forward {
            protocol,
            bind,
            guest,
        } = *forward;
        let limit = self.config.limits.forwards;
        if self.forwards.len() >= limit {
            return Err(PublishError::TooMany {
                protocol,
                bind,
                limit,
            });
        }
        if !is_guest_address(guest) || self.config.is_gateway(guest.ip()) {
            return Err(PublishError::BadGuest {
                protocol,
                bind,
                guest,
            });
        }
        Ok(())
    }

    /// Takes a forward back; `false` if there is none of that name. What came in by it ends: TCP
    /// connections are reset at both ends, when [`Self::on_deadline`] is called next, which is due
    /// at once.
    pub fn unpublish(&mut self, id: ForwardId) -> bool {
        let Some(Opened { protocol, slot, .. }) = self.forwards.remove(&id) else {
            return false;
        };
        match protocol {
            Protocol::Tcp => {
                self.listeners.close(slot);
                for socket in self.sockets.of_listener(slot) {
                    self.tcp.withdraw(socket);
                }
            }
            Protocol::Udp => self.udp.unpublish(slot),
        }
        true
    }

    /// Where a forward listens, with the port that the host chose if it was asked to.
    pub fn forward_addr(&self, id: ForwardId) -> Option<SocketAddr> {
        self.forwards.get(&id).map(|forward| forward.addr)
    }

    /// Counters since the uplink was made.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            tcp: self.tcp.statistics(),
            udp: self.udp.statistics(),
            ping: self.ping.statistics(),
            reassembly: self.reassembly.statistics(),
            dropped: self.dropped,
            icmp_errors_sent: self.errors.sent,
            icmp_errors_limited: self.errors.limited,
        }
    }
}

/// Where the addresses that guests connect to lead.
fn tcp_route(
    config: Config,
    services: BTreeSet<SocketAddr>,
) -> impl Fn(PortId, SocketAddr) -> Destination + Send + 'static {
    move |_, remote| {
        if services.contains(&remote) {
            return Destination::Service;
        }
        match address::route(&config, remote.ip()) {
            Route::Host(ip) => Destination::Host(SocketAddr::new(ip, remote.port())),
            Route::Gateway | Route::Multicast => Destination::Refused,
            Route::Forbidden => Destination::Unreachable(Unreachable::Prohibited),
            Route::Local => Destination::Unreachable(Unreachable::Host),
        }
    }
}

/// The time to live of an IP packet.
fn hop_limit(packet: &ZeroCopyPacket<'_>) -> u8 {
    let at = usize::from(packet.meta().l3_offset);
    let at = at + if packet.meta().l3 == L3::Ipv4 { 8 } else { 7 };
    packet.head().get(at).copied().unwrap_or(0)
}

/// The "don't fragment" bit of an IPv4 packet.
fn dont_fragment(packet: &ZeroCopyPacket<'_>) -> bool {
    let at = usize::from(packet.meta().l3_offset) + 6;
    packet.head().get(at).is_some_and(|flags| flags & 0x40 != 0)
}

/// Gives a packet that was put together the hardware addresses of its last fragment, which came
/// from the same port as the others.
fn write_addresses(frame: &mut [u8], fragment: &ZeroCopyPacket<'_>) -> bool {
    let Some((dst, rest)) = frame.split_first_chunk_mut::<6>() else {
        return false;
    };
    *dst = fragment.dst_mac().0;
    let Some(src) = rest.first_chunk_mut::<6>() else {
        return false;
    };
    *src = fragment.src_mac().0;
    true
}

#[cfg(test)]
mod tests;
