//! The address of a datagram's sender.

use std::mem::offset_of;

const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);
const PATH_ROOM: usize = size_of::<libc::sockaddr_un>() - PATH_OFFSET;

/// The name of a Unix socket: a path, or on Linux an abstract name, which starts with a zero.
#[derive(Clone, Copy)]
pub(crate) struct PeerAddress {
    name: [u8; PATH_ROOM],
    len: u8,
}

impl PeerAddress {
    /// The name in an address of `len` bytes as the kernel returned it; `None` for a socket that
    /// has none and so cannot be answered.
    pub(crate) fn from_raw(raw: &libc::sockaddr_un, len: libc::socklen_t) -> Option<Self> {
        let room = (len as usize).checked_sub(PATH_OFFSET)?.min(PATH_ROOM);
        let mut name = [0; PATH_ROOM];
        for (to, from) in name.iter_mut().zip(raw.sun_path.iter().take(room)) {
            *to = *from as u8;
        }
        let len = match name {
            // Abstract names are bytes of which zero is one; the length alone ends them.
            [0, ..] if cfg!(target_os = "linux") => room,
            // The kernel may or may not count the final zero.
            _ => name[..room].iter().position(|b| *b == 0).unwrap_or(room),
        };
        (len > 0).then_some(Self {
            name,
            len: len as u8,
        })
    }

    /// The address in the form the kernel takes, and its length.
    pub(crate) fn to_raw(self) -> (libc::sockaddr_un, libc::socklen_t) {
        let mut raw = crate::sys::empty_address();
        raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in raw.sun_path.iter_mut().zip(self.as_bytes()) {
            *to = *from as libc::c_char;
        }
        let zero = usize::from(!self.is_abstract() && usize::from(self.len) < PATH_ROOM);
        let len = PATH_OFFSET + usize::from(self.len) + zero;
        (raw, len as libc::socklen_t)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.name[..self.len.into()]
    }

    fn is_abstract(&self) -> bool {
        self.name[0] == 0
    }
}

impl PartialEq for PeerAddress {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl std::fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = if self.is_abstract() { "@" } else { "" };
        let name = &self.as_bytes()[usize::from(self.is_abstract())..];
        write!(f, "{at}{:?}", String::from_utf8_lossy(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(name: &[u8]) -> libc::sockaddr_un {
        let mut raw = crate::sys::empty_address();
        for (to, from) in raw.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        raw
    }

    #[test]
    fn the_final_zero_makes_no_difference() {
        let raw = raw(b"/run/vm.sock");
        let len = |name: usize| (PATH_OFFSET + name) as libc::socklen_t;
        let exact = PeerAddress::from_raw(&raw, len(12)).unwrap();
        for counted in [13, 40, PATH_ROOM, PATH_ROOM + 7] {
            assert_eq!(PeerAddress::from_raw(&raw, len(counted)), Some(exact));
        }
        let (back, size) = exact.to_raw();
        assert_eq!(back.sun_path, raw.sun_path);
        assert_eq!(size, len(13));
        assert_eq!(format!("{exact:?}"), "\"/run/vm.sock\"");
    }

    #[test]
    fn nameless_and_longest() {
        for len in 0..=PATH_OFFSET {
            assert_eq!(PeerAddress::from_raw(&raw(b""), len as _), None);
        }
        let full = raw(&[b'x'; PATH_ROOM]);
        let address = PeerAddress::from_raw(&full, size_of_val(&full) as _).unwrap();
        assert_eq!(address.to_raw().1 as usize, size_of_val(&full));
        #[cfg(target_os = "linux")]
        {
            let name = raw(b"\0a\0b");
            let address = PeerAddress::from_raw(&name, (PATH_OFFSET + 4) as _).unwrap();
            assert_eq!(address.as_bytes(), b"\0a\0b");
            assert_eq!(address.to_raw().1 as usize, PATH_OFFSET + 4);
        }
    }
}
