//! Headers in front of their frames, and in descriptors of their own, as many drivers have them.

use std::time::Duration;

use net_benches::harness::{Unit, contender, table};

use crate::guest::Guest;
use crate::path::Path;
use crate::ring::{Header, Layout};

const FRAMES: usize = 1 << 19;
const LEN: usize = 64;
/// Bytes of payload of either direction, as in the warm sections.
const WARM: usize = 192 << 10;

/// Prints how many frames devices and switch carry, by where the sender and the receiver have headers.
pub(crate) fn run(rounds: usize) {
    let [joined, apart, tables] = [Header::Joined, Header::Apart, Header::Table].map(Layout::split);
    let [packed, packed_apart, packed_tables] =
        [Header::Joined, Header::Apart, Header::Table].map(Layout::packed);
    let contenders = vec![
        contender("split, joined", way(joined, joined)),
        contender("split, apart, sender", way(apart, joined)),
        contender("split, apart, receiver", way(joined, apart)),
        contender("split, apart", way(apart, apart)),
        contender("split, tables", way(tables, tables)),
        contender("packed, joined", way(packed, packed)),
        contender("packed, apart, sender", way(packed_apart, packed)),
        contender("packed, apart, receiver", way(packed, packed_apart)),
        contender("packed, apart", way(packed_apart, packed_apart)),
        contender("packed, tables", way(packed_tables, packed_tables)),
    ];
    let title = "headers-64: 64-byte frames, devices and switch alone, by where the headers are";
    table(title, Unit::Millions, FRAMES as u64, rounds, contenders);
}

/// From a guest of one layout to a guest of another.
fn way(from: Layout, to: Layout) -> impl FnMut() -> Duration {
    let guest = |number, layout| Guest::with_layout(LEN, WARM / LEN, number, layout);
    let (mut from, mut to) = (guest(1, from), guest(2, to));
    let mut path = Path::with_switch(&from, &to);
    move || path.carry(&mut from, &mut to, FRAMES).1
}
