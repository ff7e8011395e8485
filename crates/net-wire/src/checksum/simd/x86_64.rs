//! AVX2 and AVX-512.

mod avx2;
mod avx512;

pub(super) use avx2::avx2;
pub(super) use avx512::avx512;

pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Whether the sets that [`avx512()`] uses are there, and wide vectors are worth using: processors
/// without VBMI (Skylake-X, Cascade Lake) lower their clock for 512-bit multiplications.
pub(super) fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vbmi")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}
