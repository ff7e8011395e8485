//! A scatter list that lives on the stack.

use core::mem::MaybeUninit;
use core::ops::Deref;

use super::IoSegment;

const CAPACITY: usize = 20;

/// The list has no room for another segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentListFull;

impl core::fmt::Display for SegmentListFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("scatter list is full")
    }
}

impl core::error::Error for SegmentListFull {}

/// At most [`SegmentList::CAPACITY`] segments, without allocation; a slice of them by `Deref`.
///
/// Room that is not used is not initialised, so that making one costs nothing.
#[derive(Clone)]
pub struct SegmentList<'a> {
    segments: [MaybeUninit<IoSegment<'a>>; CAPACITY],
    len: usize,
}

impl Default for SegmentList<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> SegmentList<'a> {
    /// Room for the 18 pieces in which a Linux guest hands over 64 KiB (the linear part and 17
    /// page fragments), for the copy of the head, and for a header in front.
    pub const CAPACITY: usize = CAPACITY;

    /// The empty list.
    #[inline]
    pub const fn new() -> Self {
        Self {
            segments: [const { MaybeUninit::uninit() }; CAPACITY],
            len: 0,
        }
    }

    /// A list whose first place is taken, by nothing yet: see [`Self::set_first`].
    #[inline]
    pub(crate) const fn with_place() -> Self {
        let mut list = Self::new();
        list.segments[0] = MaybeUninit::new(IoSegment::EMPTY);
        list.len = 1;
        list
    }

    /// Puts a segment, empty or not, in the place of the first.
    #[inline]
    pub(crate) fn set_first(&mut self, segment: IoSegment<'a>) {
        self.segments[0].write(segment);
        self.len = self.len.max(1);
    }

    /// Forgets all segments behind the first `len`.
    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends a segment; an empty one is left out.
    ///
    /// # Errors
    /// [`SegmentListFull`], and the list is unchanged.
    #[inline]
    pub fn push(&mut self, segment: IoSegment<'a>) -> Result<(), SegmentListFull> {
        if segment.is_empty() {
            return Ok(());
        }
        let slot = self.segments.get_mut(self.len).ok_or(SegmentListFull)?;
        slot.write(segment);
        self.len += 1;
        Ok(())
    }

    /// Bytes in all segments.
    #[inline]
    pub fn total_len(&self) -> usize {
        self.iter().map(IoSegment::len).sum()
    }

    /// The `take` bytes from `skip` on; shorter if there are fewer.
    #[inline]
    #[must_use]
    pub fn range(&self, skip: usize, take: usize) -> Self {
        let mut list = Self::new();
        // A part of a list has no more pieces than the list.
        let _ = list.push_range(self, skip, take);
        list
    }

    /// Appends the `take` bytes of `segments` from `skip` on, as far as there is room.
    #[inline]
    pub(crate) fn push_range(
        &mut self,
        segments: &[IoSegment<'a>],
        mut skip: usize,
        mut take: usize,
    ) -> Result<(), SegmentListFull> {
        for segment in segments {
            if take == 0 {
                break;
            }
            let part = segment.slice(skip, take);
            skip -= skip.min(segment.len());
            take -= part.len();
            self.push(part)?;
        }
        Ok(())
    }

    /// Copies from `offset` on into `out`; returns how many bytes there were.
    pub fn copy_to_slice(&self, offset: usize, out: &mut [u8]) -> usize {
        copy_to_slice(self, offset, out)
    }
}

/// Copies from `offset` in the segments on into `out`; returns how many bytes there were.
pub(crate) fn copy_to_slice(
    segments: &[IoSegment<'_>],
    mut offset: usize,
    out: &mut [u8],
) -> usize {
    let mut done = 0;
    for segment in segments {
        let Some(rest) = out.get_mut(done..) else {
            break;
        };
        done += segment.copy_to_slice(offset, rest);
        offset -= offset.min(segment.len());
    }
    done
}

impl<'a> Deref for SegmentList<'a> {
    type Target = [IoSegment<'a>];

    #[inline]
    fn deref(&self) -> &[IoSegment<'a>] {
        // SAFETY: `push` initialised the first `len` slots, and `MaybeUninit<T>` has the layout
        // of `T`.
        unsafe { core::slice::from_raw_parts(self.segments.as_ptr().cast(), self.len) }
    }
}

impl core::fmt::Debug for SegmentList<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_says_so_and_empty_segments_take_no_room() {
        let bytes = [7u8; 3];
        let mut list = SegmentList::new();
        for _ in 0..SegmentList::CAPACITY {
            list.push(IoSegment::EMPTY).unwrap();
            list.push(IoSegment::from(&bytes[..])).unwrap();
        }
        assert_eq!(list.push(IoSegment::from(&bytes[..])), Err(SegmentListFull));
        assert_eq!(list.push(IoSegment::EMPTY), Ok(()));
        assert_eq!(list.len(), SegmentList::CAPACITY);
        assert_eq!(list.total_len(), 3 * SegmentList::CAPACITY);
    }

    #[test]
    fn ranges_cross_segments() {
        let (a, b, c) = ([1u8, 2], [3u8, 4, 5], [6u8]);
        let all = [&a[..], &b[..], &c[..]].map(IoSegment::from);
        for skip in 0..8 {
            for take in 0..8 {
                let mut list = SegmentList::new();
                list.push_range(&all, skip, take).unwrap();
                let mut out = [0; 8];
                let n = list.copy_to_slice(0, &mut out);
                let whole = [1u8, 2, 3, 4, 5, 6];
                let from = skip.min(6);
                let want = &whole[from..(from + take).min(6)];
                assert_eq!(&out[..n], want, "{skip} {take}");
            }
        }
    }
}
