//! The bytes that travel in the transfers: the same on every side, never compressible, never the
//! same twice within a transfer, so that a lost, repeated or shifted piece changes the digest.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use crate::Result;

/// A stream of `len` bytes that depends on nothing but `len` and the position.
pub(crate) struct Body {
    state: u64,
    word: [u8; 8],
    used: usize,
    left: u64,
}

impl Body {
    /// The stream of this length.
    pub(crate) fn new(len: u64) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            word: [0; 8],
            used: 8,
            left: len,
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for byte in &mut out[..len] {
            if self.used == 8 {
                // xorshift64: quick, and its period is far longer than any transfer.
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                self.word = self.state.to_le_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// SHA-256 of everything a reader gives, in hexadecimal, and its length: by `sha256sum` of
/// coreutils, which has no part in what is tested.
///
/// # Errors
/// Where `sha256sum` cannot be run or the reader fails.
pub(crate) fn sha256(mut from: impl Read) -> Result<(String, u64)> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start sha256sum: {e}"))?;
    let mut into = child
        .stdin
        .take()
        .ok_or("sha256sum has no standard input")?;
    let copied = io::copy(&mut from, &mut into).and_then(|n| into.flush().map(|()| n));
    drop(into);
    let out = child
        .wait_with_output()
        .map_err(|e| format!("sha256sum: {e}"))?;
    let len = copied.map_err(|e| format!("reading what to digest: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let digest = text
        .split_whitespace()
        .next()
        .ok_or("sha256sum said nothing")?;
    Ok((digest.to_owned(), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_same_however_it_is_read() {
        let mut whole = Vec::new();
        Body::new(1000).read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len(), 1000);
        let mut pieces = vec![0; 1000];
        let mut body = Body::new(1000);
        for piece in pieces.chunks_mut(7) {
            body.read_exact(piece).unwrap();
        }
        assert_eq!(pieces, whole);
        assert_eq!(body.read(&mut [0; 4]).unwrap(), 0);
        assert!(
            whole.windows(16).all(|w| w[..8] != w[8..]),
            "no word follows itself"
        );
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let (digest, len) = sha256(&b"abc"[..]).unwrap();
        // FIPS 180-4, one-block example.
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(len, 3);
    }
}
