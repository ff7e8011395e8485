//! Cutting an IPv4 packet for a smaller MTU (RFC 791, section 3.2; RFC 4787, REQ-13).

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use net_wire::checksum;
use net_wire::ipv4::{Ipv4Packet, MIN_HEADER_LEN};

mod options;

/// The least MTU a packet is cut for: a header without options and 8 bytes of payload.
///
/// Internet modules must pass 68 bytes (RFC 791, section 3.2), which is enough for any header; below
/// that, a packet with many options may not be cut.
pub const MIN_MTU: usize = MIN_HEADER_LEN + 8;

const RESERVED: u16 = 0x8000;
const MORE_FRAGMENTS: u16 = 0x2000;
const MAX_LEN: usize = 65_535;

/// Why a packet was not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CutError {
    /// Not an IPv4 packet, or its options or its place in the datagram cannot be.
    Malformed,
    /// The packet does not fit and says "don't fragment": its sender is owed an ICMP error of type 3
    /// code 4.
    DontFragment,
    /// The MTU is below [`MIN_MTU`], or below the packet's header and 8 bytes.
    Mtu,
    /// The buffer is shorter than the fragment.
    Buffer,
}

impl fmt::Display for CutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed packet",
            Self::DontFragment => "packet must not be fragmented",
            Self::Mtu => "MTU too small for the packet's header",
            Self::Buffer => "buffer shorter than the fragment",
        })
    }
}

impl core::error::Error for CutError {}

/// The fragments of an IPv4 packet, in order, one at a time and without allocation.
///
/// The packet may be a fragment itself. One that fits the MTU is its only fragment, unchanged. The
/// header's checksum is taken for right and computed anew for each fragment; what lies behind the
/// total length is left out. A checksum of the payload must be whole before: no fragment can finish
/// a partial one.
///
/// ```
/// use net_nat::fragment::Fragments;
/// use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
///
/// let mut packet = [0u8; 20 + 100];
/// let repr = Ipv4Repr {
///     src: [192, 0, 2, 1].into(),
///     dst: [192, 0, 2, 2].into(),
///     protocol: 17,
///     ttl: 64,
///     tos: 0,
///     id: 7,
///     dont_fragment: false,
///     payload_len: 100,
/// };
/// repr.emit(&mut packet);
///
/// let mut fragments = Fragments::new(&packet, 68)?;
/// let mut buffer = [0u8; 68];
/// let mut offsets = Vec::new();
/// while let Some(len) = fragments.write_next(&mut buffer)? {
///     let fragment = Ipv4Packet::parse(&buffer[..len]).unwrap();
///     assert!(fragment.verify_header_checksum());
///     offsets.push(fragment.fragment_offset());
/// }
/// assert_eq!(offsets, [0, 48, 96]);
/// # Ok::<(), net_nat::fragment::CutError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fragments<'a> {
    header: &'a [u8],
    /// What is left to send.
    payload: &'a [u8],
    /// Where that begins in the datagram, in bytes.
    offset: usize,
    /// The reserved flag, as it came.
    flags: u16,
    /// Whether something follows the packet that is being cut.
    more: bool,
    mtu: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    First,
    Later,
    Done,
}

impl<'a> Fragments<'a> {
    /// Prepares to cut `packet` into pieces of at most `mtu` bytes, headers included.
    ///
    /// # Errors
    /// [`CutError::Malformed`], [`CutError::DontFragment`] and [`CutError::Mtu`].
    pub fn new(packet: &'a [u8], mtu: usize) -> Result<Self, CutError> {
        if mtu < MIN_MTU {
            return Err(CutError::Mtu);
        }
        let view = Ipv4Packet::parse(packet).map_err(|_| CutError::Malformed)?;
        let (header_len, total_len) = (view.header_len(), view.total_len());
        let (header, payload) = packet
            .get(..total_len)
            .and_then(|packet| packet.split_at_checked(header_len))
            .ok_or(CutError::Malformed)?;
        let mut cut = Self {
            header,
            payload,
            offset: view.fragment_offset(),
            flags: word(header, 6) & RESERVED,
            more: view.more_fragments(),
            mtu,
            state: State::Whole,
        };
        if total_len <= mtu {
            return Ok(cut);
        }
        if view.dont_fragment() {
            return Err(CutError::DontFragment);
        }
        // Else the last pieces had offsets that do not fit their field, or could not be followed.
        if header_len + cut.offset + payload.len() > MAX_LEN
            || (cut.more && !payload.len().is_multiple_of(8))
            || !options::are_whole(view.options())
        {
            return Err(CutError::Malformed);
        }
        if mtu < header_len + 8 {
            return Err(CutError::Mtu);
        }
        cut.state = State::First;
        Ok(cut)
    }

    /// Length of the next fragment, in bytes; `None` after the last.
    #[must_use]
    pub fn next_len(&self) -> Option<usize> {
        (self.state != State::Done).then(|| {
            let header = self.header_len();
            header + self.payload_len(header)
        })
    }

    /// Writes the next fragment to the start of `out` and returns its length; `None` after the last.
    ///
    /// # Errors
    /// [`CutError::Buffer`] if `out` is shorter; the fragment is still the next one then.
    pub fn write_next(&mut self, out: &mut [u8]) -> Result<Option<usize>, CutError> {
        if self.state == State::Done {
            return Ok(None);
        }
        let header_len = self.header_len();
        let payload_len = self.payload_len(header_len);
        let len = header_len + payload_len;
        let (header, payload) = out
            .get_mut(..len)
            .and_then(|out| out.split_at_mut_checked(header_len))
            .ok_or(CutError::Buffer)?;
        let (now, rest) = self
            .payload
            .split_at_checked(payload_len)
            .ok_or(CutError::Buffer)?;
        payload.copy_from_slice(now);
        match self.state {
            State::Whole => header.copy_from_slice(self.header),
            _ => self.write_header(header, len, !rest.is_empty()),
        }
        self.payload = rest;
        self.offset += payload_len;
        self.state = match (self.state, rest) {
            (State::Whole, _) | (_, []) => State::Done,
            _ => State::Later,
        };
        Ok(Some(len))
    }

    fn header_len(&self) -> usize {
        match self.state {
            State::Later => MIN_HEADER_LEN + options::copied_len(self.options()),
            _ => self.header.len(),
        }
    }

    fn options(&self) -> &'a [u8] {
        self.header.get(MIN_HEADER_LEN..).unwrap_or_default()
    }

    /// Payload of a fragment with a header of this length: all there is, or a multiple of 8.
    fn payload_len(&self, header: usize) -> usize {
        let room = self.mtu.saturating_sub(header);
        if self.payload.len() <= room {
            self.payload.len()
        } else {
            room & !7
        }
    }

    /// `header` is as long as [`Self::header_len`] says; `len` is that of the fragment.
    fn write_header(&self, header: &mut [u8], len: usize, followed: bool) {
        let header_words = (header.len() / 4) as u8;
        let (fixed, options) = header.split_at_mut(MIN_HEADER_LEN);
        for (to, from) in fixed.iter_mut().zip(self.header) {
            *to = *from;
        }
        if self.state == State::Later {
            options::write_copied(self.options(), options);
        } else {
            options.copy_from_slice(self.options());
        }
        let more = if followed || self.more {
            MORE_FRAGMENTS
        } else {
            0
        };
        fixed[0] = 0x40 | header_words;
        set_word(fixed, 2, len as u16);
        set_word(fixed, 6, self.flags | more | (self.offset / 8) as u16);
        set_word(fixed, 10, 0);
        let sum = checksum::sum(header).finish();
        set_word(header, 10, sum);
    }
}

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes, in order.
///
/// [`Fragments`] is the same without allocation, and says what is done.
///
/// # Errors
/// As [`Fragments::new`].
pub fn fragments_v4(packet: &[u8], mtu: usize) -> Result<impl Iterator<Item = Vec<u8>>, CutError> {
    let mut fragments = Fragments::new(packet, mtu)?;
    Ok(core::iter::from_fn(move || {
        let mut fragment = vec![0; fragments.next_len()?];
        fragments.write_next(&mut fragment).ok()??;
        Some(fragment)
    }))
}

fn word(header: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

fn set_word(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
