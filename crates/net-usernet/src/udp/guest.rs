//! Datagrams of a guest on their way to the host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::Interest;
use mio::unix::SourceFd;
use net_datapath::{GsoKind, ZeroCopyPacket};
use net_wire::ip_proto;
use socket2::{Protocol, Socket};

use super::{CLASS_DNS, CLASS_OTHER, ClientKey, Flow, FlowKey, Readable, UdpRelay};
use crate::PortId;
use crate::address::Route;
use crate::compose::IcmpError;
use crate::sys::{self, SendOptions};
use crate::token::Source;
use crate::travel::{Travel, TravelOptions};
use crate::turn::Turn;

/// Most datagrams that Linux cuts out of one send (`UDP_MAX_SEGMENTS` of every version).
const SEGMENTS_PER_SEND: usize = 64;
const PORT_DNS: u16 = 53;

impl UdpRelay {
    /// Takes a datagram, or a super-frame of datagrams, from the guest at `from`.
    pub(crate) fn ingress(
        &mut self,
        turn: &mut Turn<'_>,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        route: Route,
        travel: Travel,
    ) {
        let meta = packet.meta();
        let (Some(src), Some(dst)) = (packet.ip_src(), packet.ip_dst()) else {
            return;
        };
        let segment = match packet.vnet().gso_kind() {
            GsoKind::None => Some(None),
            GsoKind::UdpL4 if packet.vnet().gso_size > 0 => Some(Some(packet.vnet().gso_size)),
            _ => None,
        };
        let whole = meta.has_transport(ip_proto::UDP) && meta.src_port != 0 && meta.dst_port != 0;
        let Some(segment) = segment.filter(|_| whole) else {
            self.stats.malformed += 1;
            return;
        };
        if !packet.verify_l4_checksum() {
            self.stats.bad_checksum += 1;
            return;
        }
        let guest = SocketAddr::new(src, meta.src_port);
        let seen = SocketAddr::new(dst, meta.dst_port);
        if let Some(slot) = self.clients.find(&ClientKey {
            port: from,
            guest,
            seen,
        }) {
            return self.reply(turn, from, slot, packet, segment);
        }
        let Route::Host(ip) = route else {
            self.stats.gateway_closed += 1;
            return turn.refuse(from, packet, IcmpError::port_unreachable(dst.is_ipv6()));
        };
        let to = SocketAddr::new(ip, meta.dst_port);
        let Some(slot) = self.flow_for(turn, from, guest, to.port()) else {
            return;
        };
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.options.prepare(&flow.socket, guest.is_ipv6(), travel);
        }
        self.transmit(turn, from, Readable::Flow(slot), None, to, packet, segment);
    }

    /// Sends a guest's answer to a client of a published port.
    fn reply(
        &mut self,
        turn: &mut Turn<'_>,
        from: PortId,
        slot: usize,
        packet: &ZeroCopyPacket<'_>,
        segment: Option<u16>,
    ) {
        let Some(&client) = self.clients.get(slot) else {
            return;
        };
        self.clients.touch(slot, 0, turn.now);
        let via = Readable::Published(client.published);
        self.transmit(turn, from, via, client.local, client.addr, packet, segment);
    }

    /// The flow of a guest's socket; opens it if there is none.
    fn flow_for(
        &mut self,
        turn: &mut Turn<'_>,
        port: PortId,
        guest: SocketAddr,
        to: u16,
    ) -> Option<usize> {
        let key = FlowKey { port, guest };
        let class = |dns_only| if dns_only { CLASS_DNS } else { CLASS_OTHER };
        if let Some(slot) = self.flows.find(&key) {
            let flow = self.flows.get_mut(slot)?;
            flow.dns_only &= to == PORT_DNS;
            let class = class(flow.dns_only);
            self.flows.touch(slot, class, turn.now);
            return Some(slot);
        }
        if self.flows.is_closed() {
            self.stats.refused_limit += 1;
            return None;
        }
        while let Some(gone) = self.flows.make_room(port) {
            self.stats.evicted += 1;
            self.close_flow(gone);
        }
        let v6 = guest.is_ipv6();
        let opened = match open(turn, v6, self.flows.next_slot()) {
            // This guest's oldest flow can make room in the process as well.
            Err(error) if is_exhausted(&error) => match self.flows.evict(port) {
                Some(gone) => {
                    self.stats.evicted += 1;
                    self.close_flow(gone);
                    open(turn, v6, self.flows.next_slot())
                }
                None => Err(error),
            },
            other => other,
        };
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                log::debug!("no socket for a UDP flow: {error}");
                self.stats.refused_host += 1;
                return None;
            }
        };
        let dns_only = to == PORT_DNS;
        let flow = Flow {
            socket,
            options: TravelOptions::default(),
            dns_only,
            waiting: false,
        };
        self.stats.opened += 1;
        Some(
            self.flows
                .insert(port, class(dns_only), key, flow, turn.now),
        )
    }

    /// Sends the payload of `packet`; an error that the guest can use comes back to it.
    #[allow(clippy::too_many_arguments)]
    fn transmit(
        &mut self,
        turn: &mut Turn<'_>,
        from: PortId,
        via: Readable,
        source: Option<IpAddr>,
        to: SocketAddr,
        packet: &ZeroCopyPacket<'_>,
        segment: Option<u16>,
    ) {
        let mut sent = 0;
        // A socket first reports what became of earlier datagrams, once for each send.
        for last in [false, true] {
            let error = match self.send_from(via, source, to, packet, segment, &mut sent) {
                Ok(()) => return,
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::WouldBlock || is_exhausted(&error) {
                self.stats.host_busy += 1;
                return;
            }
            let mtu = self.drain_errors(turn, via);
            if last {
                self.stats.host_refused += 1;
                if let Some(answer) = answer_to(&error, mtu, to.is_ipv6()) {
                    turn.refuse(from, packet, answer);
                }
            }
        }
    }

    /// Sends from byte `sent` of the payload on and moves `sent` past what has gone.
    fn send_from(
        &mut self,
        via: Readable,
        source: Option<IpAddr>,
        to: SocketAddr,
        packet: &ZeroCopyPacket<'_>,
        segment: Option<u16>,
        sent: &mut usize,
    ) -> io::Result<()> {
        let len = packet.payload_len();
        let size = segment.map_or(len, usize::from);
        loop {
            let left = len - *sent;
            let many = self.segmentation && left > size;
            let take = left.min(if many { size * SEGMENTS_PER_SEND } else { size });
            let segment_size = segment.filter(|_| many);
            let Some(fd) = self.socket(via) else {
                return Ok(());
            };
            let payload = packet.payload(*sent, take);
            match sys::send(
                fd,
                to,
                &[],
                &payload,
                SendOptions {
                    source,
                    segment_size,
                },
            ) {
                Ok(_) => {}
                // A route or device that cannot: one by one, from now on.
                Err(error) if many && is_unsegmentable(&error) => {
                    self.segmentation = false;
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.stats.to_host += take.div_ceil(size.max(1)).max(1) as u64;
            *sent += take;
            if *sent >= len {
                return Ok(());
            }
        }
    }
}

fn open(turn: &Turn<'_>, v6: bool, slot: usize) -> io::Result<Socket> {
    let socket = sys::datagram_socket(sys::any_address(v6), Protocol::UDP)?;
    sys::coalesce(&socket);
    let token = turn.tokens.token(Source::Udp(slot));
    turn.registry.register(
        &mut SourceFd(&socket.as_raw_fd()),
        token,
        Interest::READABLE,
    )?;
    Ok(socket)
}

/// Whether the process or the host has run out of something.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn is_unsegmentable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

/// What to tell a guest about a packet that the host would not send; `mtu` is what the host says
/// about the route.
pub(crate) fn answer_to(error: &io::Error, mtu: Option<u32>, v6: bool) -> Option<IcmpError> {
    Some(match error.raw_os_error()? {
        libc::EMSGSIZE => IcmpError::too_big(v6, mtu?),
        libc::ENETUNREACH | libc::ENETDOWN => IcmpError::net_unreachable(v6),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => IcmpError::host_unreachable(v6),
        libc::EACCES | libc::EPERM => IcmpError::prohibited(v6),
        _ => return None,
    })
}
