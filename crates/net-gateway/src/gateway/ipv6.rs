//! The gateway's IPv6 side: whose packet it is, what it answers, what leaves.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use ipnetwork::Ipv6Network;
use net_datapath::{FragmentState, ZeroCopyPacket};
use net_dhcp::ra::{self, Advertiser, Destination};
use net_wire::{MacAddr, icmpv6, ip_proto, ndp};

use super::{DNS_PORT, Gateway, bytes, is_fragment, reason};
use crate::config::{Config, ConfigError, Ipv6Config, Router6};
use crate::frame::Ends;
use crate::frame6::{self, FAR, NEAR};
use crate::neighbour::{AtQuota, Neighbour, Neighbours};
use crate::outcome::{DropReason, Output, Target, Verdict};
use crate::{PortId, eui64};

/// Time for which guests use the gateway as their default router without hearing from it: three
/// times the longest interval between advertisements (RFC 4861, section 6.2.1).
const ROUTER_LIFETIME: Duration = Duration::from_secs(1800);
/// Bytes of the offending packet that an error quotes: with its headers, what every link carries
/// (RFC 4443, section 2.4).
const QUOTED: usize = 1280 - 48;
/// Code of "unreachable": the source's scope ends before the destination (RFC 4443, section 3.1).
const CODE_BEYOND_SCOPE: u8 = 2;
/// Code of a parameter problem: unknown next header (RFC 4443, section 3.4).
const CODE_NEXT_HEADER: u8 = 1;

/// How a packet came to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin6 {
    /// In a frame of its own.
    Wire,
    /// The uplink has put it together.
    Fragments,
}

/// What a network with IPv6 has more.
#[derive(Debug)]
pub(super) struct Six {
    pub(super) prefix: Ipv6Network,
    pub(super) ip: Ipv6Addr,
    pub(super) link_local: Ipv6Addr,
    pub(super) neighbours: Neighbours<Ipv6Addr>,
    /// What advertises, where the gateway is the router.
    pub(super) advertiser: Option<Advertiser>,
    router: Option<Router6>,
    fragment_id: u32,
}

impl Six {
    pub(super) fn new(
        config: &Config,
        six: &Ipv6Config,
        seed: &[u8; 16],
    ) -> Result<Self, ConfigError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *seed;
        let random = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let advertised = config
            .advertisement()
            .filter(|_| six.behind_trunk.is_none());
        let advertiser = advertised
            .map(|advertised| Advertiser::new(advertised, random))
            .transpose()
            .map_err(|err| ConfigError::Advertisement(err.to_string()))?;
        Ok(Self {
            prefix: six.prefix,
            ip: six.ip,
            link_local: crate::link_local(config.mac),
            router: six.behind_trunk,
            neighbours: Neighbours::new(config.addresses_per_port, AtQuota::ReplaceOwn, seed),
            advertiser,
            fragment_id: u32::from_ne_bytes([i, j, k, l]),
        })
    }

    /// Whether `ip` is an address of the gateway.
    pub(super) fn is_ours(&self, ip: Ipv6Addr) -> bool {
        ip == self.ip || ip == self.link_local
    }

    /// Whether `ip` is an address of the router behind the trunk.
    fn is_routers(&self, ip: Ipv6Addr) -> bool {
        self.router
            .is_some_and(|router| ip == router.ip || ip == router.link_local())
    }

    /// Whether the gateway listens to the group `ip`.
    fn listens_to(&self, ip: Ipv6Addr) -> bool {
        [
            ra::ALL_NODES,
            ra::ALL_ROUTERS,
            ndp::solicited_node(self.ip),
            ndp::solicited_node(self.link_local),
        ]
        .contains(&ip)
    }

    /// Whether a guest may have `ip`: link-local, or of the prefix without its anycast address.
    fn is_for_guests(&self, ip: Ipv6Addr) -> bool {
        ip.is_unicast_link_local() || (self.prefix.contains(ip) && ip != self.prefix.network())
    }
}

impl Gateway {
    /// Whether `ip` is an address of the gateway.
    pub fn owns(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip == self.config.ip,
            IpAddr::V6(ip) => self.owns6(ip),
        }
    }

    /// The gateway's link-local address, where the network has IPv6.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.six.as_ref().map(|six| six.link_local)
    }

    /// Whether `ip` is an address of the gateway.
    pub(crate) fn owns6(&self, ip: Ipv6Addr) -> bool {
        self.six.as_ref().is_some_and(|six| six.is_ours(ip))
    }

    /// Whether `ip` is an address of the gateway, or of the router where that is another.
    pub(crate) fn is_infrastructure6(&self, ip: Ipv6Addr) -> bool {
        let six = self.six.as_ref();
        six.is_some_and(|six| six.is_ours(ip) || six.is_routers(ip))
    }

    /// Counts a frame that spoke for the router.
    pub(crate) fn note_forged(&mut self, forged: bool) {
        self.statistics.forged += u64::from(forged);
    }

    /// Ties an IPv6 address to the guest on `port`, which is known to have it: nobody else may, and
    /// the guest's names lead there. Nothing happens for an address that is no guest's.
    pub fn assign6(&mut self, port: PortId, ip: Ipv6Addr, mac: MacAddr, now: Duration) {
        let Some(six) = self.six.as_mut() else { return };
        if six.is_ours(ip) || six.is_routers(ip) || !six.is_for_guests(ip) {
            return;
        }
        six.neighbours.assign(ip, Neighbour { mac, port }, now);
        if six.prefix.contains(ip) {
            self.leases.set_address6(port, ip, &mut self.dns);
        }
    }

    /// The IPv6 address that the guest on `port` is known to keep: the one it was tied to, or one
    /// made from its hardware address. Others may be temporary.
    pub fn address6(&self, port: PortId) -> Option<Ipv6Addr> {
        self.leases.address6(port)
    }

    /// Says whether there is a way out for IPv6, as far as is known now; guests are told when that
    /// changes.
    pub fn set_ipv6_router(&mut self, router: bool, now: Duration) {
        let lifetime = if router {
            ROUTER_LIFETIME
        } else {
            Duration::ZERO
        };
        if let Some(advertiser) = self.advertiser()
            && let Err(err) = advertiser.set_router_lifetime(lifetime, now)
        {
            log::debug!("router lifetime: {err}");
        }
    }

    /// The network ends: guests are told that its router, prefix and name server are no more
    /// (RFC 4861, section 6.2.5).
    pub fn farewell(&mut self, out: &mut Vec<Output>) {
        if let Some(last) = self.advertiser().and_then(Advertiser::stop) {
            self.send_advertisement(last, out);
        }
    }

    /// Guests that come without asking hear soon what the network is.
    pub(super) fn announce(&mut self, now: Duration) {
        if let Some(advertiser) = self.advertiser() {
            if advertiser.next_deadline().is_none() {
                advertiser.start(now);
            }
            advertiser.announce(now);
        }
    }

    /// What advertises, where the gateway is the router.
    pub(super) fn advertiser(&mut self) -> Option<&mut Advertiser> {
        self.six.as_mut()?.advertiser.as_mut()
    }

    /// Whether the gateway is the router of IPv6, and advertises itself.
    pub fn advertises(&self) -> bool {
        self.six
            .as_ref()
            .is_some_and(|six| six.advertiser.is_some())
    }

    pub(super) fn advertise(&mut self, now: Duration, out: &mut Vec<Output>) {
        while let Some(due) = self.advertiser().and_then(|it| it.poll(now)) {
            self.send_advertisement(due, out);
        }
    }

    fn send_advertisement(&mut self, sent: ra::Advertisement, out: &mut Vec<Output>) {
        let Some(six) = &self.six else { return };
        let (to, mac, ip) = match sent.to {
            Destination::AllNodes => (Target::Flood, ndp::group_mac(ra::ALL_NODES), ra::ALL_NODES),
            Destination::Host { client, address } => {
                // It was learnt when it asked; a guest that has gone since needs no answer.
                let Some(neighbour) = six.neighbours.get(address) else {
                    return;
                };
                (Target::Port(client), neighbour.mac, address)
            }
        };
        let ends = self.ends6(mac, six.link_local, ip);
        if let Some(frame) = frame6::icmp(ends, NEAR, &sent.message) {
            self.statistics.router_advertisements += 1;
            out.push(Output::Frame { to, frame });
        }
    }

    pub(super) fn forget_port6(&mut self, port: PortId) {
        if let Some(six) = &mut self.six {
            six.neighbours.forget_port(port);
            if let Some(advertiser) = &mut six.advertiser {
                advertiser.forget(port);
            }
        }
    }

    /// Asks all guests who has `ip`.
    pub(super) fn ask6(&mut self, ip: Ipv6Addr, now: Duration, out: &mut Vec<Output>) {
        let Some(six) = &mut self.six else { return };
        if six.is_ours(ip) || !six.is_for_guests(ip) || !six.neighbours.should_ask(ip, now) {
            return;
        }
        let link_local = six.link_local;
        out.push(Output::Frame {
            to: Target::Flood,
            frame: self.solicitation(link_local, ip),
        });
    }

    pub(super) fn ipv6(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        origin: Origin6,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let Some(six) = &self.six else {
            return Err(DropReason::Ipv6);
        };
        let (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) = (packet.ip_src(), packet.ip_dst())
        else {
            return Err(DropReason::Malformed);
        };
        let meta = packet.meta();
        if meta.malformed || src.is_multicast() {
            return Err(DropReason::Malformed);
        }
        let for_us = six.is_ours(dst);
        let heard = for_us || six.listens_to(dst);
        if heard && is_discovery(packet) {
            return self.discovery(from, packet, (src, dst), origin, now, out);
        }
        if src.is_unspecified() {
            // Duplicate address detection and reports of guests that have no address yet.
            return Err(DropReason::NotForUs);
        }
        let near = six.prefix.contains(dst) || dst.is_unicast_link_local();
        self.check_source6(from, src, packet.src_mac(), now)?;
        if for_us {
            return self.local6(from, packet, (src, dst), now, out);
        }
        if dst.is_multicast() {
            return Err(DropReason::NotForUs);
        }
        if near {
            return Err(DropReason::SameNetwork);
        }
        if src.is_unicast_link_local() {
            let beyond = (icmpv6::UNREACHABLE, CODE_BEYOND_SCOPE, 0);
            self.error6(from, packet, beyond, now, out);
            return Err(DropReason::BeyondScope);
        }
        if hop_limit(packet) <= 1 {
            self.error6(from, packet, (icmpv6::TIME_EXCEEDED, 0, 0), now, out);
            return Err(DropReason::TtlExceeded);
        }
        Ok(Verdict::Uplink)
    }

    /// Holds the sender to the addresses it may have, learning them on the way.
    pub(super) fn check_source6(
        &mut self,
        port: PortId,
        ip: Ipv6Addr,
        mac: MacAddr,
        now: Duration,
    ) -> Result<(), DropReason> {
        let Some(six) = &mut self.six else {
            return Err(DropReason::Ipv6);
        };
        if six.is_ours(ip) || (six.is_routers(ip) && !self.leases.is_trunk(port)) {
            return Err(DropReason::Spoofed);
        }
        if !six.is_for_guests(ip) {
            return Err(DropReason::Foreign);
        }
        if self.leases.is_for_another6(ip, port) {
            return Err(DropReason::Spoofed);
        }
        let news = six
            .neighbours
            .learn(ip, Neighbour { mac, port }, now)
            .map_err(reason)?;
        // The one address that a guest is sure to form again.
        let stable = eui64(six.prefix.network(), mac);
        if news && ip == stable && self.leases.address6(port).is_none() {
            self.leases.set_address6(port, ip, &mut self.dns);
        }
        Ok(())
    }

    /// A packet to one of the gateway's own addresses.
    fn local6(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let meta = packet.meta();
        if is_fragment(meta) {
            return Ok(Verdict::Uplink);
        }
        match meta.l4_protocol {
            ip_proto::ICMPV6 => self.echo6(from, packet, (src, dst), out),
            ip_proto::UDP if meta.dst_port == DNS_PORT => {
                let ends = (IpAddr::V6(src), IpAddr::V6(dst));
                self.dns_query_udp(from, packet, ends, now, out)
            }
            ip_proto::TCP | ip_proto::UDP => Ok(Verdict::Uplink),
            ip_proto::IPV6_NONE => Err(DropReason::Unanswered),
            _ => {
                // The pointer names the field that is unknown: with extension headers in between
                // it is not the fixed header's, and nobody waits for an answer to that.
                if meta.l4_offset == meta.l3_offset + net_wire::ipv6::HEADER_LEN as u16 {
                    let problem = (icmpv6::PARAMETER_PROBLEM, CODE_NEXT_HEADER, 6);
                    self.error6(from, packet, problem, now, out);
                }
                Err(DropReason::Unanswered)
            }
        }
    }

    /// Echo (RFC 4443, section 4.1): the data goes back as it came, from the address that was asked.
    fn echo6(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let meta = packet.meta();
        if !packet.verify_l4_checksum() {
            return Err(DropReason::Malformed);
        }
        let mut message = bytes(packet, meta.l4_offset, meta.l3_end);
        match message.get_mut(..2) {
            Some([kind, 0]) if *kind == icmpv6::ECHO_REQUEST => *kind = icmpv6::ECHO_REPLY,
            Some(_) => return Err(DropReason::Unanswered),
            None => return Err(DropReason::Malformed),
        }
        self.statistics.echo_replies += 1;
        let ends = self.ends6(packet.src_mac(), dst, src);
        if let Some(reply) = frame6::icmp(ends, FAR, &message) {
            self.send6(from, reply, out);
        }
        Ok(Verdict::Answered)
    }

    /// An ICMPv6 error about a packet (RFC 4443, section 2.4): never about an error, a redirect, a
    /// fragment that is not the first, a multicast, or a source that is no host; limited in rate.
    fn error6(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        (kind, code, rest): (u8, u8, u32),
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let meta = packet.meta();
        let (Some(six), Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) =
            (&self.six, packet.ip_src(), packet.ip_dst())
        else {
            return;
        };
        let source = six.ip;
        let about_error = meta.l4_protocol == ip_proto::ICMPV6
            && icmp_kind(packet).is_none_or(|kind| kind < 128 || kind == icmpv6::REDIRECT);
        let silent = about_error
            || meta.fragment == FragmentState::Later
            || src.is_unspecified()
            || dst.is_multicast()
            || packet.dst_mac().is_multicast();
        if silent || !self.errors.take(now) {
            return;
        }
        let end = meta.l3_end.min(u32::from(meta.l3_offset) + QUOTED as u32);
        let quoted = bytes(packet, meta.l3_offset, end);
        let ends = self.ends6(packet.src_mac(), source, src);
        let message = frame6::message(kind, code, rest, &quoted);
        if let Some(frame) = frame6::icmp(ends, FAR, &message) {
            self.statistics.icmp_errors += 1;
            self.send6(from, frame, out);
        }
    }

    /// Sends a frame to a port, in fragments where it is larger than the network's MTU.
    pub(super) fn send6(&mut self, port: PortId, frame: Vec<u8>, out: &mut Vec<Output>) {
        let Some(six) = &mut self.six else { return };
        six.fragment_id = six.fragment_id.wrapping_add(1);
        let pieces = frame6::fragment(frame, usize::from(self.config.mtu), six.fragment_id);
        out.extend(pieces.into_iter().map(|frame| Output::Frame {
            to: Target::Port(port),
            frame,
        }));
    }

    /// From one of our addresses to a guest.
    pub(super) fn ends6(
        &self,
        dst_mac: MacAddr,
        src_ip: Ipv6Addr,
        dst_ip: Ipv6Addr,
    ) -> Ends<Ipv6Addr> {
        Ends {
            src_mac: self.config.mac,
            dst_mac,
            src_ip,
            dst_ip,
        }
    }
}

/// The hop limit of an IPv6 packet.
pub(super) fn hop_limit(packet: &ZeroCopyPacket<'_>) -> u8 {
    let at = usize::from(packet.meta().l3_offset) + 7;
    packet.head().get(at).copied().unwrap_or(0)
}

/// The type of an ICMPv6 message.
pub(super) fn icmp_kind(packet: &ZeroCopyPacket<'_>) -> Option<u8> {
    let at = usize::from(packet.meta().l4_offset);
    packet.head().get(at).copied()
}

/// Whether this is a whole message of neighbour discovery.
fn is_discovery(packet: &ZeroCopyPacket<'_>) -> bool {
    packet.meta().l4_protocol == ip_proto::ICMPV6
        && !is_fragment(packet.meta())
        && icmp_kind(packet)
            .is_some_and(|kind| (icmpv6::ROUTER_SOLICIT..=icmpv6::REDIRECT).contains(&kind))
}
