//! Which multicast groups the uplink listens to (MLDv2, RFC 3810): switches that snoop send
//! solicitations for our addresses here because of it.

use std::net::Ipv6Addr;

use net_wire::checksum::pseudo_v6;
use net_wire::ipv6::{self, Ipv6Repr};
use net_wire::{icmpv6, ip_proto};

/// Type of a query.
pub(super) const QUERY: u8 = 130;
/// Type of a report.
const REPORT: u8 = 143;
/// Where reports go (section 5.2.14).
pub(super) const ALL_MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// A group with no source excluded, said as its present state (section 5.2.12).
const IS_EXCLUDE: u8 = 2;
/// Hop-by-hop options: a router alert for MLD (RFC 2711) and two bytes of padding.
const ALERT: [u8; 8] = [ip_proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Whether a message asks for reports: of this link, from a router of it (section 5.1.14).
pub(super) fn is_query(src: Ipv6Addr, hop_limit: u8, message: &[u8]) -> bool {
    message.len() >= 24 && hop_limit == 1 && src.is_unicast_link_local()
}

/// The packet that says that these groups are listened to.
pub(super) fn report(src: Ipv6Addr, groups: &[Ipv6Addr]) -> Vec<u8> {
    let mut message = vec![0; icmpv6::HEADER_LEN];
    for group in groups {
        message.extend([IS_EXCLUDE, 0, 0, 0]);
        message.extend(group.octets());
    }
    let pseudo = pseudo_v6(src, ALL_MLD_ROUTERS, ip_proto::ICMPV6, message.len());
    icmpv6::emit(&mut message, REPORT, 0, groups.len() as u32, pseudo);
    let mut packet = vec![0; ipv6::HEADER_LEN];
    Ipv6Repr {
        src,
        dst: ALL_MLD_ROUTERS,
        next_header: ip_proto::HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        payload_len: ALERT.len() + message.len(),
    }
    .emit(&mut packet);
    packet.extend(ALERT);
    packet.extend(message);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_wire::checksum::sum;
    use net_wire::ipv6::Ipv6Packet;

    #[test]
    fn a_report_is_what_a_switch_reads() {
        let src = "fe80::1".parse().unwrap();
        let groups = ["ff02::1:ff00:1", "ff02::1:ff00:2"].map(|ip| ip.parse().unwrap());
        let packet = report(src, &groups);
        assert!(net_switch::may_report(&packet));
        let view = Ipv6Packet::parse(&packet[..]).unwrap();
        let upper = view.upper_layer().unwrap();
        assert_eq!((upper.protocol, upper.offset), (ip_proto::ICMPV6, 8));
        let message = &view.payload()[8..];
        let pseudo = pseudo_v6(src, ALL_MLD_ROUTERS, ip_proto::ICMPV6, message.len());
        assert!((pseudo + sum(message)).is_valid());
        assert_eq!(message[..8], [143, 0, message[2], message[3], 0, 0, 0, 2]);
        assert_eq!(message[12..28], groups[0].octets());
        assert_eq!(message.len(), 8 + 2 * 20);
    }
}
