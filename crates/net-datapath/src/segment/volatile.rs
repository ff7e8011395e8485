//! Copies between ordinary memory and memory that a guest may change at any moment.
//!
//! Volatile accesses keep the compiler from reading a byte twice or inventing a write. They go
//! by aligned machine words where they can: eight bytes a load is fast enough for payloads.

const WORD: usize = size_of::<usize>();
/// Words per step of the main loop, so that the loads of a step are independent.
const STEP: usize = 4;

/// Fills `out` from `src`.
///
/// # Safety
/// `out.len()` bytes at `src` are mapped and readable, and do not overlap `out`.
#[inline]
pub(super) unsafe fn read(mut src: *const u8, out: &mut [u8]) {
    let prefix = src.align_offset(WORD).min(out.len());
    let (head, rest) = out.split_at_mut(prefix);
    for byte in head {
        // SAFETY: within the bytes the caller vouches for.
        unsafe {
            *byte = src.read_volatile();
            src = src.add(1);
        }
    }
    let mut steps = rest.chunks_exact_mut(WORD * STEP);
    for step in &mut steps {
        for (i, word) in step.chunks_exact_mut(WORD).enumerate() {
            // SAFETY: aligned by the prefix, within the bytes the caller vouches for.
            let value = unsafe { src.cast::<usize>().add(i).read_volatile() };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        // SAFETY: a whole step has been read.
        src = unsafe { src.add(WORD * STEP) };
    }
    let mut words = steps.into_remainder().chunks_exact_mut(WORD);
    for word in &mut words {
        // SAFETY: aligned, within the bytes the caller vouches for.
        unsafe {
            word.copy_from_slice(&src.cast::<usize>().read_volatile().to_ne_bytes());
            src = src.add(WORD);
        }
    }
    for byte in words.into_remainder() {
        // SAFETY: within the bytes the caller vouches for.
        unsafe {
            *byte = src.read_volatile();
            src = src.add(1);
        }
    }
}

/// Writes `bytes` to `dst`.
///
/// # Safety
/// `bytes.len()` bytes at `dst` are mapped and writable, and do not overlap `bytes`.
#[inline]
pub(super) unsafe fn write(mut dst: *mut u8, bytes: &[u8]) {
    let prefix = dst.align_offset(WORD).min(bytes.len());
    let (head, rest) = bytes.split_at(prefix);
    for byte in head {
        // SAFETY: within the bytes the caller vouches for.
        unsafe {
            dst.write_volatile(*byte);
            dst = dst.add(1);
        }
    }
    let mut words = rest.chunks_exact(WORD);
    for word in &mut words {
        let mut value = [0; WORD];
        value.copy_from_slice(word);
        // SAFETY: aligned by the prefix, within the bytes the caller vouches for.
        unsafe {
            dst.cast::<usize>()
                .write_volatile(usize::from_ne_bytes(value));
            dst = dst.add(WORD);
        }
    }
    for byte in words.remainder() {
        // SAFETY: within the bytes the caller vouches for.
        unsafe {
            dst.write_volatile(*byte);
            dst = dst.add(1);
        }
    }
}
