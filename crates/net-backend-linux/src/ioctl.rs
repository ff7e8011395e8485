//! The ioctls and socket options of TAP devices, packet sockets and namespaces.
//!
//! Numbers and layouts are those of `linux/if_tun.h`, `linux/if.h`, `linux/if_packet.h` and
//! `linux/nsfs.h`. Each function is safe: it checks nothing that the kernel checks itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_short, c_uint, c_ulong};

/// The device carries Ethernet frames.
pub(crate) const IFF_TAP: c_short = 0x0002;
/// Several descriptors may be attached to the device.
pub(crate) const IFF_MULTI_QUEUE: c_short = 0x0100;
/// Each frame has a `virtio_net_hdr` in front.
pub(crate) const IFF_VNET_HDR: c_short = 0x4000;
/// The device must not exist yet.
pub(crate) const IFF_TUN_EXCL: c_short = i16::MIN;
/// There is no 4-byte packet information in front.
pub(crate) const IFF_NO_PI: c_short = 0x1000;

/// The reader takes partial checksums.
pub(crate) const TUN_F_CSUM: c_uint = 0x01;
/// ... TCP super-frames over IPv4.
pub(crate) const TUN_F_TSO4: c_uint = 0x02;
/// ... TCP super-frames over IPv6.
pub(crate) const TUN_F_TSO6: c_uint = 0x04;
/// ... UDP super-frames over IPv4 (Linux 6.2).
pub(crate) const TUN_F_USO4: c_uint = 0x20;
/// ... UDP super-frames over IPv6 (Linux 6.2).
pub(crate) const TUN_F_USO6: c_uint = 0x40;

const TUNSETIFF: c_ulong = request(WRITE, b'T', 202, 4);
const TUNSETPERSIST: c_ulong = request(WRITE, b'T', 203, 4);
const TUNSETOWNER: c_ulong = request(WRITE, b'T', 204, 4);
const TUNSETGROUP: c_ulong = request(WRITE, b'T', 206, 4);
pub(crate) const TUNSETOFFLOAD: c_ulong = request(WRITE, b'T', 208, 4);
pub(crate) const TUNGETIFF: c_ulong = request(READ, b'T', 210, 4);
pub(crate) const TUNGETVNETHDRSZ: c_ulong = request(READ, b'T', 215, 4);
pub(crate) const TUNSETVNETHDRSZ: c_ulong = request(WRITE, b'T', 216, 4);
pub(crate) const TUNSETVNETLE: c_ulong = request(WRITE, b'T', 220, 4);
const NS_GET_USERNS: c_ulong = request(0, 0xb7, 1, 0);

const WRITE: c_ulong = 1;
const READ: c_ulong = 2;

/// `_IOC` of the architectures this crate supports (x86-64, AArch64, RISC-V).
const fn request(direction: c_ulong, kind: u8, number: c_ulong, size: c_ulong) -> c_ulong {
    direction << 30 | size << 16 | (kind as c_ulong) << 8 | number
}

/// The longest name of an interface, in bytes.
pub(crate) const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// `struct ifreq` as far as these requests use it.
#[repr(C)]
struct Ifreq {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Ifreq>() == size_of::<libc::ifreq>());

impl Ifreq {
    fn new(name: &str) -> io::Result<Self> {
        let mut this = Self {
            name: [0; libc::IFNAMSIZ],
            flags: 0,
            rest: [0; 22],
        };
        if name.len() > NAME_MAX || name.bytes().any(|byte| byte == 0 || byte == b'/') {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        this.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(this)
    }

    fn name(&self) -> String {
        let bytes = self.name.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Attaches a descriptor of `/dev/net/tun` to the device `name`, made if it does not exist;
/// returns the name the kernel gave it (`%d` in a name is replaced by a number).
pub(crate) fn tun_set_iff(fd: BorrowedFd<'_>, name: &str, flags: c_short) -> io::Result<String> {
    let mut request = Ifreq::new(name)?;
    request.flags = flags;
    // SAFETY: the request reads and writes one `ifreq`, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
    Ok(request.name())
}

/// The name and the flags of the device a descriptor is attached to.
pub(crate) fn tun_get_iff(fd: BorrowedFd<'_>) -> io::Result<(String, c_short)> {
    let mut request = Ifreq::new("")?;
    // SAFETY: the request writes one `ifreq`, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF as _, &raw mut request) })?;
    Ok((request.name(), request.flags))
}

/// Lets the device outlive its last descriptor.
pub(crate) fn tun_set_persistent(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETPERSIST as _, c_ulong::from(1_u8)) })?;
    Ok(())
}

/// Lets this user attach to the device.
pub(crate) fn tun_set_owner(fd: BorrowedFd<'_>, user: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOWNER as _, c_ulong::from(user)) })?;
    Ok(())
}

/// Lets the members of this group attach to the device.
pub(crate) fn tun_set_group(fd: BorrowedFd<'_>, group: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETGROUP as _, c_ulong::from(group)) })?;
    Ok(())
}

/// Sets what the reader takes.
pub(crate) fn tun_set_offload(fd: BorrowedFd<'_>, flags: c_uint) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD as _, c_ulong::from(flags)) })?;
    Ok(())
}

/// Sets the length of the header in front of each frame.
pub(crate) fn tun_set_vnet_hdr_size(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = c_int::try_from(len).unwrap_or(c_int::MAX);
    // SAFETY: the request reads one int, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const len) })?;
    Ok(())
}

/// The length of the header in front of each frame.
pub(crate) fn tun_vnet_hdr_size(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut len: c_int = 0;
    // SAFETY: the request writes one int, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETVNETHDRSZ as _, &raw mut len) })?;
    Ok(usize::try_from(len).unwrap_or(0))
}

/// Makes the header little-endian on machines that are not.
pub(crate) fn tun_set_little_endian(fd: BorrowedFd<'_>) -> io::Result<()> {
    let yes: c_int = 1;
    // SAFETY: the request reads one int, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETLE as _, &raw const yes) })?;
    Ok(())
}

/// The user namespace that owns the namespace behind a descriptor (Linux 4.9).
pub(crate) fn namespace_owner(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument.
    let owner = check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS as _) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// `PACKET_IGNORE_OUTGOING` of `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: c_int = 23;

fn set_option(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the option is one int, which lives for the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A packet socket for all frames that arrive at the interface `index`, each with a virtio header.
///
/// The header is that of 10 bytes, without the number of buffers: Linux 6.4 and later can have 12,
/// but a ring then still holds 10, directly in front of the frame.
pub(crate) fn packet_socket(index: u32, receive_buffer: usize) -> io::Result<OwnedFd> {
    // Protocol 0: nothing arrives before the socket is bound.
    // SAFETY: the arguments are numbers.
    let fd =
        check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let socket = fd.as_fd();
    set_option(socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    // Linux 4.20; before it, our own frames are filtered by their type, which nobody needs here.
    let _ = set_option(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    let bytes = c_int::try_from(receive_buffer).unwrap_or(c_int::MAX);
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it, as much as is allowed.
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    }
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = c_int::try_from(index).unwrap_or(-1);
    // SAFETY: the address lives for the call and has the length that is given.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(fd)
}

/// Makes a packet socket receive the frames of every hardware address, for as long as it is open.
pub(crate) fn packet_promiscuous(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: c_int::try_from(index).unwrap_or(-1),
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the structure lives for the call and has the length that is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Length of the virtio header of a packet socket: 10 bytes.
pub(crate) const PACKET_HEADER_LEN: usize = 10;

/// Whether frames of a packet socket have a virtio header.
pub(crate) fn packet_has_header(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, and both pointers live for the call.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_headers() {
        assert_eq!(TUNSETIFF, 0x4004_54ca);
        assert_eq!(TUNSETPERSIST, 0x4004_54cb);
        assert_eq!(TUNSETOWNER, 0x4004_54cc);
        assert_eq!(TUNSETGROUP, 0x4004_54ce);
        assert_eq!(TUNSETOFFLOAD, 0x4004_54d0);
        assert_eq!(TUNGETIFF, 0x8004_54d2);
        assert_eq!(TUNGETVNETHDRSZ, 0x8004_54d7);
        assert_eq!(TUNSETVNETHDRSZ, 0x4004_54d8);
        assert_eq!(TUNSETVNETLE, 0x4004_54dc);
        assert_eq!(NS_GET_USERNS, 0xb701);
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in ["sixteen-bytes-xx", "a/b", "a\0b"] {
            assert!(Ifreq::new(name).is_err(), "{name}");
        }
        assert_eq!(
            Ifreq::new("fifteen-bytes-x").unwrap().name(),
            "fifteen-bytes-x"
        );
    }
}
