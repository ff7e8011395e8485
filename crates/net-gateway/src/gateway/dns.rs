//! The gateway's name server: questions in, from either family and by either transport, and answers
//! and upstream questions out.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use net_datapath::ZeroCopyPacket;
use net_dns::{Action, ClientId, Origin, Transport, UpstreamQueryId};

use super::{DNS_PORT, Gateway, bytes};
use crate::neighbour::Neighbour;
use crate::outcome::{DnsClient, DropReason, Output, Verdict};
use crate::{PortId, frame, frame6};

/// IPv4 and UDP headers in front of a DNS message, in bytes.
const DNS_HEADERS: u16 = 28;
/// IPv6 and UDP headers in front of one.
const DNS_HEADERS_V6: u16 = 48;

impl Gateway {
    /// Takes a question that came over a connection of the guest on `port`.
    pub fn dns_query_tcp(
        &mut self,
        port: PortId,
        connection: u64,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let origin = Origin {
            client: ClientId(u64::from(port)),
            to: DnsClient::Tcp(connection),
            transport: Transport::Tcp,
        };
        self.query(origin, message, now, out);
    }

    /// Forgets the questions of a connection that is closed.
    pub fn dns_connection_closed(&mut self, connection: u64, now: Duration, out: &mut Vec<Output>) {
        let mut actions = core::mem::take(&mut self.actions);
        self.dns
            .connection_closed(&DnsClient::Tcp(connection), &mut actions);
        self.carry_out(actions, now, out);
    }

    /// Takes what arrived on the socket of an upstream query.
    pub fn dns_answer(
        &mut self,
        id: UpstreamQueryId,
        from: SocketAddr,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let mut actions = core::mem::take(&mut self.actions);
        self.dns
            .upstream_answer(id, from, message, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    /// An upstream query cannot be answered any more.
    pub fn dns_failed(&mut self, id: UpstreamQueryId, now: Duration, out: &mut Vec<Output>) {
        let mut actions = core::mem::take(&mut self.actions);
        self.dns.upstream_failed(id, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    pub(super) fn dns_query_udp(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        (ip, asked): (IpAddr, IpAddr),
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        if !packet.verify_l4_checksum() {
            return Err(DropReason::Malformed);
        }
        let guest = Neighbour {
            mac: packet.src_mac(),
            port: from,
        };
        let headers = if ip.is_ipv6() {
            DNS_HEADERS_V6
        } else {
            DNS_HEADERS
        };
        let max_payload = self.config.mtu.saturating_sub(headers);
        let origin = Origin {
            client: ClientId(u64::from(from)),
            to: DnsClient::Udp {
                guest,
                ip,
                asked,
                port: packet.meta().src_port,
            },
            transport: Transport::Udp { max_payload },
        };
        let meta = packet.meta();
        let message = bytes(packet, meta.payload_offset, meta.payload_end);
        self.query(origin, &message, now, out);
        Ok(Verdict::Answered)
    }

    fn query(
        &mut self,
        origin: Origin<DnsClient>,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        self.statistics.dns_queries += 1;
        let mut actions = core::mem::take(&mut self.actions);
        self.dns.query(origin, message, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    /// Turns the name server's answers into frames and passes the rest on.
    pub(super) fn carry_out(
        &mut self,
        mut actions: Vec<Action<DnsClient>>,
        _now: Duration,
        out: &mut Vec<Output>,
    ) {
        for action in actions.drain(..) {
            match action {
                Action::Reply {
                    to:
                        DnsClient::Udp {
                            guest,
                            ip,
                            asked,
                            port,
                        },
                    message,
                    ..
                } => self.dns_reply_udp(guest, (ip, asked), port, &message, out),
                Action::Reply {
                    to: DnsClient::Tcp(connection),
                    message,
                    ..
                } => {
                    out.push(Output::DnsTcp {
                        connection,
                        message,
                    });
                }
                upstream => out.push(Output::Dns(upstream)),
            }
        }
        self.actions = actions;
    }

    fn dns_reply_udp(
        &mut self,
        guest: Neighbour,
        ends: (IpAddr, IpAddr),
        port: u16,
        message: &[u8],
        out: &mut Vec<Output>,
    ) {
        let ports = (DNS_PORT, port);
        match ends {
            (IpAddr::V4(ip), _) => {
                if let Some(frame) = frame::udp(self.ends(guest.mac, ip), ports, message) {
                    self.send(guest.port, frame, out);
                }
            }
            (IpAddr::V6(ip), IpAddr::V6(asked)) => {
                let ends = self.ends6(guest.mac, asked, ip);
                if let Some(frame) = frame6::udp(ends, ports, message) {
                    self.send6(guest.port, frame, out);
                }
            }
            // A question and its answer are of one family.
            (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
}
