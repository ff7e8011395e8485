//! Where the packets of a benchmark come from.
//!
//! A packet is a template with the few bytes that differ written over it. Those bytes lie in an array
//! in the order the packets come, which is read from front to back, and a batch ahead of its use is
//! asked for: what a packet costs before it is translated is the same whether there are sixteen flows
//! or four million. (A processor sees by itself that an array is read from front to back, but seems to
//! forget it while it translates a batch of packets whose sessions lie anywhere.)

use std::sync::Arc;

use net_datapath::prefetch::prefetch_read;

use super::{DATA, Flow, Kind, LEN, fold, set_numbers, sum};

/// Packets that are asked for before they are made.
const AHEAD: usize = 64;

/// Fills buffers with packets.
pub trait Source {
    /// Writes a packet into each, `OFFSET` bytes from its beginning.
    ///
    /// # Panics
    /// If a buffer has not [`LEN`] bytes behind the offset.
    fn fill<const OFFSET: usize>(&mut self, packets: &mut [&mut [u8]]);
}

/// What differs from flow to flow: `N` bytes from the checksum of IPv4, or the addresses of IPv6, to
/// the ports, and the transport checksum.
#[derive(Clone, Copy)]
struct Record<const N: usize> {
    head: [u8; N],
    checksum: [u8; 2],
}

impl<const N: usize> Record<N> {
    /// `sums` are those of the template.
    #[inline]
    fn new(kind: Kind, (l3, l4): (u32, u32), flow: Flow) -> Self {
        let mut head = [0; N];
        // 36 bytes are two addresses of 16 and two ports; 14 have a checksum and addresses of 4.
        let start = if N == 36 { 0 } else { 2 };
        let (addrs, ports) = head[start..].split_at_mut(N - start - 4);
        let (src, dst) = addrs.split_at_mut(addrs.len() / 2);
        kind.put_addr(src, flow.src);
        kind.put_addr(dst, flow.dst);
        ports[..2].copy_from_slice(&flow.src_port.to_be_bytes());
        ports[2..].copy_from_slice(&flow.dst_port.to_be_bytes());
        let addrs = sum(&head[start..N - 4]);
        let ports = u32::from(flow.src_port) + u32::from(flow.dst_port);
        head[..start].copy_from_slice(&fold(l3 + addrs).to_be_bytes()[..start]);
        Self {
            head,
            checksum: fold(l4 + addrs + ports).to_be_bytes(),
        }
    }

    #[inline(always)]
    fn put(&self, template: &[u8; LEN], kind: Kind, packet: &mut [u8]) {
        let packet = packet.first_chunk_mut::<LEN>().expect("has room");
        *packet = *template;
        // Where the addresses of IPv6 begin, or the checksum of IPv4.
        let at = if N == 36 { 8 } else { 10 };
        packet[at..at + N].copy_from_slice(&self.head);
        packet[kind.checksum_at()..][..2].copy_from_slice(&self.checksum);
    }
}

/// How the numbers of TCP go on: by [`DATA`] bytes each time a flow comes up.
#[derive(Clone, Copy)]
struct Numbers {
    seq: u32,
    ack: u32,
    /// By how many segments the acknowledgments are behind.
    lag: i32,
    times: i32,
}

/// Packets of known flows in a given order, over and over. `N` is 14 for IPv4 and 36 for IPv6.
#[derive(Clone)]
pub struct Feed<const N: usize> {
    kind: Kind,
    template: [u8; LEN],
    records: Arc<[Record<N>]>,
    at: usize,
    /// Packets in which each flow comes up once, if the order is such.
    round: usize,
    numbers: Option<Numbers>,
}

impl<const N: usize> Feed<N> {
    /// The packets of these flows; each flow comes up once in `round` of them.
    ///
    /// # Panics
    /// If there is no flow, or they are not whole rounds.
    pub fn new(kind: Kind, round: usize, flows: impl IntoIterator<Item = Flow>) -> Self {
        let sums = kind.sums();
        let flows = flows.into_iter();
        let records: Arc<[_]> = flows.map(|flow| Record::new(kind, sums, flow)).collect();
        assert!(!records.is_empty() && records.len().is_multiple_of(round));
        Self {
            kind,
            template: kind.template(),
            records,
            at: 0,
            round,
            numbers: None,
        }
    }

    /// Each segment of a flow begins where the last one ended, and acknowledges what the other side
    /// has sent `lag` segments before; less than 0 is after.
    #[must_use]
    pub fn moving(mut self, lag: i32) -> Self {
        if let Kind::Tcp(_, seq, ack) = self.kind {
            self.numbers = Some(Numbers {
                seq,
                ack,
                lag,
                times: -1,
            });
            self.move_on();
        }
        self
    }

    /// Asks for `n` records, after the last of which the first one comes.
    #[inline(always)]
    fn prefetch(&self, at: usize, n: usize) {
        let records = self.records.get(at..).unwrap_or(&self.records);
        let records = records.iter().take(n);
        for record in records.step_by(64 / size_of::<Record<N>>()) {
            prefetch_read(record);
        }
    }

    fn move_on(&mut self) {
        if let Some(numbers) = &mut self.numbers {
            numbers.times += 1;
            let after = |n: i32| (n.max(0) as u32).wrapping_mul(DATA);
            let seq = numbers.seq.wrapping_add(after(numbers.times));
            let ack = numbers.ack.wrapping_add(after(numbers.times - numbers.lag));
            set_numbers(&mut self.template, seq, ack);
        }
    }
}

impl<const N: usize> Source for Feed<N> {
    #[inline(always)]
    fn fill<const OFFSET: usize>(&mut self, packets: &mut [&mut [u8]]) {
        let mut packets = packets.iter_mut();
        while packets.len() > 0 {
            let left = self.round - self.at % self.round;
            let n = left.min(packets.len());
            self.prefetch(self.at + AHEAD, n);
            let records = &self.records[self.at..][..n];
            for (record, packet) in records.iter().zip(&mut packets) {
                record.put(&self.template, self.kind, &mut packet[OFFSET..]);
            }
            self.at += n;
            if n == left {
                self.move_on();
                if self.at == self.records.len() {
                    self.at = 0;
                }
            }
        }
    }
}

/// Packets of known flows, and every so often one of a flow that never was before.
#[derive(Clone)]
pub struct Mix {
    known: Feed<14>,
    sums: (u32, u32),
    every: usize,
    hosts: usize,
    /// Packets so far, and new flows so far.
    packets: usize,
    flows: usize,
}

impl Mix {
    /// Each `every`-th packet is the first one of a new flow of one of so many hosts.
    pub fn new(known: Feed<14>, every: usize, hosts: usize) -> Self {
        Self {
            sums: known.kind.sums(),
            known,
            every,
            hosts,
            packets: 0,
            flows: 0,
        }
    }
}

impl Source for Mix {
    #[inline(always)]
    fn fill<const OFFSET: usize>(&mut self, packets: &mut [&mut [u8]]) {
        for packet in packets {
            self.packets += 1;
            if self.packets == self.every {
                self.packets = 0;
                self.flows += 1;
                let flow = Flow::new(self.flows, self.hosts);
                let known = &self.known;
                let record = Record::<14>::new(known.kind, self.sums, flow);
                record.put(&known.template, known.kind, &mut packet[OFFSET..]);
            } else {
                self.known.fill::<OFFSET>(std::slice::from_mut(packet));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ACK, PSH, SYN, order};
    use super::*;

    /// The sum over the transport header and what the checksum covers besides.
    fn transport_sum(packet: &[u8], ipv6: bool) -> u32 {
        let (src, l4) = if ipv6 { (8, 40) } else { (12, 20) };
        let len = if ipv6 { LEN } else { usize::from(packet[3]) };
        let protocol = packet[if ipv6 { 6 } else { 9 }];
        sum(&packet[src..l4]) + u32::from(protocol) + (len - l4) as u32 + sum(&packet[l4..len])
    }

    #[test]
    fn checksums_hold() {
        let flow = Flow::number(70_000);
        for kind in [
            Kind::Udp,
            Kind::Udp6,
            Kind::Tcp(SYN, 7, 0),
            Kind::Tcp(ACK | PSH, 0x1234_5678, 0x9abc_def0),
        ] {
            let packet = kind.packet(flow);
            let ipv6 = matches!(kind, Kind::Udp6);
            assert_eq!(kind.source(&packet), (flow.src, flow.src_port));
            assert_eq!(fold(transport_sum(&packet, ipv6)), 0, "{kind:?}");
            if !ipv6 {
                assert_eq!(fold(sum(&packet[..20])), 0, "{kind:?}");
            }
        }
    }

    #[test]
    fn numbers_move_on_once_for_each_flow() {
        let kind = Kind::Tcp(ACK | PSH, 1000, 2000);
        let mut feed = Feed::<14>::new(kind, 3, (0..6).map(Flow::number)).moving(1);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let mut bytes = [[0; LEN]; 4];
            let mut packets: Vec<_> = bytes.iter_mut().map(|b| b.as_mut_slice()).collect();
            feed.fill::<0>(&mut packets);
            for packet in packets {
                assert_eq!(fold(transport_sum(packet, false)), 0);
                seen.push((
                    u16::from_be_bytes([packet[26], packet[27]]) - 1000,
                    u16::from_be_bytes([packet[30], packet[31]]) - 2000,
                ));
            }
        }
        let steps = [(0, 0), (24, 0), (48, 24), (72, 48), (96, 72)];
        let expected = steps.iter().flat_map(|&step| [step; 3]);
        assert!(seen.iter().copied().take(15).eq(expected));
    }

    #[test]
    fn every_tenth_packet_is_new() {
        let known = Feed::new(Kind::Udp, 16, order::uniform(16).map(Flow::number));
        let mut mix = Mix::new(known, 10, 1);
        let mut bytes = [[0; LEN]; 50];
        let mut packets: Vec<_> = bytes.iter_mut().map(|b| b.as_mut_slice()).collect();
        mix.fill::<0>(&mut packets);
        let mut new: Vec<_> = packets.iter().map(|p| Kind::Udp.source(p).1).collect();
        new.retain(|&port| port < 40_000);
        new.dedup();
        assert_eq!(new.len(), 5);
    }
}
