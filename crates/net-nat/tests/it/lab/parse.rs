//! Reading packets, without the crates under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the headers of a packet say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) v4: bool,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// TCP and UDP, except in fragments without a header; else 0.
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// The type, the code and the identifier of an ICMP message; else 0.
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) ident: u16,
    /// The identification of IPv4, or of an IPv6 fragment header.
    pub(crate) id: u32,
    pub(crate) dont_fragment: bool,
    /// Where a fragment belongs, in bytes, and whether more follow.
    pub(crate) offset: usize,
    pub(crate) more: bool,
    pub(crate) ttl: u8,
    /// Where the transport header begins and where the packet ends.
    pub(crate) l4: usize,
    pub(crate) end: usize,
    pub(crate) packet: Vec<u8>,
}

impl Seen {
    pub(crate) fn src(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.sport)
    }

    pub(crate) fn dst(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dport)
    }

    /// The transport header and what follows it.
    pub(crate) fn l4(&self) -> &[u8] {
        &self.packet[self.l4..self.end]
    }

    /// What follows the transport header.
    pub(crate) fn data(&self) -> &[u8] {
        let header = match self.protocol {
            6 => usize::from(self.l4()[12] >> 4) * 4,
            17 | 1 | 58 => 8,
            _ => 0,
        };
        &self.l4()[header..]
    }

    /// The packet that an ICMP error quotes; as much of it as there is.
    #[track_caller]
    pub(crate) fn quoted(&self) -> Seen {
        assert!(matches!(self.protocol, 1 | 58), "not ICMP: {self:?}");
        see(self.data())
    }

    pub(crate) fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.packet[at], self.packet[at + 1]])
    }

    /// A flag byte of TCP.
    pub(crate) fn flags(&self) -> u8 {
        self.l4()[13]
    }
}

/// Reads a packet, which may end early (as quoted ones do).
#[track_caller]
pub(crate) fn see(packet: &[u8]) -> Seen {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let mut seen = match packet[0] >> 4 {
        4 => Seen {
            v4: true,
            src: IpAddr::V4(Ipv4Addr::new(
                packet[12], packet[13], packet[14], packet[15],
            )),
            dst: IpAddr::V4(Ipv4Addr::new(
                packet[16], packet[17], packet[18], packet[19],
            )),
            protocol: packet[9],
            id: word(4).into(),
            dont_fragment: word(6) & 0x4000 != 0,
            offset: usize::from(word(6) & 0x1fff) * 8,
            more: word(6) & 0x2000 != 0,
            ttl: packet[8],
            l4: usize::from(packet[0] & 15) * 4,
            end: usize::from(word(2)).min(packet.len()),
            ..empty()
        },
        6 => {
            let addr = |at: usize| {
                let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            let mut seen = Seen {
                src: addr(8),
                dst: addr(24),
                protocol: packet[6],
                dont_fragment: true,
                ttl: packet[7],
                l4: 40,
                end: (40 + usize::from(word(4))).min(packet.len()),
                ..empty()
            };
            // Hop-by-hop, routing, destination options, fragment (RFC 8200, section 4).
            while matches!(seen.protocol, 0 | 43 | 60 | 44)
                && (seen.protocol != 44 || seen.offset == 0)
            {
                let at = seen.l4;
                if seen.protocol == 44 {
                    seen.offset = usize::from(word(at + 2) & !7);
                    seen.more = word(at + 2) & 1 != 0;
                    seen.id = u32::from(word(at + 4)) << 16 | u32::from(word(at + 6));
                    seen.l4 += 8;
                } else {
                    seen.l4 += 8 + usize::from(packet[at + 1]) * 8;
                }
                seen.protocol = packet[at];
            }
            seen
        }
        version => panic!("IP version {version}"),
    };
    seen.packet = packet.to_vec();
    if seen.offset == 0 && packet.len() >= seen.l4 + 8 {
        match seen.protocol {
            6 | 17 => (seen.sport, seen.dport) = (word(seen.l4), word(seen.l4 + 2)),
            1 | 58 => {
                (seen.kind, seen.code) = (packet[seen.l4], packet[seen.l4 + 1]);
                seen.ident = word(seen.l4 + 4);
            }
            _ => {}
        }
    }
    seen
}

fn empty() -> Seen {
    Seen {
        v4: false,
        src: Ipv4Addr::UNSPECIFIED.into(),
        dst: Ipv4Addr::UNSPECIFIED.into(),
        protocol: 0,
        sport: 0,
        dport: 0,
        kind: 0,
        code: 0,
        ident: 0,
        id: 0,
        dont_fragment: false,
        offset: 0,
        more: false,
        ttl: 0,
        l4: 0,
        end: 0,
        packet: Vec::new(),
    }
}
