//! What a guest may not say to another: that it is the router (RFC 6105, RFC 7113, RFC 7610).
//!
//! The switch carries frames between guests past the gateway, so a guest could advertise itself as
//! the router of all others. Real switches that guard against it are known to be passed by hiding
//! the message, and each hiding place is looked into here:
//!
//! - extension headers: the type is read behind them, and a chain that cannot be followed to its end
//!   is dropped (RFC 7113, section 2.1);
//! - fragments: a first one without its whole chain of headers is dropped, and without a first one
//!   the others are nothing (section 2.2);
//! - a stack of priority tags (VLAN 0), and LLC/SNAP in place of an EtherType, which hosts strip and
//!   guards do not (CVE-2021-27853, CVE-2021-27862).

use core::net::{IpAddr, Ipv6Addr};

use net_datapath::{FragmentState, L3, ZeroCopyPacket};
use net_wire::ethernet::EtherType;
use net_wire::{icmpv6, ip_proto};

use crate::gateway::Gateway;

/// UDP port of DHCPv6 clients: only servers and relays send to it.
const DHCPV6_CLIENT: u16 = 546;
/// What a SNAP header begins with (RFC 1042).
const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];
/// Type fields up to this are lengths (IEEE 802.3, section 3.2.6).
const MAX_LENGTH: u16 = 1500;

impl Gateway {
    /// Whether [`Self::may_pass`] looks into frames with this type field. What it refuses is in none
    /// that says it is IPv4 or ARP, true or not.
    #[inline]
    pub fn looks_into(kind: EtherType) -> bool {
        !matches!(kind, EtherType::IPV4 | EtherType::ARP)
    }

    /// Whether a frame may go from one guest to others: it does not speak for the router.
    ///
    /// Ask before the switch, for every frame of a guest on a network that has this gateway and of a
    /// kind that is [looked into](Self::looks_into); what is refused is counted and goes nowhere, not even to the gateway.
    #[inline]
    pub fn may_pass(&mut self, packet: &ZeroCopyPacket<'_>) -> bool {
        let forged = match packet.meta().l3 {
            L3::Ipv4 | L3::Arp => return true,
            L3::Ipv6 => self.speaks_for_router(packet),
            L3::Other => hides_ipv6(packet),
        };
        self.note_forged(forged);
        !forged
    }

    fn speaks_for_router(&self, packet: &ZeroCopyPacket<'_>) -> bool {
        let meta = packet.meta();
        if meta.malformed {
            return true;
        }
        if let Some(IpAddr::V6(src)) = packet.ip_src()
            && self.is_infrastructure6(src)
        {
            return true;
        }
        if meta.fragment == FragmentState::Later {
            return false;
        }
        match meta.l4_protocol {
            ip_proto::UDP => meta.dst_port == DHCPV6_CLIENT,
            ip_proto::ICMPV6 => {
                let at = usize::from(meta.l4_offset);
                match packet.head().get(at) {
                    Some(&icmpv6::NEIGHBOR_ADVERT) => {
                        let target = packet.head().get(at + 8..at + 24);
                        let target = target.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                        // Where it cannot be read it is hidden.
                        target.is_none_or(|target| self.is_infrastructure6(Ipv6Addr::from(target)))
                    }
                    Some(&(icmpv6::ROUTER_ADVERT | icmpv6::REDIRECT)) | None => true,
                    Some(_) => false,
                }
            }
            _ => false,
        }
    }
}

/// Whether a frame that is no IP packet at first sight is one to a host that looks closer.
fn hides_ipv6(packet: &ZeroCopyPacket<'_>) -> bool {
    let meta = packet.meta();
    let kind = EtherType(meta.ethertype);
    let tag = matches!(kind, EtherType::VLAN | EtherType::QINQ);
    // A tag of a real VLAN is for whoever is a member of it; VLAN 0 is for everybody.
    if tag && meta.vlan().is_none_or(|tag| tag & 0x0fff == 0) {
        return true;
    }
    if kind == EtherType::IPV6 {
        // Broken to us; there is no telling what it is to others.
        return true;
    }
    let at = usize::from(meta.l3_offset);
    meta.ethertype <= MAX_LENGTH && packet.head().get(at..at + SNAP.len()) == Some(&SNAP[..])
}
