//! Making packets, with checksums that hold.

use std::net::{IpAddr, SocketAddr};

use super::sum;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// The types of echo messages, by the version of the addresses: see [`echo`].
pub(crate) const ECHO: bool = true;
pub(crate) const ECHO_REPLY: bool = false;

/// An IP header.
#[derive(Debug, Clone)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Of IPv4, or of the fragment header of IPv6.
    pub(crate) id: u32,
    pub(crate) dont_fragment: bool,
    /// In bytes, and whether more follow. With IPv6 any but `None` makes a fragment header.
    pub(crate) fragment: Option<(usize, bool)>,
    /// IPv4 options, a multiple of 4 bytes; IPv6 extension headers, whose first one is named.
    pub(crate) options: Vec<u8>,
    pub(crate) extension: u8,
}

impl Ip {
    pub(crate) fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        Self {
            src,
            dst,
            protocol,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            dont_fragment: false,
            fragment: None,
            options: Vec::new(),
            extension: 0,
        }
    }

    /// The packet; the checksum of its header is right, what it carries stays as it is.
    pub(crate) fn carry(&self, l4: &[u8]) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + self.options.len();
                let (offset, more) = self.fragment.unwrap_or((0, false));
                let mut packet = vec![0x40 | (header / 4) as u8, self.tos];
                packet.extend(((header + l4.len()) as u16).to_be_bytes());
                packet.extend((self.id as u16).to_be_bytes());
                let flags = u16::from(self.dont_fragment) << 14 | u16::from(more) << 13;
                packet.extend((flags | (offset / 8) as u16).to_be_bytes());
                packet.extend([self.ttl, self.protocol, 0, 0]);
                packet.extend(src.octets());
                packet.extend(dst.octets());
                packet.extend(&self.options);
                let sum = !sum::fold(sum::add(0, &packet));
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend(l4);
                packet
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut rest = self.options.clone();
                let mut next = if rest.is_empty() {
                    self.protocol
                } else {
                    self.extension
                };
                if let Some((offset, more)) = self.fragment {
                    assert!(rest.is_empty(), "either options or a fragment");
                    rest.extend([self.protocol, 0]);
                    rest.extend((offset as u16 | u16::from(more)).to_be_bytes());
                    rest.extend(self.id.to_be_bytes());
                    next = 44;
                }
                rest.extend(l4);
                let mut packet = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
                packet.extend((rest.len() as u16).to_be_bytes());
                packet.extend([next, self.ttl]);
                packet.extend(src.octets());
                packet.extend(dst.octets());
                packet.extend(rest);
                packet
            }
            _ => panic!("{} and {} are of two families", self.src, self.dst),
        }
    }

    /// The packet; the checksum of what it carries is made right too.
    pub(crate) fn seal(&self, mut l4: Vec<u8>) -> Vec<u8> {
        if let Some(sum) = sum::transport(self.src, self.dst, self.protocol, &l4)
            && let Some(at) = sum::place(self.protocol)
        {
            l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self.carry(&l4)
    }
}

/// The transport header of a UDP datagram and its data, with checksum 0.
pub(crate) fn udp_l4(sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(sport.to_be_bytes());
    l4.extend(dport.to_be_bytes());
    l4.extend((8 + data.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(data);
    l4
}

/// A UDP datagram.
pub(crate) fn udp(src: SocketAddr, dst: SocketAddr, data: &[u8]) -> Vec<u8> {
    Ip::new(src.ip(), dst.ip(), 17).seal(udp_l4(src.port(), dst.port(), data))
}

/// A TCP segment; `Tcp::default()` and `..` for what does not matter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tcp<'a> {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// 0 stands for 65,535.
    pub(crate) window: u16,
    /// Padded to a multiple of 4 bytes.
    pub(crate) options: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl Tcp<'_> {
    /// The segment with its header, with checksum 0.
    pub(crate) fn l4(&self, sport: u16, dport: u16) -> Vec<u8> {
        let header = 20 + self.options.len().next_multiple_of(4);
        let mut l4 = Vec::new();
        l4.extend(sport.to_be_bytes());
        l4.extend(dport.to_be_bytes());
        l4.extend(self.seq.to_be_bytes());
        l4.extend(self.ack.to_be_bytes());
        l4.extend([((header / 4) << 4) as u8, self.flags]);
        let window = if self.window == 0 {
            65_535
        } else {
            self.window
        };
        l4.extend(window.to_be_bytes());
        l4.extend([0; 4]);
        l4.extend(self.options);
        l4.resize(header, 0);
        l4.extend(self.data);
        l4
    }
}

/// A TCP segment.
pub(crate) fn tcp(src: SocketAddr, dst: SocketAddr, segment: &Tcp<'_>) -> Vec<u8> {
    Ip::new(src.ip(), dst.ip(), 6).seal(segment.l4(src.port(), dst.port()))
}

/// An ICMP message of any kind: type, code, the four bytes that follow the checksum, and the rest.
pub(crate) fn icmp(
    src: IpAddr,
    dst: IpAddr,
    (kind, code): (u8, u8),
    second: [u8; 4],
    data: &[u8],
) -> Vec<u8> {
    let protocol = if src.is_ipv4() { 1 } else { 58 };
    let mut l4 = vec![kind, code, 0, 0];
    l4.extend(second);
    l4.extend(data);
    Ip::new(src, dst, protocol).seal(l4)
}

/// An echo request ([`ECHO`]) or reply ([`ECHO_REPLY`]).
pub(crate) fn echo(src: IpAddr, dst: IpAddr, request: bool, id: u16, seq: u16) -> Vec<u8> {
    let kind = match (src.is_ipv4(), request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    };
    let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
    icmp(src, dst, (kind, 0), [a, b, c, d], b"abcdefgh")
}

/// An ICMP error about `quoted`, of which 28 (IPv4) or all bytes up to 1232 are quoted.
pub(crate) fn icmp_error(
    src: IpAddr,
    dst: IpAddr,
    kind: (u8, u8),
    second: [u8; 4],
    quoted: &[u8],
) -> Vec<u8> {
    let len = if src.is_ipv4() {
        usize::from(quoted[0] & 15) * 4 + 8
    } else {
        1232
    };
    icmp(src, dst, kind, second, &quoted[..len.min(quoted.len())])
}

/// A packet of another protocol.
pub(crate) fn raw(src: IpAddr, dst: IpAddr, protocol: u8, data: &[u8]) -> Vec<u8> {
    Ip::new(src, dst, protocol).carry(data)
}

/// The fragments of a packet without options, in order, each with `len` bytes of payload (a multiple
/// of 8) but the last; `id` is their identification.
pub(crate) fn fragments(packet: &[u8], len: usize, id: u32) -> Vec<Vec<u8>> {
    assert_eq!(len % 8, 0);
    let seen = super::see(packet);
    let l4 = seen.l4();
    let mut ip = Ip::new(seen.src, seen.dst, seen.protocol);
    ip.id = id;
    let pieces = l4.chunks(len).enumerate().map(|(n, piece)| {
        let offset = n * len;
        ip.fragment = Some((offset, offset + piece.len() < l4.len()));
        ip.carry(piece)
    });
    pieces.collect()
}
