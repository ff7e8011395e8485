//! Packets of 64 bytes of many flows, made faster than an engine translates them.
//!
//! | file | what is there |
//! |---|---|
//! | here | flows by number, and a whole packet of one |
//! | `feed` | packets of known flows in a given order, packets of ever new flows, and both mixed |
//! | `order` | orders: random, and by Zipf's law |

mod feed;
pub mod order;

pub use feed::{Feed, Mix, Source};

/// Bytes of a packet, from the IP header on.
pub const LEN: usize = 64;
/// Ports of an outside address that flows from high ports can have: 1,024 to 65,535.
pub const PORTS: usize = 64_512;
/// Flows of one inside host: a 64th of [`PORTS`], so that hosts fill addresses evenly.
pub const FLOWS_PER_HOST: usize = 1_008;
/// Bytes of a segment that carries data.
pub const DATA: u32 = (LEN - 40) as u32;

/// IPv6 packets have the IPv4 addresses of a flow behind one of these.
const INSIDE: [u8; 12] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const OUTSIDE: [u8; 12] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];

/// Addresses and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub src: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination address.
    pub dst: u32,
    /// Destination port.
    pub dst_port: u16,
}

impl Flow {
    /// A flow from the inside, for each number another.
    ///
    /// Flows whose numbers are a multiple of [`PORTS`] apart have different remote addresses: a
    /// translator with a single outside address can tell their answers apart.
    pub fn number(i: usize) -> Self {
        Self {
            src: inside_host(i / FLOWS_PER_HOST),
            src_port: 40_000 + (i % FLOWS_PER_HOST) as u16,
            // 198.18.0.0/15 is for benchmarks (RFC 2544).
            dst: 0xc612_0000 + (i / PORTS * 256 + i % 251) as u32,
            dst_port: 4433,
        }
    }

    /// A flow that none of [`Self::number`] is, of one of so many hosts.
    pub fn new(i: usize, hosts: usize) -> Self {
        Self {
            src: inside_host(i % hosts),
            src_port: 1_024 + (i / hosts % 38_000) as u16,
            dst: 0xc613_0000 + (i % 65_521) as u32,
            dst_port: 4433,
        }
    }

    /// The way back, when the source is seen as `outside`.
    pub fn answer(self, outside: (u32, u16)) -> Self {
        Self {
            src: self.dst,
            src_port: self.dst_port,
            dst: outside.0,
            dst_port: outside.1,
        }
    }
}

/// The address of an inside host.
fn inside_host(number: usize) -> u32 {
    0x0a00_0100 + number as u32
}

/// How many inside hosts so many flows have.
pub fn hosts(flows: usize) -> usize {
    flows.div_ceil(FLOWS_PER_HOST)
}

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4: flags, sequence number, acknowledgment. A segment with PSH has [`DATA`] bytes
    /// of data, all others none.
    Tcp(u8, u32, u32),
}

/// TCP flags.
pub const SYN: u8 = 0x02;
/// TCP flags.
pub const ACK: u8 = 0x10;
/// TCP flags.
pub const PSH: u8 = 0x08;

impl Kind {
    /// Where the transport checksum is.
    const fn checksum_at(self) -> usize {
        match self {
            Self::Udp => 26,
            Self::Udp6 => 46,
            Self::Tcp(..) => 36,
        }
    }

    /// A packet without addresses, ports and checksums.
    fn template(self) -> [u8; LEN] {
        let mut packet = [0; LEN];
        let (l4, len) = match self {
            Self::Udp6 => (40, LEN),
            Self::Tcp(flags, ..) if flags & PSH == 0 => (20, 40),
            _ => (20, LEN),
        };
        let protocol = if let Self::Tcp(..) = self { 6 } else { 17 };
        let l4_len = ((len - l4) as u16).to_be_bytes();
        if l4 == 40 {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&l4_len);
            packet[6..8].copy_from_slice(&[protocol, 64]);
        } else {
            // Don't fragment, as hosts that look for the path MTU send them.
            packet[..10].copy_from_slice(&[0x45, 0, 0, len as u8, 0, 1, 0x40, 0, 64, protocol]);
        }
        match self {
            Self::Tcp(flags, seq, ack) => {
                packet[32..36].copy_from_slice(&[5 << 4, flags, 0xff, 0xff]);
                set_numbers(&mut packet, seq, ack);
            }
            Self::Udp | Self::Udp6 => packet[l4 + 4..l4 + 6].copy_from_slice(&l4_len),
        }
        packet
    }

    /// Sums of what a template contributes to the two checksums, pseudo header included.
    fn sums(self) -> (u32, u32) {
        let packet = self.template();
        let (l4, protocol, len) = match self {
            Self::Udp6 => (40, 17, LEN),
            Self::Udp => (20, 17, LEN),
            Self::Tcp(..) => (20, 6, usize::from(packet[3])),
        };
        let pseudo = protocol + (len - l4) as u32;
        (sum(&packet[..l4]), pseudo + sum(&packet[l4..len]))
    }

    /// An address as the packet has it: 4 or 16 bytes.
    fn put_addr(self, to: &mut [u8], addr: u32) {
        let (prefix, host) = to.split_at_mut(to.len() - 4);
        host.copy_from_slice(&addr.to_be_bytes());
        let network = if addr >> 24 == 10 { INSIDE } else { OUTSIDE };
        prefix.copy_from_slice(&network[..prefix.len()]);
    }

    /// The source of a packet.
    pub fn source(self, packet: &[u8]) -> (u32, u16) {
        let (addr, port) = match self {
            Self::Udp6 => (20, 40),
            _ => (12, 20),
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| packet[addr + i]);
        let port = u16::from_be_bytes([packet[port], packet[port + 1]]);
        (u32::from_be_bytes([a, b, c, d]), port)
    }

    /// A whole packet with valid checksums.
    pub fn packet(self, flow: Flow) -> [u8; LEN] {
        let mut packet = [0; LEN];
        let mut packets = [packet.as_mut_slice()];
        match self {
            Self::Udp6 => Feed::<36>::new(self, 1, [flow]).fill::<0>(&mut packets),
            _ => Feed::<14>::new(self, 1, [flow]).fill::<0>(&mut packets),
        }
        packet
    }
}

/// Writes sequence number and acknowledgment into a TCP packet, and where there is data its
/// complements, so that the checksum does not depend on them.
fn set_numbers(packet: &mut [u8; LEN], seq: u32, ack: u32) {
    packet[24..28].copy_from_slice(&seq.to_be_bytes());
    packet[28..32].copy_from_slice(&ack.to_be_bytes());
    if packet[33] & PSH != 0 {
        packet[40..44].copy_from_slice(&(!seq).to_be_bytes());
        packet[44..48].copy_from_slice(&(!ack).to_be_bytes());
    }
}

/// The sum of 16-bit words, not folded.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|w| u32::from(w[0]) << 8 | w.get(1).copied().map_or(0, u32::from))
        .sum()
}

/// The checksum with such a sum.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}
