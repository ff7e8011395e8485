//! Frames from one guest's memory into another's, with the work of both drivers.

use std::time::Duration;

use crate::Operation;
use crate::guest::{Guest, RING};
use crate::path::Path;
use crate::ring::{Header, Layout};

pub(crate) const OPERATIONS: &[Operation] = &[
    ("switch-64", |n| carry(n, 64, Layout::default())),
    ("switch-1500", |n| carry(n, 1500, Layout::default())),
    // The header in a descriptor of its own, at both ends.
    ("switch-64-apart", |n| {
        carry(n, 64, Layout::split(Header::Apart))
    }),
    ("switch-64-table", |n| {
        carry(n, 64, Layout::split(Header::Table))
    }),
    ("switch-64-packed", |n| {
        carry(n, 64, Layout::packed(Header::Joined))
    }),
    ("switch-64-packed-apart", |n| {
        carry(n, 64, Layout::packed(Header::Apart))
    }),
    ("switch-64-packed-table", |n| {
        carry(n, 64, Layout::packed(Header::Table))
    }),
];

fn carry(frames: u64, len: usize, layout: Layout) {
    let buffers = RING.into();
    let [mut from, mut to] = [1, 2].map(|number| Guest::with_layout(len, buffers, number, layout));
    let mut path = Path::with_switch(&from, &to);
    let mut devices = Duration::ZERO;
    path.carry_here(&mut from, &mut to, frames as usize, &mut devices);
}
