//! Socket addresses as the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The bytes of an address that the kernel wrote. Empty room reads as no address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct RawAddress(libc::sockaddr_storage);

impl RawAddress {
    pub(super) const LEN: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

    pub(super) fn empty() -> Self {
        // SAFETY: all members are integers, for which zero is a value.
        Self(unsafe { core::mem::zeroed() })
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    pub(super) fn get(&self) -> Option<SocketAddr> {
        let storage = &raw const self.0;
        match i32::from(self.0.ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is larger than and aligned for every address type, and the
                // family says which one it holds.
                let addr = unsafe { &*storage.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from_bits(u32::from_be(addr.sin_addr.s_addr));
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(addr.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let addr = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
                Some(SocketAddr::new(
                    IpAddr::V6(ip),
                    u16::from_be(addr.sin6_port),
                ))
            }
            _ => None,
        }
    }

    /// The address in the first bytes of `bytes`, as far as they reach.
    #[cfg(target_os = "linux")]
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = Self::empty();
        let len = bytes.len().min(size_of::<libc::sockaddr_storage>());
        // SAFETY: `len` bytes are readable at the source and writable at the storage, which has no
        // invalid bit patterns; the two do not overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), raw.as_mut_ptr().cast(), len);
        }
        raw
    }
}
