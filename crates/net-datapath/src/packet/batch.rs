//! Packets made where they stay, one batch after the other.

use alloc::vec::Vec;
use core::fmt;

use super::{PacketError, ZeroCopyPacket};
use crate::segment::IoSegment;
use crate::vnet::VirtioNetHdr;

/// Room for the packets of a batch, kept from batch to batch.
///
/// A packet borrows from the buffers it was made of, so it cannot be stored beside them; and it is
/// large, so that moving it costs more than making it. This keeps the places: each batch is made in
/// them ([`fill`](Self::fill)), seen through the [`PacketFill`], and over when that ends.
///
/// ```
/// use net_datapath::packet::PacketBatch;
/// use net_datapath::VirtioNetHdr;
///
/// let mut batch = PacketBatch::new();
/// for frame in [[0xff; 60], [0xfe; 60]] {
///     let mut fill = batch.fill();
///     fill.push_slice(&frame, VirtioNetHdr::PLAIN)?;
///     assert_eq!(fill.packets()[0].len(), 60);
/// }
/// # Ok::<(), net_datapath::PacketError>(())
/// ```
pub struct PacketBatch {
    /// Whatever they were made of last is not looked at: a fill shows what it has made itself.
    places: Vec<ZeroCopyPacket<'static>>,
}

impl Default for PacketBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl PacketBatch {
    /// The usual number of packets in a batch: enough to spread the cost of a call and of a cache
    /// miss, few enough to stay in the first-level cache.
    pub const LEN: usize = 32;

    /// Room for [`Self::LEN`] packets.
    pub fn new() -> Self {
        Self::with_capacity(Self::LEN)
    }

    /// Room for `capacity` packets.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            places: (0..capacity).map(|_| ZeroCopyPacket::blank()).collect(),
        }
    }

    /// Begins a batch.
    #[inline]
    pub fn fill<'a>(&mut self) -> PacketFill<'_, 'a> {
        let (places, len) = (self.places.as_mut_ptr().cast(), self.places.len());
        PacketFill {
            // SAFETY: only the lifetime of what packets borrow is another one. `packets` shows no
            // place that the fill has not made anew with data of `'a`; and what stays in a place
            // afterwards is never read, by the same rule for the next fill.
            places: unsafe { core::slice::from_raw_parts_mut(places, len) },
            len: 0,
        }
    }
}

impl fmt::Debug for PacketBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketBatch(room for {})", self.places.len())
    }
}

/// A batch in the making, of frames that live for `'a`.
pub struct PacketFill<'b, 'a> {
    places: &'b mut [ZeroCopyPacket<'a>],
    len: usize,
}

impl<'a> PacketFill<'_, 'a> {
    /// Packets made so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for another.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.len < self.places.len()
    }

    /// The packets made so far, to be looked at and rewritten.
    #[inline]
    pub fn packets(&mut self) -> &mut [ZeroCopyPacket<'a>] {
        &mut self.places[..self.len]
    }

    /// Makes a packet as [`ZeroCopyPacket::from_slice`] does.
    ///
    /// # Errors
    /// As there, and [`PacketError::BatchFull`]; the batch is as it was.
    #[inline]
    pub fn push_slice(
        &mut self,
        frame: &'a [u8],
        header: VirtioNetHdr,
    ) -> Result<&mut ZeroCopyPacket<'a>, PacketError> {
        self.push_with(|place| place.assign_slice(frame, header))
    }

    /// Makes a packet as [`ZeroCopyPacket::from_segments`] does.
    ///
    /// # Errors
    /// As there, and [`PacketError::BatchFull`]; the batch is as it was.
    #[inline]
    pub fn push_segments(
        &mut self,
        segments: &[IoSegment<'a>],
        header: VirtioNetHdr,
    ) -> Result<&mut ZeroCopyPacket<'a>, PacketError> {
        self.push_with(|place| place.assign(segments, header))
    }

    /// [`Self::push_segments`] for a frame in one piece, whose headers are read when somebody asks for
    /// [`ZeroCopyPacket::meta`]. So the head of a long one has 128 bytes, however long its headers are.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn push_segment(
        &mut self,
        frame: IoSegment<'a>,
        header: VirtioNetHdr,
    ) -> Result<&mut ZeroCopyPacket<'a>, PacketError> {
        self.push_with(|place| place.assign_one(frame, header))
    }

    /// Forgets all packets behind the first `len`.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[inline(always)]
    fn push_with(
        &mut self,
        make: impl FnOnce(&mut ZeroCopyPacket<'a>) -> Result<(), PacketError>,
    ) -> Result<&mut ZeroCopyPacket<'a>, PacketError> {
        let place = self
            .places
            .get_mut(self.len)
            .ok_or(PacketError::BatchFull)?;
        make(place)?;
        self.len += 1;
        Ok(place)
    }
}

impl fmt::Debug for PacketFill<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.places[..self.len]).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet whose headers are read late is the packet whose headers were read at once: what was
    /// rewritten before somebody asked does not show, as it does not in the other.
    #[test]
    fn a_record_made_late_is_the_record_made_at_once() {
        type Step = fn(&mut ZeroCopyPacket<'_>);
        let steps: [Step; 7] = [
            |_| {},
            |packet| packet.head_mut()[..30].fill(0),
            |packet| packet.set_dst_mac(net_wire::MacAddr([9; 6])),
            |packet| {
                packet.set_vnet(VirtioNetHdr {
                    flags: 2,
                    ..VirtioNetHdr::PLAIN
                })
            },
            |packet| _ = packet.push_vlan(7),
            |packet| _ = packet.pull_head(4),
            |packet| _ = packet.decrement_ttl(),
        ];
        let whole = |packet: &ZeroCopyPacket<'_>| {
            let mut bytes = alloc::vec![0; packet.len()];
            packet.copy_range(0, &mut bytes);
            bytes
        };
        let header = VirtioNetHdr {
            hdr_len: 42,
            ..VirtioNetHdr::PLAIN
        };
        let mut batch = PacketBatch::with_capacity(1);
        for payload in [0, 18, 86, 87, 1400] {
            for (ipv6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
                let frame = crate::test_frames::Frame {
                    ipv6,
                    udp,
                    payload: crate::test_frames::payload(payload),
                    ..Default::default()
                };
                let bytes = frame.build(false);
                for (first, second) in steps.iter().flat_map(|a| steps.map(|b| (a, b))) {
                    let mut late = batch.fill();
                    let late = late.push_segment(bytes[..].into(), header).unwrap();
                    let mut once =
                        ZeroCopyPacket::from_segments(&[bytes[..].into()], header).unwrap();
                    once.meta();
                    for packet in [&mut *late, &mut once] {
                        first(packet);
                        second(packet);
                    }
                    let copy = late.clone();
                    for packet in [&*late, &copy] {
                        assert_eq!(packet.meta(), once.meta());
                        assert_eq!(packet.vnet(), once.vnet());
                        assert!(packet.head().starts_with(once.head()));
                        assert_eq!(whole(packet), whole(&once));
                    }
                }
            }
        }
        let mut fill = batch.fill();
        let short = fill.push_segment((&[1u8; 13][..]).into(), header);
        assert_eq!(short.err(), Some(PacketError::TooShort));
        assert!(fill.is_empty());
    }

    #[test]
    fn packets_are_as_if_made_one_by_one_and_stay_where_they_are() {
        let mut batch = PacketBatch::with_capacity(3);
        let mut places = None;
        for round in 0..4u8 {
            // Longer and shorter by turns: nothing of the last round shows.
            let frames: Vec<Vec<u8>> = (0..5)
                .map(|n| alloc::vec![n ^ round; 14 + 200 * usize::from((n ^ round) & 3)])
                .collect();
            let mut fill = batch.fill();
            assert!(fill.is_empty() && fill.packets().is_empty());
            for (n, frame) in frames.iter().enumerate() {
                let (a, b) = frame.split_at(frame.len() / 2);
                let made = match n % 2 {
                    0 => fill.push_slice(frame, VirtioNetHdr::PLAIN),
                    _ => fill.push_segments(&[a.into(), b.into()], VirtioNetHdr::PLAIN),
                };
                assert_eq!(made.is_ok(), n < 3);
                assert_eq!(fill.has_room(), n < 2);
            }
            // What is no packet takes no place.
            let mut short = batch.fill();
            assert_eq!(
                short
                    .push_slice(&frames[0][..13], VirtioNetHdr::PLAIN)
                    .err(),
                Some(PacketError::TooShort)
            );
            assert!(short.is_empty());
            let mut fill = batch.fill();
            for frame in &frames[..3] {
                fill.push_slice(frame, VirtioNetHdr::PLAIN).unwrap();
            }
            let at = fill.packets().as_ptr() as usize;
            assert_eq!(*places.get_or_insert(at), at);
            for (packet, frame) in fill.packets().iter_mut().zip(&frames) {
                let mut bytes = alloc::vec![0; packet.len() + 1];
                assert_eq!(packet.copy_range(0, &mut bytes), frame.len());
                assert_eq!(&bytes[..frame.len()], frame);
                let mut joined = Vec::new();
                for segment in packet.segments() {
                    let mut part = alloc::vec![0; segment.len()];
                    segment.copy_to_slice(0, &mut part);
                    joined.extend(part);
                }
                assert_eq!(&joined, frame);
            }
        }
    }
}
