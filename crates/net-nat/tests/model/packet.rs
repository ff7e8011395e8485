//! Packets by what they mean, and the bytes that say so, with every checksum computed.

use std::net::IpAddr;

use net_nat::{Direction, Endpoint};

pub(crate) type End = Endpoint<IpAddr>;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// A protocol without ports.
pub(crate) const GRE: u8 = 47;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// What tracking looks at of a TCP segment; the window is always 8,192 bytes, without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Tcp(Segment),
    Udp {
        with_checksum: bool,
    },
    /// An echo; its identifier is the port of the end that the translator is in front of.
    Echo {
        reply: bool,
        id: u16,
    },
    Gre,
}

/// A packet of either family; the two addresses are of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: End,
    pub(crate) dst: End,
    pub(crate) body: Body,
    /// IPv4 only, as the next two.
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    /// Whether the IPv4 header has options, or the IPv6 header an extension.
    pub(crate) options: bool,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn is_v6(&self) -> bool {
        self.src.addr.is_ipv6()
    }

    pub(crate) fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp(_) => TCP,
            Body::Udp { .. } => UDP,
            Body::Echo { .. } => icmp(self.is_v6()),
            Body::Gre => GRE,
        }
    }

    /// The translator's side and the other one.
    pub(crate) fn ends(&self, direction: Direction) -> (End, End) {
        let (mut local, remote) = match direction {
            Direction::Outbound => (self.src, self.dst),
            Direction::Inbound => (self.dst, self.src),
        };
        if let Body::Echo { id, .. } = self.body {
            local.port = id;
        }
        (local, remote)
    }

    /// The same packet with another end on the translator's side.
    pub(crate) fn set_local(&mut self, direction: Direction, mut to: End) {
        if let Body::Echo { id, .. } = &mut self.body {
            *id = std::mem::take(&mut to.port);
        }
        match direction {
            Direction::Outbound => self.src = to,
            Direction::Inbound => self.dst = to,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut out = Vec::new();
        match (self.src.addr, self.dst.addr) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = if self.options { 24 } else { 20 };
                out.extend_from_slice(&[0x40 | (header / 4) as u8, 0]);
                out.extend_from_slice(&((header + transport.len()) as u16).to_be_bytes());
                out.extend_from_slice(&self.id.to_be_bytes());
                out.extend_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0]);
                out.extend_from_slice(&[64, self.protocol(), 0, 0]);
                out.extend_from_slice(&src.octets());
                out.extend_from_slice(&dst.octets());
                // Three no-operations and the end.
                out.resize(header, 1);
                if self.options {
                    out[header - 1] = 0;
                }
                let sum = !sum(&out);
                out[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let extension: &[u8] = match self.options {
                    // Destination options: padding alone.
                    true => &[self.protocol(), 0, 1, 4, 0, 0, 0, 0],
                    false => &[],
                };
                let next = if self.options { 60 } else { self.protocol() };
                out.extend_from_slice(&[0x60, 0, 0, 0]);
                let len = (extension.len() + transport.len()) as u16;
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(&[next, 64]);
                out.extend_from_slice(&src.octets());
                out.extend_from_slice(&dst.octets());
                out.extend_from_slice(extension);
            }
            _ => panic!("two families in one packet"),
        }
        out.extend_from_slice(&transport);
        out
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let ports = [self.src.port, self.dst.port]
            .map(u16::to_be_bytes)
            .concat();
        let check = match self.body {
            Body::Tcp(segment) => {
                out.extend_from_slice(&ports);
                out.extend_from_slice(&segment.seq.to_be_bytes());
                out.extend_from_slice(&segment.ack.to_be_bytes());
                out.extend_from_slice(&[0x50, segment.flags, 0x20, 0, 0, 0, 0, 0]);
                16
            }
            Body::Udp { .. } => {
                out.extend_from_slice(&ports);
                out.extend_from_slice(&(8 + self.payload.len() as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                6
            }
            Body::Echo { reply, id } => {
                let kind = match (self.is_v6(), reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                out.extend_from_slice(&[kind, 0, 0, 0]);
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&[0, 1]);
                2
            }
            Body::Gre => {
                out.extend_from_slice(&[0, 0, 8, 0]);
                out.extend_from_slice(&self.payload);
                return out;
            }
        };
        out.extend_from_slice(&self.payload);
        let mut covered = out.clone();
        if self.protocol() != icmp(false) {
            covered = self.pseudo(out.len());
            covered.extend_from_slice(&out);
        }
        let value = match self.body {
            Body::Udp { with_checksum } if !with_checksum => 0,
            Body::Udp { .. } => match !sum(&covered) {
                0 => 0xffff,
                sum => sum,
            },
            _ => !sum(&covered),
        };
        out[check..check + 2].copy_from_slice(&value.to_be_bytes());
        out
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for addr in [self.src.addr, self.dst.addr] {
            match addr {
                IpAddr::V4(addr) => out.extend_from_slice(&addr.octets()),
                IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()),
            }
        }
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&u32::from(self.protocol()).to_be_bytes());
        out
    }
}

/// The protocol number of ICMP.
pub(crate) fn icmp(v6: bool) -> u8 {
    if v6 { 58 } else { 1 }
}

/// The ones'-complement sum, word by word (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0u32;
    for word in bytes.chunks(2) {
        total += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&b| u32::from(b));
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_wire::checksum;
    use net_wire::ipv4::Ipv4Packet;
    use net_wire::tcp::{SeqNumber, TcpSegment};
    use net_wire::udp::UdpDatagram;

    #[test]
    fn what_is_composed_is_what_the_parsers_read() {
        for (src, dst) in [("10.0.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")] {
            for options in [false, true] {
                let mut packet = Packet {
                    src: Endpoint::new(src.parse().unwrap(), 1234),
                    dst: Endpoint::new(dst.parse().unwrap(), 80),
                    body: Body::Udp {
                        with_checksum: true,
                    },
                    id: 7,
                    dont_fragment: false,
                    options,
                    payload: vec![1, 2, 3],
                };
                let bytes = packet.bytes();
                let l4 = bytes.len() - 11;
                let udp = UdpDatagram::parse(&bytes[l4..]).unwrap();
                assert_eq!((udp.src_port(), udp.dst_port()), (1234, 80));
                let mut covered = packet.pseudo(11);
                covered.extend_from_slice(&bytes[l4..]);
                assert!(checksum::sum(&covered).is_valid());
                if let Ok(ip) = Ipv4Packet::parse(&bytes[..]) {
                    assert!(ip.verify_header_checksum());
                }
                packet.body = Body::Tcp(Segment {
                    flags: SYN,
                    seq: 1,
                    ack: 2,
                });
                let bytes = packet.bytes();
                let tcp = TcpSegment::parse(&bytes[bytes.len() - 23..]).unwrap();
                assert_eq!((tcp.seq(), tcp.ack()), (SeqNumber(1), SeqNumber(2)));
            }
        }
    }
}
