//! What an IP packet says about groups: IGMPv1 to v3 (RFC 1112, 2236, 3376) and MLDv1 and v2
//! (RFC 2710, 3810).
//!
//! A message is believed as a whole or not at all: checksums of the header and of the message, every
//! length, and for MLD the hop limit, the router alert and the source are as the RFC asks (RFC 4541,
//! section 2.1.1 (5)). Nothing is read past the end that the IP header gives (2.1.1 (3)).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use net_wire::ipv4::Ipv4Packet;
use net_wire::ipv6::{HEADER_LEN as IPV6_HEADER, Ipv6Packet};
use net_wire::{checksum, ip_proto};

mod igmp {
    pub(super) const QUERY: u8 = 0x11;
    pub(super) const V1_REPORT: u8 = 0x12;
    pub(super) const V2_REPORT: u8 = 0x16;
    pub(super) const V2_LEAVE: u8 = 0x17;
    pub(super) const V3_REPORT: u8 = 0x22;
}

mod mld {
    pub(super) const QUERY: u8 = 130;
    pub(super) const V1_REPORT: u8 = 131;
    pub(super) const V1_DONE: u8 = 132;
    pub(super) const V2_REPORT: u8 = 143;
}

/// Lengths of IGMPv1 and v2 messages and of MLDv1 ones, in bytes.
const IGMP_LEN: usize = 8;
const MLD_LEN: usize = 24;
/// Least lengths of version 3 and version 2 queries.
const IGMP_V3_QUERY: usize = 12;
const MLD_V2_QUERY: usize = 28;
/// What an IGMPv1 host takes at most to answer (RFC 1112, appendix I).
const V1_RESPONSE: Duration = Duration::from_secs(10);

/// What a packet is to a snooping switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Data for a group.
    Data(IpAddr),
    /// A router asks.
    Query(Query),
    /// A host says what it listens to.
    Report(Reports<'a>),
    /// A message that cannot be believed.
    Malformed,
    /// Not for a group, or not understood.
    Other,
}

/// A query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) ipv6: bool,
    /// It asks for every group.
    pub(super) general: bool,
    /// It has a source: one without comes from a switch, not from a router (RFC 4541, 2.1.1 (1) b).
    pub(super) router: bool,
    /// What hosts take at most to answer.
    pub(super) response: Duration,
}

/// What a host says about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It listens, to all sources or to some.
    Join,
    /// It has ceased to listen.
    Leave,
}

/// What a host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reports<'a> {
    /// About one group.
    One(IpAddr, Change),
    /// About several: group records, all of them whole.
    Records {
        bytes: &'a [u8],
        count: u16,
        ipv6: bool,
    },
}

/// Looks at an IP packet: all of it, or of data at least the fixed header.
pub(super) fn parse(packet: &[u8]) -> Seen<'_> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        _ => Seen::Other,
    }
}

fn parse_v4(packet: &[u8]) -> Seen<'_> {
    let Some(header) = packet.first_chunk::<20>() else {
        return Seen::Other;
    };
    if header[9] != ip_proto::IGMP {
        let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
        return match dst.is_multicast() {
            true => Seen::Data(dst.into()),
            false => Seen::Other,
        };
    }
    let Ok(ip) = Ipv4Packet::parse(packet) else {
        return Seen::Malformed;
    };
    let message = packet
        .get(ip.header_len()..ip.total_len())
        .unwrap_or_default();
    let intact = ip.verify_header_checksum()
        && !ip.is_fragment()
        && message.len() >= IGMP_LEN
        && checksum::sum(message).is_valid();
    match intact {
        true => parse_igmp(ip.src(), message),
        false => Seen::Malformed,
    }
}

fn parse_igmp(src: Ipv4Addr, message: &[u8]) -> Seen<'_> {
    let Some([kind, code, _, _, a, b, c, d]) = message.first_chunk::<IGMP_LEN>().copied() else {
        return Seen::Malformed;
    };
    let group = Ipv4Addr::new(a, b, c, d);
    let one = |change| match group.is_multicast() {
        true => Seen::Report(Reports::One(group.into(), change)),
        false => Seen::Malformed,
    };
    match kind {
        igmp::QUERY => {
            let response = match (message.len(), code) {
                (IGMP_LEN, 0) => V1_RESPONSE,
                (IGMP_LEN, code) => tenths(code.into()),
                (IGMP_V3_QUERY.., code) => tenths(exponential8(code)),
                _ => return Seen::Malformed,
            };
            Seen::Query(Query {
                ipv6: false,
                general: group.is_unspecified(),
                router: !src.is_unspecified(),
                response,
            })
        }
        igmp::V1_REPORT | igmp::V2_REPORT => one(Change::Join),
        igmp::V2_LEAVE => one(Change::Leave),
        igmp::V3_REPORT => records(message, u16::from_be_bytes([c, d]), false),
        // Multicast router discovery, mtrace, DVMRP: for whoever understands it (2.1.1 (3)).
        _ => Seen::Other,
    }
}

fn parse_v6(packet: &[u8]) -> Seen<'_> {
    let Some(header) = packet.first_chunk::<IPV6_HEADER>() else {
        return Seen::Other;
    };
    let Some(dst) = header.last_chunk::<16>().map(|dst| Ipv6Addr::from(*dst)) else {
        return Seen::Other;
    };
    if !dst.is_multicast() {
        return Seen::Other;
    }
    // MLD stands behind one hop-by-hop header, always.
    let behind = packet.get(IPV6_HEADER..IPV6_HEADER + 2);
    match (header[6], behind) {
        (ip_proto::HOP_BY_HOP, Some(&[ip_proto::ICMPV6, _])) => {}
        _ => return Seen::Data(dst.into()),
    }
    let Ok(ip) = Ipv6Packet::parse(packet) else {
        return Seen::Malformed;
    };
    let Some((alert, message)) = router_alert(packet, &ip) else {
        return Seen::Malformed;
    };
    let Some(kind @ (mld::QUERY | mld::V1_REPORT | mld::V1_DONE | mld::V2_REPORT)) =
        message.first().copied()
    else {
        return Seen::Data(dst.into());
    };
    // A host that has no address yet reports from "::", which routers ignore and switches do not
    // (RFC 3590, section 4; RFC 3810, section 5.2.13).
    let from_link = ip.src().is_unicast_link_local();
    let may_report = from_link || ip.src().is_unspecified();
    let pseudo = checksum::pseudo_v6(ip.src(), ip.dst(), ip_proto::ICMPV6, message.len());
    let intact = alert
        && ip.hop_limit() == 1
        && (pseudo + checksum::sum(message)).is_valid()
        && if kind == mld::QUERY {
            from_link
        } else {
            may_report
        };
    match intact {
        true => parse_mld(kind, message),
        false => Seen::Malformed,
    }
}

fn parse_mld(kind: u8, message: &[u8]) -> Seen<'_> {
    if kind == mld::V2_REPORT {
        return match message.get(6..8) {
            Some(&[high, low]) => records(message, u16::from_be_bytes([high, low]), true),
            _ => Seen::Malformed,
        };
    }
    let Some(fixed) = message.first_chunk::<MLD_LEN>() else {
        return Seen::Malformed;
    };
    let Some(group) = fixed.last_chunk::<16>().map(|it| Ipv6Addr::from(*it)) else {
        return Seen::Malformed;
    };
    let one = |change| match group.is_multicast() {
        true => Seen::Report(Reports::One(group.into(), change)),
        false => Seen::Malformed,
    };
    match kind {
        mld::QUERY => {
            let code = u16::from_be_bytes([fixed[4], fixed[5]]);
            let milliseconds = match message.len() {
                MLD_LEN => u64::from(code),
                MLD_V2_QUERY.. => exponential16(code),
                _ => return Seen::Malformed,
            };
            Seen::Query(Query {
                ipv6: true,
                general: group.is_unspecified(),
                router: true,
                response: Duration::from_millis(milliseconds),
            })
        }
        mld::V1_REPORT => one(Change::Join),
        _ => one(Change::Leave),
    }
}

/// What follows the hop-by-hop header, and whether that alerts routers to MLD (RFC 2711).
fn router_alert<'a>(packet: &'a [u8], ip: &Ipv6Packet<&[u8]>) -> Option<(bool, &'a [u8])> {
    let payload = packet.get(IPV6_HEADER..IPV6_HEADER + ip.payload_len())?;
    let len = (usize::from(*payload.get(1)?) + 1) * 8;
    let (header, message) = payload.split_at_checked(len)?;
    let mut options = header.get(2..)?;
    let mut alert = false;
    while let Some((kind, rest)) = options.split_first() {
        if *kind == 0 {
            options = rest;
            continue;
        }
        let (len, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked((*len).into())?;
        alert |= *kind == 5 && value == [0, 0];
        options = rest;
    }
    Some((alert, message))
}

fn tenths(tenths: u64) -> Duration {
    Duration::from_millis(tenths * 100)
}

/// The floating-point form of RFC 3376, section 4.1.1.
fn exponential8(code: u8) -> u64 {
    let (code, exponent) = (u64::from(code), code >> 4 & 0x7);
    match code {
        0..128 => code,
        _ => (code & 0xf | 0x10) << (exponent + 3),
    }
}

/// The floating-point form of RFC 3810, section 5.1.3.
fn exponential16(code: u16) -> u64 {
    let (code, exponent) = (u64::from(code), code >> 12 & 0x7);
    match code {
        0..0x8000 => code,
        _ => (code & 0xfff | 0x1000) << (exponent + 3),
    }
}

/// A report with group records behind its first 8 bytes, if they are all there.
fn records(message: &[u8], count: u16, ipv6: bool) -> Seen<'_> {
    let bytes = message.get(8..).unwrap_or_default();
    let mut rest = bytes;
    for _ in 0..count {
        match record(rest, ipv6) {
            Some((group, _, behind)) if group.is_multicast() => rest = behind,
            _ => return Seen::Malformed,
        }
    }
    Seen::Report(Reports::Records { bytes, count, ipv6 })
}

/// A group record (RFC 3376, section 4.2.4; RFC 3810, section 5.2), what it says, and what follows.
///
/// The switch has one list for each group, whatever the sources: the superset of all that is asked
/// for (RFC 4541, 2.1.2 (7)).
fn record(bytes: &[u8], ipv6: bool) -> Option<(IpAddr, Option<Change>, &[u8])> {
    let [kind, auxiliary, sources @ ..] = *bytes.first_chunk::<4>()?;
    let sources = usize::from(u16::from_be_bytes(sources));
    let (group, width) = match ipv6 {
        true => (IpAddr::from(*bytes.get(4..)?.first_chunk::<16>()?), 16),
        false => (IpAddr::from(*bytes.get(4..)?.first_chunk::<4>()?), 4),
    };
    let len = 4 + width + sources * width + usize::from(auxiliary) * 4;
    let change = match (kind, sources) {
        // The include modes: to nothing is to leave.
        (3, 0) => Some(Change::Leave),
        // Nothing newly allowed; and what is blocked is no end of the rest, which ages.
        (1 | 5, 0) | (6, _) => None,
        (1..=5, _) => Some(Change::Join),
        // Unknown kinds are ignored (RFC 3376, section 4.2.12 and 4.2.16).
        _ => None,
    };
    Some((group, change, bytes.get(len..)?))
}

impl Reports<'_> {
    /// Calls `with` for each group that something is said about.
    pub(super) fn for_each(self, mut with: impl FnMut(IpAddr, Change)) {
        match self {
            Reports::One(group, change) => with(group, change),
            Reports::Records { bytes, count, ipv6 } => {
                let mut rest = bytes;
                for _ in 0..count {
                    let Some((group, change, behind)) = record(rest, ipv6) else {
                        return;
                    };
                    if let Some(change) = change {
                        with(group, change);
                    }
                    rest = behind;
                }
            }
        }
    }
}
