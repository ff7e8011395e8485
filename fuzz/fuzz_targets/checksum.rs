//! The checksum against slow arithmetic: sums modulo 65,535 over a plain integer, by every
//! implementation the processor runs, summing and copying; patched checksums against recomputed ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::checksum::{Accumulator, Backend, Delta, Sum, copy_and_sum, sum};

fuzz_target!(|bytes: &[u8]| {
    let whole = sum(bytes);
    assert_eq!(whole.fold(), naive(bytes));
    assert_eq!(whole.finish(), !naive(bytes));

    every_implementation(bytes);

    // The sum of the pieces is the sum of the whole, wherever it is cut.
    let cut = bytes
        .first()
        .map_or(0, |&b| usize::from(b))
        .min(bytes.len());
    let (head, tail) = bytes.split_at(cut);
    let tail = if cut % 2 == 0 {
        sum(tail)
    } else {
        sum(tail).swapped()
    };
    assert_eq!((sum(head) + tail).fold(), whole.fold());
    assert_eq!((Sum::ZERO + whole).fold(), whole.fold());
    let mut pieces = Accumulator::new();
    for piece in bytes.chunks(cut.max(1)) {
        pieces.add(piece);
    }
    assert_eq!(pieces.finish(), whole.finish());

    // The first four bytes say which word changes and to what; the rest is the packet.
    let [a, b, c, d, data @ ..] = bytes else {
        return;
    };
    let mut words: Vec<u16> = data
        .chunks_exact(2)
        .map(|w| u16::from_be_bytes([w[0], w[1]]))
        .collect();
    if words.is_empty() {
        return;
    }
    let at = usize::from(u16::from_be_bytes([*a, *b])) % words.len();
    let (old, new) = (words[at], u16::from_be_bytes([*c, *d]));
    let before = words
        .iter()
        .map(|&w| Sum::word(w))
        .fold(Sum::ZERO, |x, y| x + y);
    words[at] = new;
    let after = words
        .iter()
        .map(|&w| Sum::word(w))
        .fold(Sum::ZERO, |x, y| x + y);
    let delta = Delta::new16(old, new);
    if words.iter().any(|&w| w != 0) {
        assert_eq!(delta.apply(before.finish()), after.finish());
        assert_eq!(delta.apply_udp(before.finish_udp()), after.finish_udp());
        assert_eq!(delta.apply_partial(before.fold()), after.fold());
    } else {
        // All zero is no packet; its sum has two forms and either will do.
        assert!(matches!(delta.apply(before.finish()), 0 | 0xffff));
    }
    assert_eq!(delta.apply_udp(0), 0, "no checksum stays no checksum");
    // There and back again.
    let back = delta.plus(Delta::new16(new, old));
    assert!(words.iter().all(|&w| w == 0) || back.apply(after.finish()) == after.finish());
});

/// Sums and copies, from and to any alignment, with bytes around that must neither count nor change.
fn every_implementation(bytes: &[u8]) {
    let expected = naive(bytes);
    let at = bytes.last().map_or(0, |&b| usize::from(b % 64));
    let to = bytes.first().map_or(0, |&b| usize::from(b % 64));
    let mut from = vec![0xff; at + bytes.len() + 64];
    from[at..at + bytes.len()].copy_from_slice(bytes);
    let src = &from[at..at + bytes.len()];
    let mut room = vec![0xa5; to + bytes.len() + 64];
    assert_eq!(
        copy_and_sum(&mut room[to..to + src.len()], src).fold(),
        expected
    );
    for backend in Backend::available() {
        assert_eq!(backend.sum(src).fold(), expected, "{}", backend.name());
        room.fill(0xa5);
        let copied = backend.copy_and_sum(&mut room[to..to + src.len()], src);
        assert_eq!(copied.fold(), expected, "{} copying", backend.name());
        assert_eq!(&room[to..to + src.len()], src, "{} copying", backend.name());
        let mut beside = room[..to].iter().chain(&room[to + src.len()..]);
        assert!(beside.all(|&b| b == 0xa5), "{} copying", backend.name());
    }
}

/// The folded sum by definition: the words added up as one large number, then reduced modulo
/// 65,535, where only the sum of nothing but zeros is 0.
fn naive(bytes: &[u8]) -> u16 {
    let mut total: u128 = 0;
    for pair in bytes.chunks(2) {
        total += u128::from(pair[0]) << 8 | u128::from(*pair.get(1).unwrap_or(&0));
    }
    match (total, total % 65_535) {
        (0, _) => 0,
        (_, 0) => 0xffff,
        (_, rest) => rest as u16,
    }
}
