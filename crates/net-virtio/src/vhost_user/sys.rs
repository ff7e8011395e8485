//! The few calls of Linux that a back end needs, and the one place with `unsafe` in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{
    MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fcntl_getfl, fcntl_setfl,
    fstat, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Events fetched at a time, and how often: more than a device has queues.
const EVENTS: usize = 64;
const ROUNDS: usize = 8;

/// The largest ordinary page of any Linux, in bytes.
const MAX_PAGE: u64 = 64 * 1024;

/// What a worker waits on: every kick of a front-end, and one of our own.
///
/// Kicks are watched edge-triggered and never read. A descriptor of the front-end's is thereby asked
/// for nothing that it could make us wait for, and each write to an eventfd is an edge of its own
/// whether it has been read or not.
#[derive(Debug)]
pub(super) struct Kicks {
    epoll: OwnedFd,
    own: OwnedFd,
}

impl Kicks {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let kicks = Self { epoll, own };
        kicks.add(&kicks.own)?;
        Ok(kicks)
    }

    /// Watches a kick; one that has been rung already counts.
    pub(super) fn add(&self, kick: &OwnedFd) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, kick, epoll::EventData::new_u64(0), flags)?;
        Ok(())
    }

    /// Watches it no more. The front-end has the descriptor too: closing ours would not do it.
    pub(super) fn remove(&self, kick: &OwnedFd) {
        // It was added, so this cannot fail.
        let _ = epoll::delete(&self.epoll, kick);
    }

    /// Wakes whoever waits.
    pub(super) fn wake(&self) {
        // It can only be full, after 2^64 - 2 wakes.
        let _ = rustix::io::write(&self.own, &1u64.to_ne_bytes());
    }

    /// Forgets what was rung.
    pub(super) fn clear(&self) {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        for _ in 0..ROUNDS {
            match epoll::wait(&self.epoll, &mut events[..], Some(&now)) {
                Ok((fetched, _)) if fetched.len() == EVENTS => {}
                _ => return,
            }
        }
    }

    pub(super) fn source(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// An eventfd of the front-end's, made non-blocking.
///
/// Other descriptors can make their user wait: one of a FUSE file asks its server whether it is
/// ready.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is something else.
pub(super) fn foreign_eventfd(file: File) -> io::Result<OwnedFd> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if link.as_os_str() != "anon_inode:[eventfd]" {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a descriptor is no eventfd",
        ));
    }
    let fd = OwnedFd::from(file);
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    Ok(fd)
}

/// Rings an eventfd; one that is full has been rung and was not heard yet.
pub(super) fn ring(fd: &OwnedFd) -> io::Result<()> {
    match rustix::io::write(fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// Length of a file in bytes, and the unit in which it can be mapped.
fn file_extent(file: &File) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    // Files of huge pages are mapped by whole pages only, and say so here. 64 KiB is a multiple of
    // every page there is; to ask for the page's size reads a file, which a confined process cannot.
    let unit = u64::try_from(stat.st_blksize).unwrap_or(0);
    let huge = unit.is_power_of_two() && unit > MAX_PAGE;
    Ok((len, if huge { unit } else { MAX_PAGE }))
}

/// Whether the file cannot become shorter. Touching memory behind the end of its file is a `SIGBUS`.
pub(super) fn cannot_shrink(file: &File) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// A file of so many bytes that nobody can shorten or lengthen, to be shared.
pub(super) fn sealed_file(name: &str, len: u64) -> io::Result<File> {
    let file = File::from(memfd_create(
        name,
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    file.set_len(len)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// A piece of a file, mapped shared.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an address range that belongs to no thread; bytes are reached by raw copies and atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` on, both multiples of what the file asks for.
    pub(crate) fn new(file: impl AsFd, offset: u64, len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // NORESERVE: the memory is the guest's, and accounted to whoever made the file.
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, flags, file, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Maps the `size` bytes from `offset` on, whatever both are multiples of, and says where in the
    /// mapping they begin; `None` where the file does not have them.
    pub(crate) fn part(file: &File, offset: u64, size: u64) -> io::Result<Option<(Self, usize)>> {
        let (file_len, unit) = file_extent(file)?;
        let end = offset.checked_add(size).filter(|end| *end <= file_len);
        let start = offset & !(unit - 1);
        let len = end
            .filter(|_| size > 0)
            .and_then(|end| end.checked_next_multiple_of(unit))
            .and_then(|end| usize::try_from(end - start).ok());
        let Some(len) = len else {
            return Ok(None);
        };
        let mapping = Self::new(file, start, len)?;
        Ok(Some((mapping, (offset - start) as usize)))
    }

    /// The address `offset` bytes into it, if it is that long.
    pub(crate) fn at(&self, offset: usize) -> Option<NonNull<u8>> {
        // SAFETY: within the mapping.
        (offset <= self.len).then(|| unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; whoever uses it holds it.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        if let Err(err) = result {
            log::warn!("vhost-user: unmap {} bytes: {err}", self.len);
        }
    }
}
