//! Going to sleep without missing what comes meanwhile.
//!
//! Each side of a ring says something and then looks at what the other has said. A device asks to be
//! told and then looks for chains; a driver shows chains and then looks whether the device wants to be
//! told. Whatever the order, at least one of them sees what the other said: either the device finds the
//! chain, or the driver rings. The same holds the other way round for chains given back and interrupts
//! (VIRTIO 1.3, 2.7.10 and 2.8.10).

#[cfg(loom)]
use loom::sync::atomic::{Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{Ordering, fence};

/// Says something, and then looks.
#[inline(always)]
pub(super) fn say_then_look<T>(say: impl FnOnce(), look: impl FnOnce() -> T) -> T {
    say();
    // Neither release nor acquire keeps a store before a later load of something else.
    fence(Ordering::SeqCst);
    look()
}
