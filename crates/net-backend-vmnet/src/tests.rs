//! Everything above the framework, against the fake.
//!
//! What `vmnet.h` fixes (names, numbers) is spelled here a second time, by hand and as literals:
//! a mistake in one place is a test that fails.

mod conformance;
mod events;
mod forwarding;
mod networks;
mod offloads;
mod options;
mod receive;
mod reply;
mod start;
mod statuses;
mod stop;
mod transmit;
mod validation;

use std::time::Duration;

use net_backend::NetworkBackend;

use crate::fake::{Fake, Script};
use crate::session::Patience;
use crate::{Vmnet, VmnetConfig, VmnetError};

/// Long enough for a thread to be scheduled, short enough to wait for in a test.
const SHORT: Duration = Duration::from_millis(50);

fn patience() -> Patience {
    Patience {
        start: SHORT * 100,
        reason: SHORT,
        other: SHORT * 100,
    }
}

fn hasty() -> Patience {
    Patience {
        start: SHORT,
        reason: SHORT,
        other: SHORT,
    }
}

fn start(fake: &Fake, config: VmnetConfig) -> Result<Vmnet, VmnetError> {
    Vmnet::start(fake.framework(), None, config, patience())
}

/// A fake that follows a script, and a shared interface of it.
fn shared(script: Script) -> (Fake, Vmnet) {
    let fake = Fake::with(script);
    let vmnet = start(&fake, VmnetConfig::shared()).unwrap();
    (fake, vmnet)
}

/// Receives once; the frames.
fn received(vmnet: &mut Vmnet, budget: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let lent = vmnet
        .receive(budget, &mut |batch| {
            for packet in batch {
                let mut frame = vec![0; packet.len()];
                packet.copy_range(0, &mut frame);
                frames.push(frame);
            }
        })
        .unwrap();
    assert_eq!(lent, frames.len());
    frames
}

/// Lets every deadline of the back end come.
fn tick(vmnet: &mut Vmnet, now: &mut Duration) {
    while let Some(deadline) = vmnet.next_deadline() {
        *now = (*now).max(deadline) + Duration::from_micros(1);
        vmnet.on_deadline(*now);
    }
}

/// A frame of `len` bytes that begins like one and is told by `seed`.
fn frame(seed: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![seed; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    frame
}
