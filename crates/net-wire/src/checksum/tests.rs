use super::*;
use proptest::prelude::*;

/// The definition, one word at a time; not complemented.
fn naive(bytes: &[u8]) -> u16 {
    let mut total = 0u32;
    for word in bytes.chunks(2) {
        total += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Every implementation this processor runs agrees with the definition on `bytes`, summing and
/// copying, and so does what chooses between them.
fn agree(bytes: &[u8]) {
    let expected = naive(bytes);
    assert_eq!(
        sum(bytes).fold(),
        expected,
        "dispatch, {} bytes",
        bytes.len()
    );
    let mut copy = vec![0x5a; bytes.len()];
    assert_eq!(copy_and_sum(&mut copy, bytes).fold(), expected);
    assert!(copy == bytes, "dispatch copies {} bytes", bytes.len());
    for backend in Backend::available() {
        let name = backend.name();
        assert_eq!(
            backend.sum(bytes).fold(),
            expected,
            "{name}, {} bytes",
            bytes.len()
        );
        copy.fill(0x5a);
        assert_eq!(
            backend.copy_and_sum(&mut copy, bytes).fold(),
            expected,
            "{name} copying"
        );
        assert!(copy == bytes, "{name} copies {} bytes", bytes.len());
    }
}

/// Bytes without a pattern that a sum could miss.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(0xd129_42dd_5f4f_8a65).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes behind and before the slice must not count: every length with every alignment.
#[test]
fn every_length_and_alignment() {
    let bytes = noise(64 + 4096);
    for len in 0..=4096 {
        for at in 0..64 {
            let slice = &bytes[at..at + len];
            let expected = Backend::available().next().map(|b| b.sum(slice));
            for backend in Backend::available().skip(1) {
                assert_eq!(
                    Some(backend.sum(slice)),
                    expected,
                    "{} {at}+{len}",
                    backend.name()
                );
            }
            assert_eq!(Some(sum(slice)), expected, "dispatch {at}+{len}");
        }
        agree(&bytes[len % 64..][..len]);
    }
}

/// The largest sums: lanes wrap if they can, also beyond one block.
#[test]
fn nothing_overflows() {
    const KIB: usize = 1024;
    let around = |len: usize| [len - 65, len - 1, len, len + 1, len + 64, len + 65];
    let lens = [around(64 * KIB), around(128 * KIB)].concat();
    for len in lens.into_iter().chain([4096, 500_001]) {
        for byte in [0xff, 0x80, 0] {
            agree(&vec![byte; len]);
        }
        agree(&noise(len));
    }
    agree(&[]);
    assert_eq!(sum(&[0; 1000]).fold(), 0);
    assert_eq!(sum(&[0xff; 1000]).fold(), 0xffff);
    let many = Sum::from_le(u64::MAX);
    assert_eq!((many + many).fold(), 0xffff);
}

/// AVX2 estimates a sum by averages that round up. Here each of them does, and by as much as it can:
/// in every lane, the upper words of eight vectors.
#[test]
fn the_estimate_at_its_worst() {
    const HIGH: [u8; 8] = [0, 1, 1, 2, 1, 2, 2, 3];
    for low in [0, 0xff] {
        let vectors = HIGH.map(|high| [low, low, high, 0].repeat(8)).concat();
        let bytes = vectors.repeat(2 * 64 * 1024 / vectors.len() + 1);
        for len in [256, 1500, 9000, 64 * 1024, 128 * 1024] {
            agree(&bytes[..len]);
            // Copies begin the first block where the destination is aligned.
            let mut room = vec![0; len + 32];
            for at in (0..32).step_by(2) {
                let copied = copy_and_sum(&mut room[at..at + len], &bytes[..len]);
                assert_eq!(copied.fold(), naive(&bytes[..len]), "{at}+{len}");
            }
        }
    }
}

/// A copy writes its destination and nothing beside it, wherever in a cache line it begins and its
/// source does.
#[test]
fn a_copy_stays_in_bounds() {
    const LONGEST: usize = 4001;
    let mut room = vec![0xa5; 64 + 64 + LONGEST + 64];
    let lens = [
        1023, 1024, 1500, 2047, 2048, 2049, 2303, 2304, 2305, LONGEST,
    ];
    for bytes in [
        noise(LONGEST + 64),
        vec![0xff; LONGEST + 64],
        vec![0x80; LONGEST + 64],
        vec![0; LONGEST + 64],
    ] {
        for len in (0..700).chain(lens) {
            for at in 64..128 {
                // Another alignment for each; for another length, others together.
                let src = &bytes[(at * 7 + len) % 64..][..len];
                let expected = naive(src);
                let mut check = |name: &str, copy: &dyn Fn(&mut [u8], &[u8]) -> Sum| {
                    room.fill(0xa5);
                    let copied = copy(&mut room[at..at + len], src);
                    assert_eq!(copied.fold(), expected, "{name} {at}+{len}");
                    assert!(room[at..at + len] == *src, "{name} {at}+{len}");
                    let mut beside = room[..at].iter().chain(&room[at + len..]);
                    assert!(beside.all(|&b| b == 0xa5), "{name} {at}+{len}");
                };
                check("dispatch", &copy_and_sum);
                for backend in Backend::available() {
                    check(backend.name(), &|dst, src| backend.copy_and_sum(dst, src));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "source and destination differ")]
fn a_copy_of_another_length_is_refused() {
    copy_and_sum(&mut [0; 100], &[0; 99]);
}

#[test]
fn the_preferred_is_the_last_available() {
    assert_eq!(Some(Backend::preferred()), Backend::available().last());
}

proptest! {
    #[test]
    fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..4096), skip in 0usize..64) {
        agree(bytes.get(skip..).unwrap_or(&bytes));
    }

    #[test]
    fn agrees_with_smoltcp(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        use smoltcp::wire::checksum;
        prop_assert_eq!(sum(&bytes).fold(), checksum::data(&bytes));
    }

    /// Wherever a scatter list is cut, it sums up to the whole.
    #[test]
    fn pieces_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..4096), cuts in proptest::collection::vec(0usize..600, 0..40)) {
        let expected = naive(&bytes);
        let mut rest = &bytes[..];
        let (mut pieces, mut copied) = (Accumulator::new(), Accumulator::starting_with(Sum::word(7)));
        let mut copy = Vec::new();
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            pieces.add(piece);
            let at = copy.len();
            copy.resize(at + piece.len(), 0);
            copied.add_copy(&mut copy[at..], piece);
        }
        prop_assert_eq!(pieces.sum().fold(), expected);
        prop_assert_eq!(pieces.finish(), !expected);
        prop_assert_eq!(copied.sum(), Sum::word(expected) + Sum::word(7));
        prop_assert_eq!(copy, bytes);
    }

    #[test]
    fn two_pieces_by_hand(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        let b = if a.len() % 2 == 1 { sum(b).swapped() } else { sum(b) };
        prop_assert_eq!((sum(a) + b).fold(), naive(&bytes));
    }
}
