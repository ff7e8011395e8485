//! The receive ring of a packet socket (`PACKET_RX_RING`, TPACKET_V2).
//!
//! An ordinary user's socket may hold about 200 KiB, which two super-frames fill: TCP from a guest
//! then loses most of what it sends. A ring is not bound by that limit, and its frames are lent
//! where the kernel wrote them, without a system call each.
//!
//! A slot belongs to the kernel or to us, as its first word says. The kernel hands it over with
//! that word, and we hand it back; in between neither touches the other's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_uint};

/// One allocation of the kernel.
const BLOCK: usize = 1 << 20;
/// Blocks in the ring: 16 MiB of the kernel's memory.
const BLOCKS: usize = 16;
/// Room for a slot's header, the virtio header and the longest super-frame; 15 fill a block.
const SLOT: usize = 69_904;
const SLOTS_PER_BLOCK: usize = BLOCK / SLOT;
const SLOTS: usize = SLOTS_PER_BLOCK * BLOCKS;

/// `TPACKET_V2` of `linux/if_packet.h`.
const TPACKET_V2: c_int = 1;
/// The slot is ours; otherwise the kernel's.
const TP_STATUS_USER: u32 = 1;

const _: () = assert!(SLOT.is_multiple_of(16) && SLOT > 65_553 + 128);

/// `struct tpacket_req`.
#[repr(C)]
struct Request {
    block_size: c_uint,
    block_count: c_uint,
    frame_size: c_uint,
    frame_count: c_uint,
}

/// `struct tpacket2_hdr`, as far as it is used.
#[repr(C)]
#[derive(Clone, Copy)]
struct SlotHeader {
    status: u32,
    len: u32,
    captured: u32,
    mac: u16,
    network: u16,
}

/// Frames that the kernel writes and this program reads.
pub(crate) struct PacketRing {
    memory: NonNull<u8>,
    /// The slot that the kernel hands over next.
    next: usize,
    header_len: usize,
}

// SAFETY: the mapping belongs to this object alone; which thread reads it makes no difference.
unsafe impl Send for PacketRing {}

impl PacketRing {
    /// Gives the socket a ring. Its virtio header, of `header_len` bytes, has been set before.
    pub(crate) fn new(socket: BorrowedFd<'_>, header_len: usize) -> io::Result<Self> {
        set(socket, libc::PACKET_VERSION, &TPACKET_V2)?;
        let request = Request {
            block_size: BLOCK as c_uint,
            block_count: BLOCKS as c_uint,
            frame_size: SLOT as c_uint,
            frame_count: SLOTS as c_uint,
        };
        set(socket, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping of a length that the ring has; nothing existing is replaced.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BLOCK * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            memory,
            next: 0,
            header_len,
        })
    }

    /// The start of the slot `ahead` of the next one.
    fn slot(&self, ahead: usize) -> *mut u8 {
        let index = (self.next + ahead) % SLOTS;
        let offset = index / SLOTS_PER_BLOCK * BLOCK + index % SLOTS_PER_BLOCK * SLOT;
        // SAFETY: the index is below SLOTS, so the slot ends within the mapping.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    fn status(&self, ahead: usize) -> &AtomicU32 {
        // SAFETY: slots are aligned to 16 bytes and begin with the status word, which both sides
        // access atomically; the mapping lives as long as the ring.
        unsafe { AtomicU32::from_ptr(self.slot(ahead).cast()) }
    }

    /// The frame in the slot `ahead` of the next one, its virtio header in front; `None` where the
    /// kernel has not written one. A frame that did not fit comes without bytes.
    pub(crate) fn frame(&self, ahead: usize) -> Option<&[u8]> {
        if ahead >= SLOTS || self.status(ahead).load(Ordering::Acquire) & TP_STATUS_USER == 0 {
            return None;
        }
        let slot = self.slot(ahead);
        // SAFETY: the slot is ours, hence nobody writes it, and it begins with this header.
        let header = unsafe { slot.cast::<SlotHeader>().read() };
        let captured = header.captured as usize;
        let start = usize::from(header.mac).checked_sub(self.header_len);
        let (Some(start), true) = (start, header.captured == header.len) else {
            return Some(&[]);
        };
        let len = self.header_len + captured;
        if start + len > SLOT {
            return Some(&[]);
        }
        // SAFETY: within the slot, which stays ours until `release`, and that takes `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(slot.add(start), len) })
    }

    /// Hands the next `count` slots back; they are all ours.
    pub(crate) fn release(&mut self, count: usize) {
        for ahead in 0..count.min(SLOTS) {
            self.status(ahead).store(0, Ordering::Release);
        }
        self.next = (self.next + count) % SLOTS;
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}

fn set<T>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the option is a plain structure of the given length that lives for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
