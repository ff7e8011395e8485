//! Writes what passes the switch into a capture file (the classic pcap format, microseconds).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use net_datapath::segment::IoSegment;

use crate::config::NetworkConfig;
use crate::error::ManagerError;

/// Longest frame kept whole: a super-frame with its Ethernet header.
const SNAP_LEN: u32 = 262_144;
/// Link type "Ethernet" (the pcap link-layer header types registry).
const LINKTYPE_ETHERNET: u32 = 1;

/// A capture file. A failed write ends the capture, never the network.
#[derive(Debug)]
pub(super) struct Capture {
    file: Option<BufWriter<File>>,
    scratch: Vec<u8>,
}

impl Capture {
    /// The capture that `config` asks for, if it does.
    ///
    /// # Errors
    /// [`ManagerError::Capture`] where the file cannot be made or written.
    pub(super) fn of(config: &NetworkConfig) -> Result<Option<Self>, ManagerError> {
        let made = match (&config.capture, &config.pcap) {
            (Some(file), _) => file.try_clone().and_then(Self::into_file),
            (None, Some(path)) => Self::create(path),
            (None, None) => return Ok(None),
        };
        made.map(Some).map_err(|source| ManagerError::Capture {
            path: config.pcap.clone().unwrap_or_default(),
            source,
        })
    }

    /// Creates or truncates `path` and writes the file header.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::into_file(File::create(path)?)
    }

    /// Writes the file header into an empty file.
    pub(super) fn into_file(file: File) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&0xa1b2_c3d4u32.to_ne_bytes())?;
        file.write_all(&2u16.to_ne_bytes())?;
        file.write_all(&4u16.to_ne_bytes())?;
        for word in [0, 0, SNAP_LEN, LINKTYPE_ETHERNET] {
            file.write_all(&word.to_ne_bytes())?;
        }
        file.flush()?;
        Ok(Self {
            file: Some(file),
            scratch: Vec::new(),
        })
    }

    /// Writes one frame.
    pub(super) fn frame(&mut self, segments: &[IoSegment<'_>]) {
        let Some(file) = self.file.as_mut() else {
            return;
        };
        let len: usize = segments.iter().map(IoSegment::len).sum();
        self.scratch.resize(len, 0);
        let mut at = 0;
        for segment in segments {
            segment.copy_to_slice(0, &mut self.scratch[at..at + segment.len()]);
            at += segment.len();
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let record = [
            now.as_secs() as u32,
            now.subsec_micros(),
            len as u32,
            len as u32,
        ];
        let written = record
            .iter()
            .try_for_each(|word| file.write_all(&word.to_ne_bytes()))
            .and_then(|()| file.write_all(&self.scratch));
        if let Err(err) = written {
            log::error!("capture ended: {err}");
            self.file = None;
        }
    }

    /// Hands what is buffered to the file: called before the worker sleeps, so that a reader of
    /// the file sees what has happened.
    pub(super) fn flush(&mut self) {
        if let Some(Err(err)) = self.file.as_mut().map(Write::flush) {
            log::error!("capture ended: {err}");
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_format_s_header_and_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        let mut capture = Capture::create(&path).unwrap();
        capture.frame(&[
            IoSegment::from(&b"head"[..]),
            IoSegment::from(&b"tail!"[..]),
        ]);
        capture.flush();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 16 + 9);
        assert_eq!(bytes[..4], 0xa1b2_c3d4u32.to_ne_bytes());
        assert_eq!(bytes[20..24], 1u32.to_ne_bytes());
        assert_eq!(bytes[32..36], 9u32.to_ne_bytes());
        assert_eq!(&bytes[40..], b"headtail!");
    }
}
