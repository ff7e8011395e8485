//! Fragments of the guests, put together within strict bounds (RFC 791, 3.2; RFC 8200, 4.5).
//!
//! Theory of operation: every guest has a short list of incomplete datagrams, oldest first. A
//! datagram is one buffer that is already laid out as the Ethernet frame it will become: room for
//! the headers, then the payload, each fragment copied to its place. Which parts are there is a
//! sorted list of byte ranges, merged as they meet, so that a datagram sent in order needs one
//! range whatever its number of fragments.
//!
//! What a hostile guest can try, and what happens:
//!
//! - more datagrams, or bytes, than its quota: its own oldest datagram goes;
//! - a fragment far from the start, to make the buffer large: the buffer counts whole;
//! - overlapping fragments: the datagram is discarded, and so is every later fragment of it until
//!   the time-out (RFC 5722). A repetition of bytes that are already there, bit for bit, is no
//!   overlap but the network's duplicate;
//! - two ends, data behind the end, lengths that are no multiple of 8: discarded the same way;
//! - every second fragment only, to grow the range list: at most [`MAX_RANGES`].

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use net_datapath::{FragmentState, L3, ZeroCopyPacket};
use net_wire::ethernet::{self, EtherType};
use net_wire::{ipv4, ipv6};

use crate::{Config, PortId, ReassemblyStatistics};

/// Gaps a datagram may have while it is incomplete, plus one.
const MAX_RANGES: usize = 64;
/// What the length fields of both families can say: IPv4 counts its header, IPv6 does not.
const MAX_LENGTH: usize = 65_535;
/// The largest frame that comes of it.
const MAX_FRAME: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + MAX_LENGTH;

/// The incomplete datagrams of all guests.
#[derive(Debug)]
pub(crate) struct Reassembler {
    guests: BTreeMap<PortId, Guest>,
    max_datagrams: usize,
    max_bytes: usize,
    timeout: Duration,
    stats: ReassemblyStatistics,
}

#[derive(Debug, Default)]
struct Guest {
    /// Oldest first; all of them have the same time-out.
    pending: VecDeque<Pending>,
    bytes: usize,
}

/// What fragments of one datagram have in common: addresses, protocol (IPv4 only), identification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    v6: bool,
    addresses: [u8; 32],
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Pending {
    key: Key,
    deadline: Duration,
    /// Ethernet and IP header still empty, payload from `headers` on.
    frame: Vec<u8>,
    headers: usize,
    /// IP header of the first fragment, without options, and the protocol that follows.
    first: Option<([u8; ipv6::HEADER_LEN], u8)>,
    /// Length of the payload, once the last fragment is there.
    total: Option<usize>,
    /// Parts that are there: sorted, disjoint, not touching.
    ranges: Vec<(usize, usize)>,
    /// Contradicted itself: takes nothing more until the time-out.
    poisoned: bool,
}

/// One fragment, located in its packet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    key: Key,
    /// Where the data stands in the frame.
    data: usize,
    /// Where it belongs in the datagram's payload.
    from: usize,
    to: usize,
    more: bool,
    /// Of an IPv6 packet, the header behind the fragment header; of an IPv4 packet the protocol.
    protocol: u8,
}

/// Why a datagram is discarded.
enum Fault {
    Overlap,
    Malformed,
}

impl Reassembler {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            guests: BTreeMap::new(),
            max_datagrams: config.limits.reassembly_datagrams,
            max_bytes: config.limits.reassembly_bytes,
            timeout: config.timeouts.reassembly,
            stats: ReassemblyStatistics::default(),
        }
    }

    /// Takes a fragment; returns the whole packet as an Ethernet frame (addresses zero) when it
    /// was the one that was missing.
    pub(crate) fn push(
        &mut self,
        port: PortId,
        packet: &ZeroCopyPacket<'_>,
        now: Duration,
    ) -> Option<Vec<u8>> {
        self.on_deadline(now);
        self.stats.fragments += 1;
        let Some(piece) = locate(packet) else {
            self.stats.malformed += 1;
            return None;
        };
        if self.max_datagrams == 0 {
            self.stats.refused_limit += 1;
            return None;
        }
        let guest = self.guests.entry(port).or_default();
        let at = match guest
            .pending
            .iter()
            .position(|pending| pending.key == piece.key)
        {
            Some(at) => at,
            None => {
                while guest.pending.len() >= self.max_datagrams {
                    guest.drop_oldest();
                    self.stats.evicted += 1;
                }
                guest
                    .pending
                    .push_back(Pending::new(piece.key, now.saturating_add(self.timeout)));
                guest.pending.len() - 1
            }
        };
        if !self.reserve(port, at, &piece) {
            self.stats.refused_limit += 1;
            self.prune(port);
            return None;
        }
        let guest = self.guests.get_mut(&port)?;
        let at = guest
            .pending
            .iter()
            .position(|pending| pending.key == piece.key)?;
        let pending = guest.pending.get_mut(at)?;
        match pending.add(&piece, packet) {
            Ok(false) => None,
            Ok(true) => {
                let pending = guest.pending.remove(at)?;
                guest.bytes -= pending.frame.len();
                self.stats.completed += 1;
                self.prune(port);
                pending.finish()
            }
            Err(fault) => {
                guest.bytes -= pending.frame.len();
                pending.poison();
                match fault {
                    Fault::Overlap => self.stats.overlapping += 1,
                    Fault::Malformed => self.stats.malformed += 1,
                }
                None
            }
        }
    }

    /// Grows the buffer of the datagram at `at` for `piece`, at the cost of older datagrams of the
    /// same guest. `false`: not even that helps.
    fn reserve(&mut self, port: PortId, at: usize, piece: &Piece) -> bool {
        let Some(guest) = self.guests.get_mut(&port) else {
            return false;
        };
        let Some(pending) = guest.pending.get(at).filter(|pending| !pending.poisoned) else {
            return true;
        };
        let need = pending.headers + piece.to;
        if need <= pending.frame.len() {
            return true;
        }
        // Powers of two, so that many small fragments do not copy the buffer many times.
        let size = need.next_power_of_two().clamp(2048, MAX_FRAME);
        let growth = size - pending.frame.len();
        if size > self.max_bytes {
            return false;
        }
        let mut at = at;
        while guest.bytes + growth > self.max_bytes {
            // The datagram itself is the only one that must stay.
            let victim = usize::from(at == 0);
            let Some(gone) = guest.pending.remove(victim) else {
                return false;
            };
            guest.bytes -= gone.frame.len();
            at -= usize::from(victim < at);
            self.stats.evicted += 1;
        }
        if let Some(pending) = guest.pending.get_mut(at) {
            pending.frame.resize(size, 0);
            guest.bytes += growth;
        }
        true
    }

    /// When [`Self::on_deadline`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.guests
            .values()
            .filter_map(|guest| Some(guest.pending.front()?.deadline))
            .min()
    }

    /// Gives up the datagrams whose time has passed.
    pub(crate) fn on_deadline(&mut self, now: Duration) {
        let Self { guests, stats, .. } = self;
        guests.retain(|_, guest| {
            while guest
                .pending
                .front()
                .is_some_and(|pending| pending.deadline <= now)
            {
                // A poisoned one has been counted already.
                stats.timed_out += u64::from(!guest.pending[0].poisoned);
                guest.drop_oldest();
            }
            !guest.pending.is_empty()
        });
    }

    /// Forgets a guest.
    pub(crate) fn guest_gone(&mut self, port: PortId) {
        self.guests.remove(&port);
    }

    /// The counters.
    pub(crate) fn statistics(&self) -> ReassemblyStatistics {
        let mut stats = self.stats;
        stats.pending_datagrams = self
            .guests
            .values()
            .map(|guest| guest.pending.len() as u64)
            .sum();
        stats.pending_bytes = self.guests.values().map(|guest| guest.bytes as u64).sum();
        stats
    }

    fn prune(&mut self, port: PortId) {
        if self
            .guests
            .get(&port)
            .is_some_and(|guest| guest.pending.is_empty())
        {
            self.guests.remove(&port);
        }
    }
}

impl Guest {
    fn drop_oldest(&mut self) {
        if let Some(gone) = self.pending.pop_front() {
            self.bytes -= gone.frame.len();
        }
    }
}

/// Finds the data of a fragment. `None`: empty, past 65,535 bytes, or not the last one and no
/// multiple of 8 long.
fn locate(packet: &ZeroCopyPacket<'_>) -> Option<Piece> {
    let meta = packet.meta();
    let fragment = packet
        .fragment()
        .filter(|_| meta.fragment != FragmentState::None)?;
    let head = packet.head();
    let at = usize::from(meta.l3_offset);
    let mut addresses = [0; 32];
    let (data, protocol, counted) = match meta.l3 {
        L3::Ipv4 => {
            addresses[..8].copy_from_slice(head.get(at + 12..at + 20)?);
            let header_len = usize::from(*head.get(at)? & 0x0f) * 4;
            (at + header_len, *head.get(at + 9)?, ipv4::MIN_HEADER_LEN)
        }
        L3::Ipv6 => {
            addresses.copy_from_slice(head.get(at + 8..at + 40)?);
            let header = usize::from(meta.fragment_header);
            (header + ipv6::FRAGMENT_HEADER_LEN, *head.get(header)?, 0)
        }
        L3::Arp | L3::Other => return None,
    };
    let len = (meta.l3_end as usize)
        .checked_sub(data)
        .filter(|len| *len > 0)?;
    let to = fragment.offset + len;
    if counted + to > MAX_LENGTH || (fragment.more && len % 8 != 0) {
        return None;
    }
    let v6 = meta.l3 == L3::Ipv6;
    // Only IPv4 counts the protocol among what identifies a datagram.
    let key = Key {
        v6,
        addresses,
        protocol: if v6 { 0 } else { protocol },
        id: fragment.id,
    };
    Some(Piece {
        key,
        data,
        from: fragment.offset,
        to,
        more: fragment.more,
        protocol,
    })
}

impl Pending {
    fn new(key: Key, deadline: Duration) -> Self {
        let ip = if key.v6 {
            ipv6::HEADER_LEN
        } else {
            ipv4::MIN_HEADER_LEN
        };
        Self {
            key,
            deadline,
            frame: Vec::new(),
            headers: ethernet::HEADER_LEN + ip,
            first: None,
            total: None,
            ranges: Vec::new(),
            poisoned: false,
        }
    }

    fn poison(&mut self) {
        self.frame = Vec::new();
        self.ranges = Vec::new();
        self.poisoned = true;
    }

    /// Copies a piece to its place; `true` when nothing is missing any more.
    fn add(&mut self, piece: &Piece, packet: &ZeroCopyPacket<'_>) -> Result<bool, Fault> {
        if self.poisoned {
            return Ok(false);
        }
        let (from, to) = (piece.from, piece.to);
        let end = self.total.unwrap_or(usize::MAX);
        let last_known = self.ranges.last().map_or(0, |range| range.1);
        let contradicts = match piece.more {
            true => to >= end,
            false => (end != usize::MAX && to != end) || last_known > to,
        };
        if contradicts {
            return Err(Fault::Malformed);
        }
        // Ranges before this index end before the piece starts.
        let at = self.ranges.partition_point(|range| range.1 <= from);
        if let Some(&(start, stop)) = self.ranges.get(at).filter(|range| range.0 < to) {
            let repeated = start <= from && to <= stop && self.holds(piece, packet);
            return if repeated {
                Ok(false)
            } else {
                Err(Fault::Overlap)
            };
        }
        let place = self
            .frame
            .get_mut(self.headers + from..self.headers + to)
            .ok_or(Fault::Malformed)?;
        if packet.copy_range(piece.data, place) != to - from {
            return Err(Fault::Malformed);
        }
        if from == 0 {
            self.first = first_header(packet).map(|header| (header, piece.protocol));
        }
        if !piece.more {
            self.total = Some(to);
        }
        let joins_before = at > 0 && self.ranges[at - 1].1 == from;
        let joins_after = self.ranges.get(at).is_some_and(|range| range.0 == to);
        match (joins_before, joins_after) {
            (true, true) => self.ranges[at - 1].1 = self.ranges.remove(at).1,
            (true, false) => self.ranges[at - 1].1 = to,
            (false, true) => self.ranges[at].0 = from,
            (false, false) if self.ranges.len() >= MAX_RANGES => return Err(Fault::Malformed),
            (false, false) => self.ranges.insert(at, (from, to)),
        }
        Ok(self.total.is_some_and(|total| self.ranges == [(0, total)]))
    }

    /// Whether the bytes of the piece are already there, bit for bit.
    fn holds(&self, piece: &Piece, packet: &ZeroCopyPacket<'_>) -> bool {
        let mut copy = vec![0; piece.to - piece.from];
        packet.copy_range(piece.data, &mut copy);
        self.frame
            .get(self.headers + piece.from..self.headers + piece.to)
            == Some(&copy[..])
    }

    /// Writes the headers in front of the complete payload.
    fn finish(mut self) -> Option<Vec<u8>> {
        let (total, (header, protocol)) = (self.total?, self.first?);
        self.frame.truncate(self.headers + total);
        let (link, ip) = self.frame.split_at_mut(ethernet::HEADER_LEN);
        let ethertype = if self.key.v6 {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        };
        link[12..14].copy_from_slice(&ethertype.0.to_be_bytes());
        if self.key.v6 {
            ip[..ipv6::HEADER_LEN].copy_from_slice(&header);
            ip[4..6].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
            ip[6] = protocol;
        } else {
            let len = ipv4::MIN_HEADER_LEN;
            ip[..len].copy_from_slice(&header[..len]);
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&u16::try_from(len + total).ok()?.to_be_bytes());
            ip[6..8].fill(0);
            ipv4::Ipv4Packet::parse(ip).ok()?.fill_header_checksum();
        }
        Some(self.frame)
    }
}

/// The fixed part of the IP header: 20 bytes of IPv4, 40 of IPv6.
fn first_header(packet: &ZeroCopyPacket<'_>) -> Option<[u8; ipv6::HEADER_LEN]> {
    let at = usize::from(packet.meta().l3_offset);
    let mut header = [0; ipv6::HEADER_LEN];
    let len = match packet.meta().l3 {
        L3::Ipv4 => ipv4::MIN_HEADER_LEN,
        _ => ipv6::HEADER_LEN,
    };
    header[..len].copy_from_slice(packet.head().get(at..at + len)?);
    Some(header)
}

#[cfg(test)]
mod tests;
