//! Ring and pool in every interleaving that loom can find:
//! `cargo xtask loom`, which is `cargo test --release --test loom` with `RUSTFLAGS="--cfg loom"`.
//!
//! The slots of a ring are watched by the crate itself in this configuration; the bytes of pool
//! buffers by the cells of [`watched::Watched`], one for each buffer.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // A model that cannot go on shall stop.

mod pool;
mod ring;
mod trays;
mod watched;

use loom::model::Builder;

/// Runs the model with at most `preemptions` involuntary switches (three find all known kinds of
/// bug in practice), or in full.
pub(crate) fn model(preemptions: Option<usize>, work: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(work);
}
