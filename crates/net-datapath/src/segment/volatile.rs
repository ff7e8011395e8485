//! Copies between ordinary memory and memory that a guest may change at any moment.
//!
//! Each byte of a guest's memory is loaded or stored exactly once: what the compiler sees as volatile
//! or does not see at all. On the machines that matter that is one instruction for up to 16 bytes at
//! any alignment, which the language has no volatile access for; elsewhere it is a byte at a time.
//! The words are also those in which a header's fields are found again: a load that follows at once
//! is served from the store before it.

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
use core::arch::x86_64::__m128i as Wide;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
use core::arch::aarch64::uint8x16_t as Wide;

/// Fills `out` from `src`.
///
/// # Safety
/// `out.len()` bytes at `src` are mapped and readable, and do not overlap `out`.
#[inline]
pub(super) unsafe fn read(src: *const u8, out: &mut [u8]) {
    let mut at = 0;
    #[cfg(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    ))]
    let out = {
        let (lines, rest) = out.as_chunks_mut::<64>();
        for line in lines {
            for word in line.as_chunks_mut().0 {
                // SAFETY: as many bytes are left as the word has; `src` is readable.
                *word = unsafe { read16(src.add(at)) };
                at += 16;
            }
        }
        let (wide, rest) = rest.as_chunks_mut();
        for word in wide {
            // SAFETY: as above.
            *word = unsafe { read16(src.add(at)) };
            at += 16;
        }
        // Most frames of 64 bytes, and nothing for the three loops below.
        if rest.is_empty() {
            return;
        }
        let (long, rest) = rest.as_chunks_mut();
        for word in long {
            // SAFETY: as above.
            *word = unsafe { words::load8(src.add(at)) }.to_ne_bytes();
            at += 8;
        }
        let (short, rest) = rest.as_chunks_mut();
        for word in short {
            // SAFETY: as above.
            *word = unsafe { words::load4(src.add(at)) }.to_ne_bytes();
            at += 4;
        }
        rest
    };
    for byte in out {
        // SAFETY: within the bytes the caller vouches for.
        *byte = unsafe { src.add(at).read_volatile() };
        at += 1;
    }
}

/// 16 bytes at once.
///
/// # Safety
/// 16 bytes at `src` are readable.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
#[inline(always)]
unsafe fn read16(src: *const u8) -> [u8; 16] {
    // SAFETY: readable by contract; any bytes are a value of either type, of the same size.
    unsafe { core::mem::transmute::<Wide, [u8; 16]>(words::load16(src)) }
}

/// Writes `bytes` to `dst`.
///
/// # Safety
/// `bytes.len()` bytes at `dst` are mapped and writable, and do not overlap `bytes`.
#[inline]
pub(super) unsafe fn write(dst: *mut u8, bytes: &[u8]) {
    let mut at = 0;
    #[cfg(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    ))]
    let bytes = {
        let (wide, rest) = bytes.as_chunks::<16>();
        for word in wide {
            // SAFETY: any bytes are a value of either type, of the same size.
            let value = unsafe { core::mem::transmute::<[u8; 16], Wide>(*word) };
            // SAFETY: as many bytes are left as the word has; `dst` is writable.
            unsafe { words::store16(dst.add(at), value) };
            at += 16;
        }
        let (long, rest) = rest.as_chunks();
        for word in long {
            // SAFETY: as above.
            unsafe { words::store8(dst.add(at), u64::from_ne_bytes(*word)) };
            at += 8;
        }
        let (short, rest) = rest.as_chunks();
        for word in short {
            // SAFETY: as above.
            unsafe { words::store4(dst.add(at), u32::from_ne_bytes(*word)) };
            at += 4;
        }
        rest
    };
    for byte in bytes {
        // SAFETY: within the bytes the caller vouches for.
        unsafe { dst.add(at).write_volatile(*byte) };
        at += 1;
    }
}

/// Single instructions: the compiler neither repeats nor splits nor invents them. `v` is the value, `p`
/// the address.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
mod words {
    use super::Wide;
    use core::arch::asm;

    macro_rules! load {
        ($name:ident, $value:ty, $register:ident, $instruction:literal) => {
            /// # Safety
            /// As many bytes at `src` are readable as the value has.
            #[inline(always)]
            pub(super) unsafe fn $name(src: *const u8) -> $value {
                let value;
                // SAFETY: reads what the caller vouches for, and nothing else changes.
                unsafe {
                    asm!($instruction, v = out($register) value, p = in(reg) src,
                        options(nostack, preserves_flags, readonly));
                }
                value
            }
        };
    }

    macro_rules! store {
        ($name:ident, $value:ty, $register:ident, $instruction:literal) => {
            /// # Safety
            /// As many bytes at `dst` are writable as the value has.
            #[inline(always)]
            pub(super) unsafe fn $name(dst: *mut u8, value: $value) {
                // SAFETY: writes what the caller vouches for.
                unsafe {
                    asm!($instruction, v = in($register) value, p = in(reg) dst,
                        options(nostack, preserves_flags));
                }
            }
        };
    }

    /// The six moves of one architecture: its class of vector registers, and an instruction of each.
    macro_rules! moves {
        ($vector:ident: $load16:literal, $load8:literal, $load4:literal,
            $store16:literal, $store8:literal, $store4:literal) => {
            load!(load16, Wide, $vector, $load16);
            load!(load8, u64, reg, $load8);
            load!(load4, u32, reg, $load4);
            store!(store16, Wide, $vector, $store16);
            store!(store8, u64, reg, $store8);
            store!(store4, u32, reg, $store4);
        };
    }

    #[cfg(target_arch = "x86_64")]
    moves!(xmm_reg:
        "movdqu {v}, xmmword ptr [{p}]", "mov {v}, qword ptr [{p}]", "mov {v:e}, dword ptr [{p}]",
        "movdqu xmmword ptr [{p}], {v}", "mov qword ptr [{p}], {v}", "mov dword ptr [{p}], {v:e}");

    #[cfg(target_arch = "aarch64")]
    moves!(vreg:
        "ldr {v:q}, [{p}]", "ldr {v:x}, [{p}]", "ldr {v:w}, [{p}]",
        "str {v:q}, [{p}]", "str {v:x}, [{p}]", "str {v:w}, [{p}]");
}
