//! Receiving many datagrams in one call.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use super::address::RawAddress;
#[cfg(not(target_os = "linux"))]
use super::uninterrupted;
use super::{Control, control_messages, raw};

/// Datagrams in one call.
pub(crate) const BATCH: usize = 16;
/// Room for each: no datagram, coalesced or not, is longer.
const ROOM: usize = 65_536;

/// Level of UDP's socket options (`<netinet/udp.h>`).
#[cfg(target_os = "linux")]
pub(super) const SOL_UDP: i32 = 17;
/// Option and control message: received datagrams may be coalesced (`<linux/udp.h>`).
#[cfg(target_os = "linux")]
pub(super) const UDP_GRO: i32 = 104;

/// Buffers for one call, and what the last call filled in.
///
/// The buffers are 1 MiB of address space; only what datagrams have touched is memory.
pub(crate) struct Batch {
    buffer: Vec<u8>,
    names: [RawAddress; BATCH],
    controls: [Control; BATCH],
    received: [Received; BATCH],
}

#[derive(Debug, Clone, Copy, Default)]
struct Received {
    len: usize,
    from: Option<SocketAddr>,
    to: Option<IpAddr>,
    segment_size: usize,
}

/// One datagram, or several coalesced ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// To which address of the host, where the socket was told to report it.
    pub(crate) to: Option<IpAddr>,
    /// What it says.
    pub(crate) payload: &'a [u8],
    /// Length of each coalesced datagram but the last, in bytes; 0 for a single one.
    pub(crate) segment_size: usize,
}

impl core::fmt::Debug for Batch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BATCH * ROOM],
            names: [RawAddress::empty(); BATCH],
            controls: [Control::EMPTY; BATCH],
            received: [Received::default(); BATCH],
        }
    }

    /// Receives up to [`BATCH`] datagrams and returns how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there are none; an error that the network reported about
    /// an earlier datagram.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut pieces: [libc::iovec; BATCH] = core::array::from_fn(|i| libc::iovec {
            iov_base: self.buffer[i * ROOM..].as_mut_ptr().cast(),
            iov_len: ROOM,
        });
        #[cfg(target_os = "linux")]
        {
            let mut messages: [libc::mmsghdr; BATCH] = core::array::from_fn(|i| libc::mmsghdr {
                msg_hdr: message(&mut self.names[i], &mut pieces[i], &mut self.controls[i]),
                msg_len: 0,
            });
            let count = loop {
                // SAFETY: the descriptor is open for the borrow; every header points to a name, a
                // piece and a control buffer of its own that outlive the call, with their lengths.
                let count = unsafe {
                    libc::recvmmsg(
                        raw(fd),
                        messages.as_mut_ptr(),
                        BATCH as u32,
                        libc::MSG_DONTWAIT as _,
                        core::ptr::null_mut(),
                    )
                };
                if let Ok(count) = usize::try_from(count) {
                    break count;
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            };
            for (i, message) in messages.iter().take(count).enumerate() {
                self.received[i] = self.describe(i, &message.msg_hdr, message.msg_len as usize);
            }
            Ok(count)
        }
        #[cfg(not(target_os = "linux"))]
        {
            for i in 0..BATCH {
                let mut header = message(&mut self.names[i], &mut pieces[i], &mut self.controls[i]);
                // SAFETY: as for `recvmmsg` above.
                let len = uninterrupted(|| unsafe {
                    libc::recvmsg(raw(fd), &raw mut header, libc::MSG_DONTWAIT)
                });
                match len {
                    Ok(len) => self.received[i] = self.describe(i, &header, len),
                    Err(error) if i == 0 => return Err(error),
                    Err(_) => return Ok(i),
                }
            }
            Ok(BATCH)
        }
    }

    /// The `i`-th datagram of the last call; `None` where it has no sender's address.
    pub(crate) fn datagram(&self, i: usize) -> Option<Datagram<'_>> {
        let received = self.received.get(i)?;
        Some(Datagram {
            from: received.from?,
            to: received.to,
            payload: self.buffer.get(i * ROOM..i * ROOM + received.len)?,
            segment_size: received.segment_size,
        })
    }

    fn describe(&self, i: usize, message: &libc::msghdr, len: usize) -> Received {
        let mut received = Received {
            len: len.min(ROOM),
            from: self.names[i].get(),
            to: None,
            segment_size: 0,
        };
        // SAFETY: the kernel has filled in `message`, whose control buffer is `self.controls[i]`.
        unsafe {
            control_messages(message, |level, kind, data| match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // ipi_ifindex, ipi_spec_dst, ipi_addr: four bytes each. The middle one is the
                    // host's own address even for a broadcast.
                    let addr = data
                        .get(4..8)
                        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                    received.to = addr.map(IpAddr::from);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let addr = data
                        .get(..16)
                        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                    received.to = addr.map(IpAddr::from);
                }
                #[cfg(target_os = "linux")]
                (SOL_UDP, UDP_GRO) => {
                    let size = data
                        .get(..4)
                        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                    let size = size.map_or(0, i32::from_ne_bytes);
                    received.segment_size = usize::try_from(size).unwrap_or(0);
                }
                _ => {}
            });
        }
        received
    }
}

/// A message header over room for a name, a datagram and control messages.
fn message(name: &mut RawAddress, piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    *name = RawAddress::empty();
    // SAFETY: all members are integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = name.as_mut_ptr();
    message.msg_namelen = RawAddress::LEN;
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    message
}
