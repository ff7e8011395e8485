//! What happens to a frame that the switch hands to the gateway.
//!
//! The order is: whose is it (hardware and protocol address must belong to the port it came from),
//! is it for us (ARP, DHCP, echo, DNS), does it leave the network (the uplink's), or is it nothing
//! a router carries (dropped, counted). Nothing here allocates for a packet that goes to the
//! uplink. What is different for IPv6 is in `ipv6`, neighbour discovery in `ndp`, and the way of a
//! question to the name server in `dns`.

mod dns;
mod ipv6;
mod ndp;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use net_datapath::{FragmentState, L3, PacketMeta, ZeroCopyPacket};
use net_dhcp::v4::server as dhcp;
use net_dns::{Action, ClientId, Forwarder};
use net_wire::ethernet::EtherType;
use net_wire::{MacAddr, arp, icmpv4, ip_proto};

use self::ipv6::Origin6;
use crate::PortId;
use crate::config::{Config, ConfigError};
use crate::frame::{self, Ends};
use crate::leases::Leases;
use crate::neighbour::{AtQuota, Neighbour, Neighbours, Refusal};
use crate::outcome::{DnsClient, DropReason, Output, Statistics, Target, Verdict};
use crate::rate::TokenBucket;

/// UDP port of the DHCP server and of the client.
const DHCP_PORTS: (u16, u16) = (67, 68);
/// UDP port of the name server.
const DNS_PORT: u16 = 53;
/// ICMP errors a second towards all guests together (RFC 1812, section 4.3.2.8).
const ERROR_RATE: u32 = 100;
/// Bytes of the offending packet that an ICMP error quotes behind the IP header (RFC 1812 allows
/// more; a fixed small number fits every MTU).
const QUOTED: usize = 8;

/// The gateway of one network.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    neighbours: Neighbours<Ipv4Addr>,
    /// What there is of IPv6, where the network has it.
    six: Option<ipv6::Six>,
    leases: Leases,
    dns: Forwarder<DnsClient>,
    errors: TokenBucket,
    ip_id: u16,
    statistics: Statistics,
    /// Kept so that a query allocates no vector of its own.
    actions: Vec<Action<DnsClient>>,
}

impl Gateway {
    /// A gateway without guests; `seed` makes its DNS transaction ids unguessable and must come from
    /// the operating system's random source.
    ///
    /// # Errors
    /// Whatever in `config` cannot work.
    pub fn new(config: Config, seed: [u8; 16]) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut dns_config = net_dns::Config::new(seed);
        dns_config.upstreams = config.upstreams.clone();
        dns_config.domain = Some(config.domain.clone());
        dns_config.local_prefixes =
            vec![(IpAddr::V4(config.subnet.network()), config.subnet.prefix())];
        let mut own = vec![IpAddr::V4(config.ip)];
        if let Some(six) = &config.ipv6 {
            dns_config
                .local_prefixes
                .push((IpAddr::V6(six.prefix.network()), six.prefix.prefix()));
            own.push(IpAddr::V6(six.ip));
        }
        let domain = |_| ConfigError::Domain(config.domain.clone());
        let mut dns = Forwarder::new(dns_config).map_err(|_| domain(()))?;
        dns.set_gateway(&own).map_err(|_| domain(()))?;
        let six = config
            .ipv6
            .as_ref()
            .map(|six| ipv6::Six::new(&config, six, &seed))
            .transpose()?;
        Ok(Self {
            neighbours: Neighbours::new(config.addresses_per_port, AtQuota::Refuse, &seed),
            six,
            leases: Leases::new(&config, seed)?,
            dns,
            errors: TokenBucket::new(ERROR_RATE, ERROR_RATE),
            ip_id: 0,
            statistics: Statistics::default(),
            actions: Vec::new(),
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The DHCP engine: its leases and counters.
    pub fn dhcp(&self) -> &dhcp::Server {
        self.leases.server()
    }

    /// Replaces the resolvers that questions go to.
    pub fn set_upstreams(&mut self, servers: Vec<core::net::SocketAddr>) {
        self.dns.set_upstreams(servers);
    }

    /// Sets the lowest free address aside; `None` when there is none.
    pub fn allocate_ip(&mut self) -> Option<Ipv4Addr> {
        self.leases.allocate()
    }

    /// Gives an address back: its reservation, its lease and its name end.
    pub fn release_ip(&mut self, ip: Ipv4Addr) {
        self.leases.release(ip, &mut self.dns);
        self.neighbours.forget(ip);
    }

    /// Keeps `ip` for the guest with this hardware address, whichever port it is on, or for nobody
    /// in particular; false if somebody has it or is to have it.
    pub fn reserve(&mut self, mac: Option<MacAddr>, ip: Ipv4Addr) -> bool {
        self.leases.reserve(mac, ip)
    }

    /// The address kept for the guest on `port`: the one it was given with
    /// [`Gateway::port_opened`], unless its hardware address has a reservation of its own.
    pub fn seat(&self, port: PortId) -> Option<Ipv4Addr> {
        self.leases.seat(port)
    }

    /// Another switch is behind `port`, such as a bridge of the host: any number of guests, and
    /// [`Config::router`].
    pub fn trunk_opened(&mut self, port: PortId) {
        self.leases.trunk_opened(port);
        self.neighbours.set_trunk(port);
        if let Some(six) = &mut self.six {
            six.neighbours.set_trunk(port);
        }
    }

    /// The guest behind the trunk that has `ip`, and keeps `ip6` where that is known, is called
    /// `name`; false if another guest is.
    pub fn name_guest(&mut self, name: &str, ip: Ipv4Addr, ip6: Option<Ipv6Addr>) -> bool {
        self.leases.name_guest(name, (ip, ip6), &mut self.dns)
    }

    /// The guest behind the trunk that had `ip` is gone, and its names with it.
    pub fn forget_guest(&mut self, ip: Ipv4Addr) {
        self.leases.forget_names(ip, &mut self.dns);
        self.neighbours.forget(ip);
    }

    /// Who answers to `ip`, as far as is known.
    pub fn neighbour(&self, ip: impl Into<IpAddr>) -> Option<Neighbour> {
        match ip.into() {
            IpAddr::V4(ip) => self.neighbours.get(ip),
            IpAddr::V6(ip) => self.six.as_ref()?.neighbours.get(ip),
        }
    }

    /// The ports on which a guest with this hardware address has an address; one may come twice. Looks at
    /// every address there is.
    pub fn ports_of(&self, mac: MacAddr) -> impl Iterator<Item = PortId> {
        let six = self.six.as_ref().map(|six| six.neighbours.ports_of(mac));
        self.neighbours
            .ports_of(mac)
            .chain(six.into_iter().flatten())
    }

    /// Asks the network who answers to `ip`; at most once a second for one address.
    pub fn ask(&mut self, ip: impl Into<IpAddr>, now: Duration, out: &mut Vec<Output>) {
        match ip.into() {
            IpAddr::V4(ip) => self.ask4(ip, now, out),
            IpAddr::V6(ip) => self.ask6(ip, now, out),
        }
    }

    fn ask4(&mut self, ip: Ipv4Addr, now: Duration, out: &mut Vec<Output>) {
        if !self.config.subnet.contains(ip) || !self.neighbours.should_ask(ip, now) {
            return;
        }
        let frame = frame::arp(self.ends(MacAddr::BROADCAST, ip), arp::REQUEST);
        out.push(Output::Frame {
            to: Target::Flood,
            frame,
        });
    }

    /// A guest is on `port` now: it is to have `address`, and answers to `name`. With `mac` it is
    /// known at once, whether it speaks DHCP or not.
    pub fn port_opened(
        &mut self,
        port: PortId,
        address: Ipv4Addr,
        name: &str,
        mac: Option<MacAddr>,
        now: Duration,
    ) {
        self.leases.port_opened(port, address, name, &mut self.dns);
        if let Some(mac) = mac {
            self.leases.bind(port, mac.0);
            self.neighbours
                .assign(address, Neighbour { mac, port }, now);
        }
        self.announce(now);
    }

    /// The guest on `port` is gone: its addresses may be taken by another.
    pub fn port_closed(&mut self, port: PortId, now: Duration, out: &mut Vec<Output>) {
        self.neighbours.forget_port(port);
        self.forget_port6(port);
        self.leases.port_closed(port, &mut self.dns);
        let mut actions = core::mem::take(&mut self.actions);
        self.dns
            .client_gone(ClientId(u64::from(port)), &mut actions);
        self.carry_out(actions, now, out);
    }

    /// When [`Gateway::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        [
            self.leases.server().next_deadline(),
            self.dns.next_deadline(),
            self.six
                .as_ref()
                .and_then(|six| six.advertiser.as_ref()?.next_deadline()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ends leases that are over and questions that nobody answered; advertises what is due.
    pub fn on_deadline(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.advertise(now, out);
        self.leases.expire(now, &mut self.dns, &mut self.neighbours);
        let mut actions = core::mem::take(&mut self.actions);
        self.dns.on_deadline(now, &mut actions);
        self.carry_out(actions, now, out);
    }

    /// Takes a frame that `from` sent to the gateway or to everybody.
    pub fn ingress(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Verdict {
        self.dispatch(from, packet, Origin6::Wire, now, out)
    }

    /// Takes a packet that the uplink has put together from fragments which [`Self::ingress`] left
    /// to it. Neighbour discovery in fragments is ignored (RFC 6980).
    pub fn ingress_reassembled(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Verdict {
        self.dispatch(from, packet, Origin6::Fragments, now, out)
    }

    fn dispatch(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        origin: Origin6,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let result = match packet.meta().l3 {
            L3::Arp => self.arp(from, packet, now, out),
            L3::Ipv4 => self.ipv4(from, packet, now, out),
            L3::Ipv6 => self.ipv6(from, packet, origin, now, out),
            _ if matches!(
                EtherType(packet.meta().ethertype),
                EtherType::IPV4 | EtherType::IPV6
            ) =>
            {
                Err(DropReason::Malformed)
            }
            _ => Err(DropReason::Protocol),
        };
        match result {
            Ok(verdict) => {
                self.statistics.uplink += u64::from(verdict == Verdict::Uplink);
                verdict
            }
            Err(reason) => {
                self.statistics.drops[reason as usize] += 1;
                Verdict::Dropped(reason)
            }
        }
    }

    /// ARP (RFC 826): learn the sender, answer for our address.
    fn arp(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let body = packet
            .head()
            .get(usize::from(packet.meta().l3_offset)..)
            .unwrap_or_default();
        let request = arp::ArpPacket::parse(body).map_err(|_| DropReason::Malformed)?;
        if request.sender_mac != packet.src_mac() {
            return Err(DropReason::Spoofed);
        }
        // A probe (RFC 5227) has no sender address yet: there is nothing to learn.
        if !request.sender_ip.is_unspecified() {
            self.check_source(from, request.sender_ip, request.sender_mac, now)?;
        }
        if request.operation != arp::REQUEST || request.target_ip != self.config.ip {
            return Ok(Verdict::Answered);
        }
        self.statistics.arp_replies += 1;
        let ends = self.ends(request.sender_mac, request.sender_ip);
        out.push(Output::Frame {
            to: Target::Port(from),
            frame: frame::arp(ends, arp::REPLY),
        });
        Ok(Verdict::Answered)
    }

    /// Holds the sender to the address it owns, learning it on the way.
    fn check_source(
        &mut self,
        port: PortId,
        ip: Ipv4Addr,
        mac: MacAddr,
        now: Duration,
    ) -> Result<(), DropReason> {
        if ip == self.config.ip {
            return Err(DropReason::Spoofed);
        }
        let net = self.config.subnet;
        if !net.contains(ip) || ip == net.network() || ip == net.broadcast() {
            return Err(DropReason::Foreign);
        }
        if self.leases.is_for_another(ip, port) {
            return Err(DropReason::Spoofed);
        }
        self.neighbours
            .learn(ip, Neighbour { mac, port }, now)
            .map(|_| ())
            .map_err(reason)
    }

    fn ipv4(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let (Some(IpAddr::V4(src)), Some(IpAddr::V4(dst))) = (packet.ip_src(), packet.ip_dst())
        else {
            return Err(DropReason::Malformed);
        };
        if packet.meta().malformed || !packet.verify_ip_checksum() {
            return Err(DropReason::Malformed);
        }
        let meta = packet.meta();
        let whole = !is_fragment(meta);
        let broadcast = dst.is_broadcast() || dst == self.config.subnet.broadcast();
        let for_us = dst == self.config.ip;
        if whole
            && meta.l4_protocol == ip_proto::UDP
            && meta.dst_port == DHCP_PORTS.0
            && (broadcast || for_us)
        {
            return self.dhcp_message(from, packet, now, out);
        }
        self.check_source(from, src, packet.src_mac(), now)?;
        if for_us {
            return self.local(from, packet, src, now, out);
        }
        if broadcast || dst.is_multicast() {
            return Err(DropReason::NotForUs);
        }
        if self.config.subnet.contains(dst) {
            return Err(DropReason::SameNetwork);
        }
        if ttl(packet) <= 1 {
            self.error(from, packet, (icmpv4::TIME_EXCEEDED, 0), now, out);
            return Err(DropReason::TtlExceeded);
        }
        Ok(Verdict::Uplink)
    }

    /// A packet to the gateway's own address.
    fn local(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        src: Ipv4Addr,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let meta = packet.meta();
        if is_fragment(meta) {
            return Ok(Verdict::Uplink);
        }
        match meta.l4_protocol {
            ip_proto::ICMP => self.echo(from, packet, src, out),
            ip_proto::UDP if meta.dst_port == DNS_PORT => {
                let ends = (IpAddr::V4(src), IpAddr::V4(self.config.ip));
                self.dns_query_udp(from, packet, ends, now, out)
            }
            // Services of the gateway over TCP, and the host's loopback where it is shared, are
            // sockets of the host: the uplink connects or refuses.
            ip_proto::TCP | ip_proto::UDP => Ok(Verdict::Uplink),
            _ => {
                let unreachable = (icmpv4::UNREACHABLE, icmpv4::CODE_PROTOCOL);
                self.error(from, packet, unreachable, now, out);
                Err(DropReason::Unanswered)
            }
        }
    }

    /// Echo (RFC 792): the data goes back as it came.
    fn echo(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        src: Ipv4Addr,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let meta = packet.meta();
        let message = bytes(packet, meta.l4_offset, meta.l3_end);
        let view = icmpv4::IcmpMessage::parse(&message[..]).map_err(|_| DropReason::Malformed)?;
        if !packet.verify_l4_checksum() {
            return Err(DropReason::Malformed);
        }
        if view.kind() != icmpv4::ECHO_REQUEST || view.code() != 0 {
            return Err(DropReason::Unanswered);
        }
        self.statistics.echo_replies += 1;
        let ends = self.ends(packet.src_mac(), src);
        let reply = frame::icmp(ends, icmpv4::ECHO_REPLY, 0, view.rest(), view.data());
        self.send(from, reply, out);
        Ok(Verdict::Answered)
    }

    fn dhcp_message(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        if !packet.verify_l4_checksum() {
            return Err(DropReason::Malformed);
        }
        let meta = packet.meta();
        let payload = bytes(packet, meta.payload_offset, meta.payload_end);
        let reply = self.leases.handle(from, packet.src_mac().0, &payload, now);
        self.leases.settle(&mut self.dns, &mut self.neighbours, now);
        let reply = reply.ok_or(DropReason::Unanswered)?;
        self.statistics.dhcp_replies += 1;
        let (mac, ip) = match reply.dst {
            dhcp::ReplyDst::Broadcast => (MacAddr::BROADCAST, Ipv4Addr::BROADCAST),
            dhcp::ReplyDst::Unicast { ip, mac } => (MacAddr(mac), ip),
        };
        let ports = (DHCP_PORTS.0, reply.dst_port);
        if let Some(frame) = frame::udp(self.ends(mac, ip), ports, &reply.payload) {
            self.send(from, frame, out);
        }
        Ok(Verdict::Answered)
    }

    /// An ICMP error about a packet (RFC 792, RFC 1122 3.2.2): never about an error, a fragment
    /// that is not the first, a broadcast, or a source that is no host; limited in rate.
    fn error(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        (kind, code): (u8, u8),
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let meta = packet.meta();
        let (l3, l4) = (usize::from(meta.l3_offset), usize::from(meta.l4_offset));
        let about_error = meta.l4_protocol == ip_proto::ICMP
            && !matches!(
                packet.head().get(l4),
                Some(&(icmpv4::ECHO_REQUEST | icmpv4::ECHO_REPLY))
            );
        let Some(IpAddr::V4(src)) = packet.ip_src() else {
            return;
        };
        if about_error || meta.fragment == FragmentState::Later || packet.dst_mac().is_multicast() {
            return;
        }
        if !self.errors.take(now) {
            return;
        }
        let end = (l4 + QUOTED).min(packet.head().len());
        let Some(quoted) = packet.head().get(l3..end) else {
            return;
        };
        self.statistics.icmp_errors += 1;
        let ends = self.ends(packet.src_mac(), src);
        let frame = frame::icmp(ends, kind, code, 0, quoted);
        self.send(from, frame, out);
    }

    /// Sends an IPv4 frame, in fragments where it is larger than the network's MTU.
    fn send(&mut self, port: PortId, frame: Vec<u8>, out: &mut Vec<Output>) {
        self.ip_id = self.ip_id.wrapping_add(1);
        let pieces = frame::fragment(frame, usize::from(self.config.mtu), self.ip_id);
        out.extend(pieces.into_iter().map(|frame| Output::Frame {
            to: Target::Port(port),
            frame,
        }));
    }

    /// From us to a guest.
    fn ends(&self, dst_mac: MacAddr, dst_ip: Ipv4Addr) -> Ends<Ipv4Addr> {
        Ends {
            src_mac: self.config.mac,
            dst_mac,
            src_ip: self.config.ip,
            dst_ip,
        }
    }
}

/// A copy of the bytes of a frame from one offset to another.
fn bytes(packet: &ZeroCopyPacket<'_>, from: u16, to: u32) -> Vec<u8> {
    let from = usize::from(from);
    let mut bytes = vec![0; (to as usize).saturating_sub(from)];
    let copied = packet.copy_range(from, &mut bytes);
    bytes.truncate(copied);
    bytes
}

/// Why a packet is dropped whose source the table of neighbours refused.
fn reason(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Taken => DropReason::Spoofed,
        Refusal::Quota => DropReason::AddressQuota,
    }
}

/// Whether the packet is a piece of a larger one, the first piece included.
fn is_fragment(meta: &PacketMeta) -> bool {
    meta.fragment != FragmentState::None
}

/// The time to live of an IPv4 packet.
fn ttl(packet: &ZeroCopyPacket<'_>) -> u8 {
    let at = usize::from(packet.meta().l3_offset) + 8;
    packet.head().get(at).copied().unwrap_or(0)
}
