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

/// What was held before an input.
pub struct Usage {
    descriptors: usize,
    mappings: usize,
    bytes: usize,
}

/// The fuzzer opens some of its own between inputs.
fn descriptors() -> usize {
    let list = std::fs::read_dir("/proc/self/fd");
    list.expect("descriptors").count()
}

/// Mappings of files of memory, which are ours only.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    maps.matches("/memfd:").count()
}

impl Usage {
    pub fn now() -> Self {
        // Read once: the kernel writes all of them out each time.
        static MAPPINGS: OnceLock<usize> = OnceLock::new();
        let bytes = NOW.load(Ordering::Relaxed);
        PEAK.store(bytes, Ordering::Relaxed);
        Self {
            descriptors: descriptors(),
            mappings: *MAPPINGS.get_or_init(mappings),
            bytes,
        }
    }

    /// Holds the process to what it held then.
    pub fn check(self) {
        assert_eq!(
            descriptors(),
            self.descriptors,
            "descriptors are left behind"
        );
        assert_eq!(mappings(), self.mappings, "mappings are left behind");
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
