//! Neighbour discovery (RFC 4861): who has which hardware address, and who looks for a router.
//!
//! Every message is checked as section 6.1 and 7.1 ask: hop limit 255, so that it comes from this
//! link; checksum, code, length, options that end; no fragment header (RFC 6980). On top of that the
//! sender is held to its own hardware address, as with ARP.

use core::net::Ipv6Addr;
use core::time::Duration;

use net_datapath::ZeroCopyPacket;
use net_dhcp::ra;
use net_wire::{MacAddr, icmpv6};

use super::ipv6::{Origin6, hop_limit, icmp_kind};
use super::{Gateway, bytes};
use crate::PortId;
use crate::frame6::{self, NEAR};
use crate::outcome::{DropReason, Output, Target, Verdict};

/// Option: the sender's hardware address.
const SOURCE_ADDRESS: u8 = 1;
/// Option: the hardware address of the target.
const TARGET_ADDRESS: u8 = 2;

/// Flags of an advertisement (RFC 4861, section 4.4).
const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

/// A solicitation or advertisement of a neighbour that has passed every check of section 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    target: Ipv6Addr,
    /// The hardware address it names: the source's or the target's.
    mac: Option<MacAddr>,
}

impl Message {
    /// Checks a message that came from `src` to `dst`.
    fn parse(bytes: &[u8], (src, dst): (Ipv6Addr, Ipv6Addr)) -> Option<Self> {
        let &[kind, 0, _, _, flags, _, _, _, ref rest @ ..] = bytes else {
            return None;
        };
        let (target, options) = rest.split_first_chunk::<16>()?;
        let target = Ipv6Addr::from(*target);
        let asks = kind == icmpv6::NEIGHBOR_SOLICIT;
        let wanted = if asks { SOURCE_ADDRESS } else { TARGET_ADDRESS };
        let mac = link_address(options, wanted)?;
        if target.is_multicast() {
            return None;
        }
        // Duplicate address detection: to the solicited-node group, and with no address to name.
        let group = dst.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
        if asks && src.is_unspecified() && (!group || mac.is_some()) {
            return None;
        }
        // What goes to everybody was asked for by nobody.
        let solicited = u32::from_be_bytes([flags, 0, 0, 0]) & SOLICITED != 0;
        if !asks && (src.is_unspecified() || (dst.is_multicast() && solicited)) {
            return None;
        }
        Some(Self { target, mac })
    }
}

/// The hardware address in the options, if it is among them; `None` where they do not end as they
/// should.
#[allow(clippy::option_option)] // Malformed, absent, there.
fn link_address(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, words, ..] = options else {
            return None;
        };
        let (option, rest) = options.split_at_checked(usize::from(words) * 8)?;
        if kind == wanted {
            found = found.or(option.get(2..8)?.try_into().ok().map(MacAddr));
        }
        // A zero length would loop for ever.
        if words == 0 {
            return None;
        }
        options = rest;
    }
    Some(found)
}

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
                let parsed = Message::parse(&message, ends).ok_or(DropReason::Malformed)?;
                if parsed.mac.is_some_and(|mac| mac != packet.src_mac()) {
                    return Err(DropReason::Spoofed);
                }
                if message[0] == icmpv6::NEIGHBOR_SOLICIT {
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
            (frame6::group_mac(group), group, ROUTER | OVERRIDE)
        } else {
            (packet.src_mac(), src, ROUTER | SOLICITED | OVERRIDE)
        };
        let mut data = target.octets().to_vec();
        data.extend([TARGET_ADDRESS, 1]);
        data.extend(self.config.mac.0);
        let message = frame6::message(icmpv6::NEIGHBOR_ADVERT, 0, flags, &data);
        let ends = self.ends6(mac, target, ip);
        if let Some(frame) = frame6::icmp(ends, NEAR, &message) {
            self.statistics.neighbour_advertisements += 1;
            out.push(Output::Frame {
                to: Target::Port(from),
                frame,
            });
        }
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
    pub(super) fn solicitation(&self, source: Ipv6Addr, target: Ipv6Addr) -> Option<Vec<u8>> {
        let group = frame6::solicited_node(target);
        let mut data = target.octets().to_vec();
        data.extend([SOURCE_ADDRESS, 1]);
        data.extend(self.config.mac.0);
        let message = frame6::message(icmpv6::NEIGHBOR_SOLICIT, 0, 0, &data);
        let ends = self.ends6(frame6::group_mac(group), source, group);
        frame6::icmp(ends, NEAR, &message)
    }
}
