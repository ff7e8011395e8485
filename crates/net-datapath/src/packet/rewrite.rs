//! Changing the headers: in the private copy, and in the room in front of it.

use net_wire::MacAddr;
use net_wire::checksum::Delta;
use net_wire::ethernet::{EtherType, HEADER_LEN, VLAN_TAG_LEN};

use super::{HEAD_MAX, HEADROOM, L3, MAX_FRAME_LEN, PacketMeta, ROOM, ZeroCopyPacket, head_len};
use crate::segment::copy_to_slice;

impl ZeroCopyPacket<'_> {
    /// Sets where the frame goes.
    #[inline]
    pub fn set_dst_mac(&mut self, mac: MacAddr) {
        self.put(0, mac.0);
    }

    /// Sets where the frame comes from.
    #[inline]
    pub fn set_src_mac(&mut self, mac: MacAddr) {
        self.put(6, mac.0);
    }

    /// Takes one from the time to live, or hop limit, and returns what is left; the checksum of an
    /// IPv4 header follows (RFC 1624).
    ///
    /// `None`, and nothing is changed, where the packet is not IP or is not to be forwarded: 1 or
    /// less was left (RFC 1812, section 5.3.1; RFC 8200, section 3).
    #[inline]
    pub fn decrement_ttl(&mut self) -> Option<u8> {
        let at = usize::from(self.meta().l3_offset);
        match self.meta().l3 {
            L3::Ipv4 => {
                let [ttl, protocol, high, low] = self.array(at + 8);
                let left = ttl.checked_sub(1).filter(|left| *left > 0)?;
                let word = |ttl| u16::from_be_bytes([ttl, protocol]);
                let check = Delta::new16(word(ttl), word(left));
                let [high, low] = check.apply(u16::from_be_bytes([high, low])).to_be_bytes();
                self.put(at + 8, [left, protocol, high, low]);
                Some(left)
            }
            L3::Ipv6 => {
                let [hops] = self.array(at + 7);
                let left = hops.checked_sub(1).filter(|left| *left > 0)?;
                self.put(at + 7, [left]);
                Some(left)
            }
            L3::Arp | L3::Other => None,
        }
    }

    /// Puts `header` in front of the frame: a tunnel's Ethernet, IP and UDP headers for example.
    /// [`Self::meta`] then describes the frame that begins with it, and a partial checksum is still
    /// found ([`Self::vnet`]).
    ///
    /// A super-frame in a tunnel is none that [`crate::gso`] or a port without tunnel offloads
    /// understands, and padding of the inner frame counts as its payload: cut the one and
    /// [complete](Self::complete_checksum) the other first.
    ///
    /// `None`, and nothing is changed, where [`Self::headroom`] is too short or the frame would be
    /// longer than [`MAX_FRAME_LEN`].
    #[inline]
    pub fn push_head(&mut self, header: &[u8]) -> Option<()> {
        self.grow(header.len())?;
        if let Some(front) = self.head_mut().get_mut(..header.len()) {
            front.copy_from_slice(header);
        }
        self.reparse();
        Some(())
    }

    /// Takes the first `n` bytes away: a tunnel's headers for example. [`Self::meta`] then
    /// describes the frame that begins behind them.
    ///
    /// Where the remaining head lacks headers of that frame, they are copied now: from behind the
    /// head, up to 128 bytes in all, so that what a header says is still read once.
    ///
    /// `None`, and nothing is changed, where less than an Ethernet header would be left or a
    /// partial checksum starts in those bytes.
    #[inline]
    pub fn pull_head(&mut self, n: usize) -> Option<()> {
        let offload = self.vnet().pulled(n)?;
        self.parse_behind(n)?;
        self.record.set_offload(offload);
        Some(())
    }

    /// Takes `n` bytes away and parses what is left; `None`, and nothing is changed, where that is
    /// less than an Ethernet header.
    pub(super) fn parse_behind(&mut self, n: usize) -> Option<()> {
        let len = self.len().checked_sub(n).filter(|len| *len >= HEADER_LEN)?;
        let offload = *self.vnet();
        let head = usize::from(self.head_len);
        let kept = head.saturating_sub(n);
        let start = usize::from(self.start) + n.min(head);

        // Often all headers are there already: a tag came or went.
        let front = self.room.get(start..start + kept)?;
        if let Ok(mut meta) = PacketMeta::parse(front, len)
            && head_len(&meta, front, len) <= kept
        {
            meta.offload = offload;
            self.record.set(meta);
            self.start = start as u8;
            self.head_len = kept as u8;
            self.len = len as u32;
            return Some(());
        }
        // `kept` is below HEAD_MAX here, because no head needs more.
        let want = HEAD_MAX.min(len);
        let mut room = [0; ROOM];
        room.get_mut(HEADROOM..HEADROOM + kept)?
            .copy_from_slice(front);
        let skip = n.saturating_sub(head);
        let room_behind = room.get_mut(HEADROOM + kept..HEADROOM + want)?;
        copy_to_slice(self.rest(), skip, room_behind);
        let front = room.get(HEADROOM..HEADROOM + want)?;
        let mut meta = PacketMeta::parse(front, len).ok()?;
        meta.offload = offload;
        // What was in the head stays there: it may have been rewritten.
        let head = head_len(&meta, front, len).max(kept);
        self.pieces = self.rest_range(skip + head - kept, len - head);
        self.room = room;
        self.record.set(meta);
        self.start = HEADROOM as u8;
        self.head_len = head as u8;
        self.len = len as u32;
        Some(())
    }

    /// Puts an 802.1Q tag (priority, drop eligibility, VLAN id) behind the hardware addresses.
    ///
    /// `None`, and nothing is changed, under the conditions of [`Self::push_head`].
    #[inline]
    pub fn push_vlan(&mut self, tag: u16) -> Option<()> {
        let addresses: [u8; 12] = self.array(0);
        self.grow(VLAN_TAG_LEN)?;
        self.put(0, addresses);
        self.put(12, EtherType::VLAN.0.to_be_bytes());
        self.put(14, tag.to_be_bytes());
        self.reparse();
        Some(())
    }

    /// Takes the outer 802.1Q or 802.1ad tag away and returns it; `None`, and nothing is changed,
    /// where there is none.
    #[inline]
    pub fn pop_vlan(&mut self) -> Option<u16> {
        let tag = self.meta().vlan()?;
        let before: [u8; 16] = self.array(0);
        let [addresses @ .., _, _, _, _] = before;
        self.put(VLAN_TAG_LEN, addresses);
        if self.pull_head(VLAN_TAG_LEN).is_none() {
            self.put(0, before);
            return None;
        }
        Some(tag)
    }

    /// Makes the head `n` bytes longer at the front; the caller fills them and parses.
    #[inline]
    fn grow(&mut self, n: usize) -> Option<()> {
        let start = usize::from(self.start).checked_sub(n)?;
        if self.len() + n > MAX_FRAME_LEN {
            return None;
        }
        let pushed = self.vnet().pushed(n)?;
        // The record is of the head as it is: it is not left for later any more.
        self.meta();
        self.record.set_offload(pushed);
        self.start = start as u8;
        self.head_len += n as u8;
        self.len += n as u32;
        Some(())
    }

    /// Stores `bytes` at `at` of the head, where they fit.
    #[inline(always)]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        let room = self.head_mut().get_mut(at..);
        if let Some(field) = room.and_then(|room| room.first_chunk_mut()) {
            *field = bytes;
        }
    }
}
