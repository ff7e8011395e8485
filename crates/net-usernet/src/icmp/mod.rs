//! The echo relay.
//!
//! # Theory of operation
//!
//! An echo request goes out through an ICMP socket of the host (`SOCK_DGRAM`, which needs no
//! privilege where the host allows it), one for each identifier that a guest uses. The kernel puts
//! an identifier of its own in place of the guest's; the reply gets the guest's back. A reply is
//! only ever one that came from the network: a host that does not answer is not answered for.
//!
//! Errors (time exceeded for `traceroute -I`, unreachable) come through the socket's error queue,
//! as for UDP. Other ICMP messages of guests are not relayed: there is no socket for them.
//!
//! Where the host allows no ICMP sockets, requests are counted and dropped in silence;
//! [`probe_ping_sockets`] tells the user why.

mod probe;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use mio::Interest;
use mio::unix::SourceFd;
use net_datapath::ZeroCopyPacket;
use net_wire::checksum::Delta;
use net_wire::{icmpv4, icmpv6, ip_proto};
use socket2::{Protocol, Socket};

pub use probe::{PingUnavailable, probe_ping_sockets};

use crate::address;
use crate::compose::{self, IcmpError};
use crate::deliver::{Deliverer, Delivery};
use crate::hash::KeyedState;
use crate::sys::{self, BATCH, Batch, ErrorOrigin, SendOptions};
use crate::table::FlowTable;
use crate::token::Source;
use crate::travel::{Travel, TravelOptions};
use crate::turn::Turn;
use crate::udp::{answer_to, is_exhausted};
use crate::waiting::Waiting;
use crate::{Config, PingStatistics, PortId};

const BATCHES_PER_TURN: usize = 4;
const ERRORS_PER_TURN: usize = 64;

/// What identifies the `ping` of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    port: PortId,
    guest: IpAddr,
    id: u16,
}

#[derive(Debug)]
struct Flow {
    socket: Socket,
    options: TravelOptions,
    waiting: bool,
}

/// The ping flows of all guests.
#[derive(Debug)]
pub(crate) struct PingRelay {
    flows: FlowTable<Key, Flow, 1>,
    waiting: Waiting<usize>,
    batch: Batch,
    deliverer: Deliverer,
    stats: PingStatistics,
}

impl PingRelay {
    pub(crate) fn new(config: &Config) -> Self {
        let [.., a, b, c, d] = config.seed;
        Self {
            flows: FlowTable::new(
                KeyedState::new(&config.seed, 4),
                config.limits.ping_flows,
                [config.timeouts.ping],
            ),
            waiting: Waiting::new(),
            batch: Batch::new(),
            deliverer: Deliverer::new(u32::from_ne_bytes([a, b, c, d])),
            stats: PingStatistics::default(),
        }
    }

    /// Takes an ICMP message from the guest at `from`, bound for `to`.
    pub(crate) fn ingress(
        &mut self,
        turn: &mut Turn<'_>,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        to: IpAddr,
        travel: Travel,
    ) {
        let meta = packet.meta();
        let Some(guest) = packet.ip_src() else { return };
        let v6 = guest.is_ipv6();
        let protocol = if v6 { ip_proto::ICMPV6 } else { ip_proto::ICMP };
        let at = usize::from(meta.l4_offset);
        let header = packet.head().get(at..).and_then(|l4| l4.first_chunk::<8>());
        let Some(&header) = header.filter(|_| meta.has_transport(protocol)) else {
            self.stats.malformed += 1;
            return;
        };
        let request = if v6 {
            icmpv6::ECHO_REQUEST
        } else {
            icmpv4::ECHO_REQUEST
        };
        if (header[0], header[1]) != (request, 0) || packet.vnet().is_gso() {
            self.stats.not_relayed += 1;
            return;
        }
        if !packet.verify_l4_checksum() {
            self.stats.bad_checksum += 1;
            return;
        }
        let id = u16::from_be_bytes([header[4], header[5]]);
        let Some(slot) = self.flow_for(
            turn,
            Key {
                port: from,
                guest,
                id,
            },
        ) else {
            return;
        };
        let payload = packet.payload(0, packet.payload_len());
        // As for UDP: the socket first reports what became of earlier requests.
        for last in [false, true] {
            let Some(flow) = self.flows.get_mut(slot) else {
                return;
            };
            flow.options.prepare(&flow.socket, v6, travel);
            let fd = flow.socket.as_fd();
            let to = SocketAddr::new(to, 0);
            let error = match sys::send(fd, to, &header, &payload, SendOptions::default()) {
                Ok(_) => {
                    self.stats.requests += 1;
                    return;
                }
                Err(error) => error,
            };
            let mtu = self.drain_errors(turn, slot);
            if last {
                self.stats.host_refused += 1;
                if let Some(answer) = answer_to(&error, mtu, v6) {
                    turn.refuse(from, packet, answer);
                }
            }
        }
    }

    fn flow_for(&mut self, turn: &mut Turn<'_>, key: Key) -> Option<usize> {
        if let Some(slot) = self.flows.find(&key) {
            self.flows.touch(slot, 0, turn.now);
            return Some(slot);
        }
        if self.flows.is_closed() {
            self.stats.refused_host += 1;
            return None;
        }
        while let Some(gone) = self.flows.make_room(key.port) {
            self.stats.evicted += 1;
            self.waiting.forget(key.port, &gone.slot);
        }
        match open(turn, key.guest.is_ipv6(), self.flows.next_slot()) {
            Ok(socket) => {
                self.stats.opened += 1;
                let flow = Flow {
                    socket,
                    options: TravelOptions::default(),
                    waiting: false,
                };
                Some(self.flows.insert(key.port, 0, key, flow, turn.now))
            }
            Err(error) => {
                let counter = match is_exhausted(&error) {
                    true => &mut self.stats.refused_host,
                    false => &mut self.stats.unavailable,
                };
                *counter += 1;
                None
            }
        }
    }

    /// A flow's socket has something.
    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>, slot: usize) {
        let Some(flow) = self.flows.get_mut(slot) else {
            return;
        };
        flow.waiting = false;
        self.drain_errors(turn, slot);
        let Some(&Key { port, guest, id }) = self.flows.key(slot) else {
            return;
        };
        for _ in 0..BATCHES_PER_TURN {
            let link = turn.link(port, guest);
            if link.is_some_and(|link| !link.ready) {
                return self.wait(slot, Some(port));
            }
            let Some(flow) = self.flows.get(slot) else {
                return;
            };
            let received = match self.batch.receive(flow.socket.as_fd()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.drain_errors(turn, slot);
                    continue;
                }
            };
            let Self {
                batch,
                deliverer,
                stats,
                ..
            } = &mut *self;
            let mut busy = false;
            for datagram in (0..received).filter_map(|i| batch.datagram(i)) {
                let Some(reply) = echo_reply(datagram.payload, guest.is_ipv6()) else {
                    continue;
                };
                let Some(peer) = address::visible_peer(turn.config, datagram.from) else {
                    stats.filtered += 1;
                    continue;
                };
                let fate = match &link {
                    Some(link) if !busy => {
                        let addresses = (peer.ip(), guest);
                        deliver(deliverer, turn, link, addresses, id, reply)
                    }
                    _ => Delivery::Busy,
                };
                match fate {
                    Delivery::Sent => stats.replies += 1,
                    _ => stats.guest_busy += 1,
                }
                busy |= fate == Delivery::Busy && link.is_some();
            }
            if link.is_some() {
                self.flows.touch(slot, 0, turn.now);
            }
            if busy {
                return self.wait(slot, Some(port));
            }
            if received < BATCH {
                return;
            }
        }
        self.wait(slot, None);
    }

    /// The guest at `port` has room again.
    pub(crate) fn guest_writable(&mut self, turn: &mut Turn<'_>, port: PortId) {
        for slot in self.waiting.take_blocked(port) {
            self.ready(turn, slot);
        }
    }

    /// When [`Self::on_deadline`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        if self.waiting.has_backlog() {
            return Some(Duration::ZERO);
        }
        self.flows.next_deadline()
    }

    /// Continues what had to wait for others and forgets what is idle.
    pub(crate) fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        for slot in self.waiting.take_backlog() {
            self.ready(turn, slot);
        }
        while let Some(gone) = self.flows.expire(turn.now) {
            self.stats.timed_out += 1;
            self.waiting.forget(gone.key.port, &gone.slot);
        }
    }

    /// Forgets a guest.
    pub(crate) fn guest_gone(&mut self, port: PortId) {
        while self.flows.evict(port).is_some() {}
        self.waiting.take_blocked(port);
    }

    /// The counters.
    pub(crate) fn statistics(&self) -> PingStatistics {
        PingStatistics {
            flows: self.flows.len() as u64,
            ..self.stats
        }
    }

    fn wait(&mut self, slot: usize, blocked_by: Option<PortId>) {
        let Some(flow) = self.flows.get_mut(slot).filter(|flow| !flow.waiting) else {
            return;
        };
        flow.waiting = true;
        match blocked_by {
            Some(port) => self.waiting.block(port, slot),
            None => self.waiting.later(slot),
        }
    }

    /// Empties a socket's error queue; returns the MTU if the host itself found a request too big.
    fn drain_errors(&mut self, turn: &mut Turn<'_>, slot: usize) -> Option<u32> {
        let mut mtu = None;
        let mut quote = [0; 1280];
        for _ in 0..ERRORS_PER_TURN {
            let (Some(flow), Some(&key)) = (self.flows.get(slot), self.flows.key(slot)) else {
                break;
            };
            let Ok(error) = sys::receive_error(flow.socket.as_fd(), &mut quote) else {
                break;
            };
            if error.origin == ErrorOrigin::Local {
                if error.errno == libc::EMSGSIZE {
                    mtu = Some(error.info);
                }
                continue;
            }
            let seen = error
                .to
                .and_then(|to| address::as_seen_by_guest(turn.config, to));
            let Some(message) = quote.get_mut(..error.len).filter(|quote| quote.len() >= 8) else {
                continue;
            };
            // The request as it left has the kernel's identifier; the guest knows its own.
            let old = u16::from_be_bytes([message[4], message[5]]);
            let check = u16::from_be_bytes([message[2], message[3]]);
            let check = Delta::new16(old, key.id).apply(check);
            message[2..4].copy_from_slice(&check.to_be_bytes());
            message[4..6].copy_from_slice(&key.id.to_be_bytes());
            let protocol = if key.guest.is_ipv6() {
                ip_proto::ICMPV6
            } else {
                ip_proto::ICMP
            };
            if let Some(seen) = seen {
                let told =
                    turn.relay_error(key.port, key.guest, seen.ip(), protocol, &error, message);
                self.stats.errors_relayed += u64::from(told);
            }
        }
        mtu
    }
}

/// Sends a reply with the guest's identifier in place of the kernel's.
fn deliver(
    deliverer: &mut Deliverer,
    turn: &mut Turn<'_>,
    link: &crate::GuestLink,
    (peer, guest): (IpAddr, IpAddr),
    id: u16,
    reply: &[u8],
) -> Delivery {
    let v6 = guest.is_ipv6();
    let (kind, protocol) = match v6 {
        true => (icmpv6::ECHO_REPLY, ip_proto::ICMPV6),
        false => (icmpv4::ECHO_REPLY, ip_proto::ICMP),
    };
    let sequence = u16::from_be_bytes([reply[6], reply[7]]);
    let header = IcmpError {
        kind,
        code: 0,
        rest: u32::from(id) << 16 | u32::from(sequence),
    };
    let mut fill = |message: &mut [u8], _partial: bool| {
        compose::icmp_message(message, peer, guest, header, &reply[icmpv4::HEADER_LEN..])
    };
    deliverer.transport(
        turn.out,
        link,
        (peer, guest),
        protocol,
        reply.len(),
        None,
        &mut fill,
    )
}

/// The echo reply in what the socket gave, at least 8 bytes; macOS puts the IPv4 header in front.
fn echo_reply(bytes: &[u8], v6: bool) -> Option<&[u8]> {
    let message = match bytes.first()? {
        first if cfg!(target_os = "macos") && !v6 && first >> 4 == 4 => {
            bytes.get(usize::from(first & 0x0f) * 4..)?
        }
        _ => bytes,
    };
    let kind = if v6 {
        icmpv6::ECHO_REPLY
    } else {
        icmpv4::ECHO_REPLY
    };
    (message.len() >= icmpv4::HEADER_LEN && message[0] == kind).then_some(message)
}

fn open(turn: &Turn<'_>, v6: bool, slot: usize) -> io::Result<Socket> {
    let socket = ping_socket(v6)?;
    let token = turn.tokens.token(Source::Ping(slot));
    turn.registry.register(
        &mut SourceFd(&socket.as_raw_fd()),
        token,
        Interest::READABLE,
    )?;
    Ok(socket)
}

fn ping_socket(v6: bool) -> io::Result<Socket> {
    let protocol = if v6 {
        Protocol::ICMPV6
    } else {
        Protocol::ICMPV4
    };
    sys::datagram_socket(sys::any_address(v6), protocol)
}
