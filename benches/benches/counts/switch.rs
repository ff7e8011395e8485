//! Frames from one guest's memory into another's, with the work of both drivers.

use std::time::Duration;

use crate::Operation;
use crate::guest::{Guest, RING};
use crate::path::Path;

pub(crate) const OPERATIONS: &[Operation] = &[
    ("switch-64", |n| carry(n, 64)),
    ("switch-1500", |n| carry(n, 1500)),
];

fn carry(frames: u64, len: usize) {
    let buffers = RING.into();
    let (mut from, mut to) = (Guest::new(len, buffers, 1), Guest::new(len, buffers, 2));
    let mut path = Path::with_switch(&from, &to);
    let mut devices = Duration::ZERO;
    path.carry_here(&mut from, &mut to, frames as usize, &mut devices);
}
