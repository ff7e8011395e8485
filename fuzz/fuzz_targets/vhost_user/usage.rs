//! What the process holds: descriptors, mappings of files, memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that one front-end may have the process allocate, in bytes.
const MOST: usize = 32 << 20;

/// Counts what is allocated, now and at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is held between inputs.
pub struct Usage {
    descriptors: usize,
    mappings: usize,
    bytes: usize,
}

/// Of files: descriptors and mappings, as they were before the first input.
static FILES: OnceLock<(usize, usize)> = OnceLock::new();

fn count() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let descriptors = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .count();
    (descriptors, maps.matches("/memfd:").count())
}

impl Usage {
    pub fn now() -> Self {
        let (descriptors, mappings) = *FILES.get_or_init(count);
        let bytes = NOW.load(Ordering::Relaxed);
        PEAK.store(bytes, Ordering::Relaxed);
        Self {
            descriptors,
            mappings,
            bytes,
        }
    }

    /// Holds the process to what it held then.
    pub fn check(self) {
        let (descriptors, mappings) = count();
        assert_eq!(descriptors, self.descriptors, "descriptors are left behind");
        assert_eq!(mappings, self.mappings, "mappings are left behind");
        let peak = PEAK.load(Ordering::Relaxed) - self.bytes;
        assert!(peak <= MOST, "{peak} bytes at a time");
        let bytes = NOW.load(Ordering::Relaxed);
        assert!(
            bytes <= self.bytes,
            "{} bytes are left behind",
            bytes - self.bytes
        );
    }
}
