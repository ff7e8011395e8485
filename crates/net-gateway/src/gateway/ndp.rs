//! Neighbour discovery (RFC 4861): who has which hardware address, and who looks for a router.
//!
//! Every message is checked as section 6.1 and 7.1 ask: hop limit 255, so that it comes from this
//! link; checksum, code, length, options that end; no fragment header (RFC 6980). On top of that the
//! sender is held to its own hardware address, as with ARP.

use core::net::Ipv6Addr;
use core::time::Duration;

use net_datapath::ZeroCopyPacket;
use net_dhcp::ra;
use net_wire::ndp::{self, Neighbour, OVERRIDE, ROUTER, SOLICITED};
use net_wire::{MacAddr, icmpv6};

use super::ipv6::{Origin6, hop_limit, icmp_kind};
use super::{Gateway, bytes};
use crate::PortId;
use crate::frame6::{self, NEAR};
use crate::outcome::{DropReason, Output, Target, Verdict};

impl Gateway {
    /// Whether the router behind the trunk speaks from `ip` on `port`.
    fn is_router6(&self, port: PortId, ip: Ipv6Addr) -> bool {
        self.leases.is_trunk(port) && self.is_infrastructure6(ip) && !self.owns6(ip)
    }

    /// Takes a whole message of neighbour discovery that the gateway hears.
    pub(super) fn discovery(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        ends: (Ipv6Addr, Ipv6Addr),
        origin: Origin6,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let meta = packet.meta();
        let in_fragments = origin == Origin6::Fragments || meta.fragment_header != 0;
        if in_fragments || hop_limit(packet) != NEAR || !packet.verify_l4_checksum() {
            return Err(DropReason::Malformed);
        }
        let message = bytes(packet, meta.l4_offset, meta.l3_end);
        match icmp_kind(packet) {
            Some(icmpv6::ROUTER_SOLICIT) => {
                self.router_solicitation(from, packet, ends.0, &message, now)
            }
            Some(icmpv6::NEIGHBOR_SOLICIT | icmpv6::NEIGHBOR_ADVERT) => {
                let parsed = Neighbour::parse(&message, ends).map_err(|_| DropReason::Malformed)?;
                if parsed.mac.is_some_and(|mac| mac != packet.src_mac()) {
                    return Err(DropReason::Spoofed);
                }
                if parsed.kind == icmpv6::NEIGHBOR_SOLICIT {
                    self.neighbour_solicitation(from, packet, ends.0, parsed.target, now, out)
                } else {
                    self.neighbour_advertisement(from, packet, ends.0, parsed.target, now)
                }
            }
            // There is one router here, and the gateway needs nothing that another one says.
            Some(icmpv6::ROUTER_ADVERT) if self.is_router6(from, ends.0) => Ok(Verdict::Answered),
            _ => Err(DropReason::Spoofed),
        }
    }

    fn router_solicitation(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        src: Ipv6Addr,
        message: &[u8],
        now: Duration,
    ) -> Result<Verdict, DropReason> {
        let asked = ra::Solicitation::parse(src, hop_limit(packet), message)
            .map_err(|_| DropReason::Malformed)?;
        if asked
            .link_address
            .is_some_and(|mac| MacAddr(mac) != packet.src_mac())
        {
            return Err(DropReason::Spoofed);
        }
        if !src.is_unspecified() {
            self.check_source6(from, src, packet.src_mac(), now)?;
        }
        let Some(advertiser) = self.advertiser() else {
            // The router hears it too.
            return Ok(Verdict::Answered);
        };
        if advertiser.next_deadline().is_none() {
            advertiser.start(now);
        }
        let taken = advertiser.solicited(from, src, hop_limit(packet), message, now);
        taken
            .map(|_| Verdict::Answered)
            .map_err(|_| DropReason::Malformed)
    }

    fn neighbour_solicitation(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        src: Ipv6Addr,
        target: Ipv6Addr,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<Verdict, DropReason> {
        let detection = src.is_unspecified();
        if !detection {
            self.check_source6(from, src, packet.src_mac(), now)?;
        }
        if !self.six.as_ref().is_some_and(|six| six.is_ours(target)) {
            return Ok(Verdict::Answered);
        }
        // Who only wants to know whether the address is free has none to be answered at
        // (section 7.2.4).
        let (mac, ip, flags) = if detection {
            let group = ra::ALL_NODES;
            (ndp::group_mac(group), group, ROUTER | OVERRIDE)
        } else {
            (packet.src_mac(), src, ROUTER | SOLICITED | OVERRIDE)
        };
        let advertisement = Neighbour {
            kind: icmpv6::NEIGHBOR_ADVERT,
            flags,
            target,
            mac: Some(self.config.mac),
        };
        self.statistics.neighbour_advertisements += 1;
        out.push(Output::Frame {
            to: Target::Port(from),
            frame: frame6::neighbour(self.ends6(mac, target, ip), &advertisement),
        });
        Ok(Verdict::Answered)
    }

    fn neighbour_advertisement(
        &mut self,
        from: PortId,
        packet: &ZeroCopyPacket<'_>,
        src: Ipv6Addr,
        target: Ipv6Addr,
        now: Duration,
    ) -> Result<Verdict, DropReason> {
        self.check_source6(from, src, packet.src_mac(), now)?;
        if target != src {
            self.check_source6(from, target, packet.src_mac(), now)?;
        }
        Ok(Verdict::Answered)
    }

    /// The question who has `target`, to everybody who may.
    pub(super) fn solicitation(&self, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let group = ndp::solicited_node(target);
        let solicitation = Neighbour {
            kind: icmpv6::NEIGHBOR_SOLICIT,
            flags: 0,
            target,
            mac: Some(self.config.mac),
        };
        let ends = self.ends6(ndp::group_mac(group), source, group);
        frame6::neighbour(ends, &solicitation)
    }
}
