//! Hints that memory will be needed soon.
//!
//! A hint costs one instruction, never faults and never changes what a program computes: any address
//! will do, also a dangling one. On processors other than x86-64 and aarch64 nothing happens.
//!
//! It pays when the address is known some 20 to 100 ns before the data is needed and is not in the
//! cache: in a batch, hint for packet `i + 4` or so while working on packet `i`. It costs when the
//! data was there anyway.
//!
//! ```
//! use net_datapath::prefetch::prefetch_read;
//!
//! let table = vec![1u64; 1 << 16];
//! let keys = [5usize, 60_000, 17, 31_000, 9, 44_444];
//! let mut sum = 0;
//! for (i, &key) in keys.iter().enumerate() {
//!     if let Some(&ahead) = keys.get(i + 2) {
//!         prefetch_read(&raw const table[ahead]);
//!     }
//!     sum += table[key];
//! }
//! assert_eq!(sum, 6);
//! ```

/// Bytes of a cache line as the hints step over them.
pub const LINE: usize = 64;

/// The line at `address` will be read soon.
#[inline(always)]
pub fn prefetch_read<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it does not access memory as the program sees it, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}

/// The line at `address` will be written soon: fetch it as ours at once.
#[inline(always)]
pub fn prefetch_write<T>(address: *mut T) {
    // `_mm_prefetch` with `_MM_HINT_ET0` fetches for reading unless the compiler may assume `prfchw`.
    // Every AMD processor with 64 bits has the instruction, Intel's have it from Broadwell on and
    // take it for a NOP before that.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint; it does not access memory as the program sees it, whatever the address.
    unsafe {
        core::arch::asm!(
            "prefetchw [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "prfm pstl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}

/// The first `lines` lines of `bytes` (or as many as it has) will be read soon. Two cover the
/// headers of nearly every packet.
#[inline(always)]
pub fn prefetch_slice(bytes: &[u8], lines: usize) {
    for line in bytes.chunks(LINE).take(lines) {
        prefetch_read(line.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_changes_nothing_and_faults_nowhere() {
        let mut bytes = [7u8; 300];
        prefetch_read(bytes.as_ptr());
        prefetch_write(bytes.as_mut_ptr());
        prefetch_slice(&bytes, 100);
        prefetch_slice(&[], 2);
        prefetch_read(core::ptr::null::<u64>());
        prefetch_write(core::ptr::without_provenance_mut::<u8>(usize::MAX));
        assert_eq!(bytes, [7u8; 300]);
    }
}
