//! 2 MiB pages for what is large: our engine says where its tables are, the peer's are found by asking
//! for all large allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use net_nat::{ConfigError, NatConfig, NatEngine};

static WANTED: AtomicBool = AtomicBool::new(false);
/// Whether the allocator asks.
static ENABLED: AtomicBool = AtomicBool::new(false);
/// What is smaller than this gains nothing.
const LARGE: usize = 4 << 20;

/// Allocations of 4 MiB and more ask for 2 MiB pages from now on.
pub(crate) fn enable() {
    WANTED.store(true, Ordering::Relaxed);
    ENABLED.store(true, Ordering::Relaxed);
    if !cfg!(target_os = "linux") {
        eprintln!("nat: --huge has no effect here");
    }
}

/// Our engine, with large pages if they are wanted: by [`NatEngine::memory`] and no other way.
pub(crate) fn engine(config: NatConfig) -> Result<NatEngine, ConfigError> {
    let wanted = ENABLED.swap(false, Ordering::Relaxed);
    let engine = NatEngine::new(config);
    ENABLED.store(wanted, Ordering::Relaxed);
    let mut engine = engine?;
    if WANTED.load(Ordering::Relaxed) {
        advise_all(&mut engine, HUGE);
    }
    Ok(engine)
}

/// Has the system find those pages now, if it can (Linux 5.14): a packet that is the first one to touch
/// such a page would wait while it is sought and zeroed, which can take milliseconds.
pub(crate) fn populate(engine: &mut NatEngine) {
    if WANTED.load(Ordering::Relaxed) {
        advise_all(engine, POPULATE);
    }
}

fn advise_all(engine: &mut NatEngine, advice: i32) {
    for range in engine.memory() {
        let len = range.end.addr() - range.start.addr();
        advise(range.start.cast_mut(), len, advice);
    }
}

/// The system's allocator, with that question.
pub(crate) struct HugePages;

// SAFETY: every block is the system allocator's, for the same layout.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        ask(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        ask(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        ask(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) };
    }
}

#[inline]
fn ask(block: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && ENABLED.load(Ordering::Relaxed) && !block.is_null() {
        advise(block, size, HUGE);
    }
    block
}

#[cfg(target_os = "linux")]
const HUGE: i32 = libc::MADV_HUGEPAGE;
#[cfg(target_os = "linux")]
const POPULATE: i32 = libc::MADV_POPULATE_WRITE;

#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize, advice: i32) {
    const PAGE: usize = 4096;
    let skip = block.addr().wrapping_neg() & (PAGE - 1);
    // SAFETY: whole pages of memory that was allocated; neither advice changes what is in them.
    unsafe { libc::madvise(block.add(skip).cast(), size - skip, advice) };
}

#[cfg(not(target_os = "linux"))]
const HUGE: i32 = 0;
#[cfg(not(target_os = "linux"))]
const POPULATE: i32 = 0;

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize, _: i32) {}
