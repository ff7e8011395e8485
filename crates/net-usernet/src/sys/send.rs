//! Sending one datagram, or many of one size, from a scatter list.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use net_datapath::{IoSegment, SegmentList};
use socket2::SockAddr;

use super::{Control, raw, uninterrupted};

/// What a send may ask for besides its destination.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendOptions {
    /// The host's own address to send from.
    pub(crate) source: Option<IpAddr>,
    /// Cut the payload into datagrams of this many bytes. Fails where the route cannot; nobody asks
    /// for it on systems without it.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) segment_size: Option<u16>,
}

/// Sends `header` and then `payload` as one datagram to `to`.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    to: SocketAddr,
    header: &[u8],
    payload: &[IoSegment<'_>],
    options: SendOptions,
) -> io::Result<usize> {
    const PIECES: usize = SegmentList::CAPACITY + 1;
    let to = SockAddr::from(to);
    let mut pieces = [libc::iovec {
        iov_base: core::ptr::null_mut(),
        iov_len: 0,
    }; PIECES];
    let mut count = 0;
    let header = (!header.is_empty()).then_some(IoSegment::from(header));
    for segment in header.iter().chain(payload) {
        let Some(piece) = pieces.get_mut(count) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        *piece = libc::iovec {
            iov_base: segment.as_ptr().cast_mut().cast(),
            iov_len: segment.len(),
        };
        count += 1;
    }
    let mut control = Control::EMPTY;
    // SAFETY: all members are integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = count as _;
    let used = write_control(&mut control, options);
    if used > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = used as _;
    }
    // SAFETY: the descriptor is open for the borrow; address, pieces and control buffer outlive
    // the call and the lengths are theirs. `sendmsg` writes through none of them. Segments are
    // readable for their lifetime.
    uninterrupted(|| unsafe { libc::sendmsg(raw(fd), &raw const message, libc::MSG_DONTWAIT) })
}

/// Writes the control messages that `options` needs; returns how many bytes they take.
fn write_control(control: &mut Control, options: SendOptions) -> usize {
    let mut used = 0;
    match options.source {
        Some(IpAddr::V4(addr)) => {
            // SAFETY: all members are integers, for which zero is a value.
            let mut info: libc::in_pktinfo = unsafe { core::mem::zeroed() };
            info.ipi_spec_dst.s_addr = addr.to_bits().to_be();
            used = push_control(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(addr)) => {
            // SAFETY: as above.
            let mut info: libc::in6_pktinfo = unsafe { core::mem::zeroed() };
            info.ipi6_addr.s6_addr = addr.octets();
            used = push_control(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    #[cfg(target_os = "linux")]
    if let Some(size) = options.segment_size {
        used = push_control(control, used, super::receive::SOL_UDP, UDP_SEGMENT, &size);
    }
    used
}

/// Control message of `SOL_UDP`: segment size (`<linux/udp.h>`).
#[cfg(target_os = "linux")]
const UDP_SEGMENT: i32 = 103;

/// Appends a control message with `value` at `used`; returns the new end.
fn push_control<T: Copy>(
    control: &mut Control,
    used: usize,
    level: i32,
    kind: i32,
    value: &T,
) -> usize {
    let len = size_of::<T>() as u32;
    // SAFETY: pure arithmetic.
    let (space, header_len) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len)) };
    if used + space > control.0.len() {
        return used;
    }
    // SAFETY: `used` is a sum of CMSG_SPACEs, so that the header is aligned as the buffer is, and
    // header and data fit by the check above.
    unsafe {
        let header = control.0.as_mut_ptr().add(used).cast::<libc::cmsghdr>();
        (*header).cmsg_len = header_len as _;
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(*value);
    }
    used + space
}
