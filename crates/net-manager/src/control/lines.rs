//! Cuts a stream of bytes into lines of bounded length.

/// Bytes in, lines out; no I/O. A line longer than the bound is an error from which a stream does
/// not recover: where the next line begins is then anybody's guess.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Bytes at the front in which no newline has been found.
    searched: usize,
    max: usize,
}

/// A line is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// For lines of at most `max` bytes without their newline.
    pub(super) fn new(max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            searched: 0,
            max,
        }
    }

    /// Adds what was read.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its newline.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.buffer.len();
            return if self.searched > self.max {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found;
        if end > self.max {
            return Err(TooLong);
        }
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        self.searched = 0;
        Ok(Some(line))
    }

    /// How many bytes wait.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_came_in() {
        let text = b"one\n\ntwo three\nrest";
        for step in 1..=text.len() {
            let mut lines = Lines::new(16);
            let mut out = Vec::new();
            for piece in text.chunks(step) {
                lines.extend(piece);
                while let Some(line) = lines.next_line().unwrap() {
                    out.push(line);
                }
            }
            assert_eq!(out, [&b"one"[..], b"", b"two three"], "{step}");
            assert_eq!(lines.buffered(), 4);
        }
    }

    #[test]
    fn the_bound_is_exact() {
        let mut lines = Lines::new(4);
        lines.extend(b"1234\n");
        assert_eq!(lines.next_line(), Ok(Some(b"1234".to_vec())));
        lines.extend(b"12345\n");
        assert_eq!(lines.next_line(), Err(TooLong));
        // Without a newline the bound holds all the same.
        let mut lines = Lines::new(4);
        lines.extend(b"1234");
        assert_eq!(lines.next_line(), Ok(None));
        lines.extend(b"5");
        assert_eq!(lines.next_line(), Err(TooLong));
    }
}
