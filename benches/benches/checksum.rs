//! Checksums beside memcpy and smoltcp, in one run.

fn main() {}
