//! Replacing fields and keeping account of what that does to a checksum.

use net_wire::checksum::Delta;

/// Puts `new` at `at` and says how a checksum over these bytes changes.
///
/// The field begins at an even offset of what is summed and has whole words. Past the end of
/// `bytes` nothing is written and nothing changes.
pub(crate) fn replace<const N: usize>(bytes: &mut [u8], at: usize, new: [u8; N]) -> Delta {
    const { assert!(N.is_multiple_of(2), "a checksum sums words") }
    let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<N>) else {
        return Delta::ZERO;
    };
    let old = core::mem::replace(field, new);
    // A delta of equal words is the other zero, which would turn a stored 0xffff into 0x0000.
    if old == new {
        return Delta::ZERO;
    }
    let (old, new) = (old.as_chunks::<2>().0, new.as_chunks::<2>().0);
    old.iter().zip(new).fold(Delta::ZERO, |delta, (old, new)| {
        delta.plus(Delta::new16(
            u16::from_be_bytes(*old),
            u16::from_be_bytes(*new),
        ))
    })
}

/// Applies `delta` to the checksum at `at` and says how a checksum over that field changes.
pub(crate) fn checksum(bytes: &mut [u8], at: usize, delta: Delta) -> Delta {
    match word(bytes, at) {
        Some(old) => replace(bytes, at, delta.apply(old).to_be_bytes()),
        None => Delta::ZERO,
    }
}

/// As [`checksum`], for UDP, where 0 says "none" (RFC 768).
pub(crate) fn checksum_udp(bytes: &mut [u8], at: usize, delta: Delta) -> Delta {
    match word(bytes, at) {
        Some(old) => replace(bytes, at, delta.apply_udp(old).to_be_bytes()),
        None => Delta::ZERO,
    }
}

/// The word at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_field_changes_no_checksum() {
        let mut bytes = [1, 2, 0xff, 0xff];
        let delta = replace(&mut bytes, 0, [1, 2]);
        checksum(&mut bytes, 2, delta);
        assert_eq!(bytes, [1, 2, 0xff, 0xff]);
    }

    #[test]
    fn nothing_is_written_past_the_end() {
        let mut bytes = [7; 5];
        for at in [2, 4, 5, 6, usize::MAX] {
            assert_eq!(replace(&mut bytes, at, [0; 4]), Delta::ZERO, "{at}");
        }
        assert_eq!(bytes, [7; 5]);
        assert_ne!(replace(&mut bytes, 1, [0; 4]), Delta::ZERO);
        assert_eq!(bytes, [7, 0, 0, 0, 0]);
    }
}
