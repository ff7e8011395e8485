//! The archive format of an initial RAM disk ("newc", Linux `driver-api/early-userspace/
//! buffer-format`): a header of hexadecimal fields, a name, the data, each padded to four bytes.

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Adds a directory.
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    /// Adds a file, executable by all.
    pub(crate) fn file(&mut self, name: &str, data: &[u8]) {
        self.entry(name, 0o100_755, (0, 0), data);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            data.len() as u32,
            0,
            0, // the file's own device
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum: not in this variant
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_110_bytes_and_all_is_padded_to_four() {
        let mut archive = Archive::default();
        archive.directory("d");
        archive.file("d/f", b"12345");
        let bytes = archive.finish();
        // 110 + "d\0" is 112; 110 + "d/f\0" is 114 and two of padding, then 8 for the data.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[112..118], b"070701");
        assert_eq!(&bytes[112 + 116..112 + 121], b"12345");
        assert_eq!(&bytes[112 + 124..112 + 130], b"070701");
        assert_eq!(
            &bytes[112 + 54..112 + 62],
            b"00000005",
            "size is the seventh field"
        );
        assert_eq!(bytes.len() % 4, 0);
    }
}
