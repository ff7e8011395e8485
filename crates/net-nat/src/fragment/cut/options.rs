//! Which options a fragment takes along (RFC 791, section 3.1).

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Set in the type of an option that every fragment must have: a source route, a security label.
const COPIED: u8 = 0x80;

/// The options one by one, as bytes, without padding; `None` for one that passes the end.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let len = match *self.0 {
                [] | [END, ..] => return None,
                [NO_OPERATION, ref rest @ ..] => {
                    self.0 = rest;
                    continue;
                }
                [_, len, ..] if len >= 2 => usize::from(len),
                _ => usize::MAX,
            };
            let Some((option, rest)) = self.0.split_at_checked(len) else {
                self.0 = &[];
                return Some(None);
            };
            self.0 = rest;
            return Some(Some(option));
        }
    }
}

/// Whether every option ends within the header.
pub(super) fn are_whole(options: &[u8]) -> bool {
    Options(options).all(|option| option.is_some())
}

/// Length of the options of a fragment that is not the first, in bytes: a multiple of 4.
pub(super) fn copied_len(options: &[u8]) -> usize {
    copied(options)
        .map(<[u8]>::len)
        .sum::<usize>()
        .next_multiple_of(4)
}

/// Writes them to `out`, which is as long as [`copied_len`] says.
pub(super) fn write_copied(options: &[u8], out: &mut [u8]) {
    out.fill(END);
    let copied = copied(options).flatten();
    for (to, from) in out.iter_mut().zip(copied) {
        *to = *from;
    }
}

fn copied(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    Options(options)
        .flatten()
        .filter(|option| option.first().is_some_and(|kind| kind & COPIED != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc791_only_copied_options_are_taken_along() {
        // Record route (7), no operation, strict source route (137), stream id (136), end, dirt.
        let options = [
            7, 7, 4, 0, 0, 0, 0, 1, 137, 7, 4, 10, 0, 0, 9, 136, 4, 1, 2, 0, 0xff, 0xff, 0xff, 0xff,
        ];
        assert!(are_whole(&options));
        assert_eq!(copied_len(&options), 12);
        let mut out = [0xaa; 12];
        write_copied(&options, &mut out);
        assert_eq!(out, [137, 7, 4, 10, 0, 0, 9, 136, 4, 1, 2, 0]);
    }

    #[test]
    fn options_past_the_end_are_seen() {
        for options in [
            &[7][..],
            &[137, 5, 0, 0],
            &[1, 1, 1, 136],
            &[7, 0, 0, 0],
            &[7, 1, 0, 0],
        ] {
            assert!(!are_whole(options), "{options:?}");
            assert_eq!(copied_len(options), 0);
        }
        for options in [&[][..], &[0, 137, 99, 0], &[1, 1, 1, 1], &[136, 4, 0, 0]] {
            assert!(are_whole(options), "{options:?}");
        }
    }
}
