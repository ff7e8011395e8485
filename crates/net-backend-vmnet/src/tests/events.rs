//! Events as a descriptor, sleep and wake, and an interface that is unwell.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use net_backend::{BackendError, NetworkBackend, TxFrame};

use super::{frame, received, shared, start, tick};
use crate::fake::{Fake, Script};
use crate::{Vmnet, VmnetConfig};

/// Whether the descriptor is readable; takes one byte of what is there.
fn readable(vmnet: &Vmnet) -> bool {
    let source = vmnet.source().expect("a descriptor");
    let mut source = UnixStream::from(source.try_clone_to_owned().unwrap());
    matches!(source.read(&mut [0]), Ok(1))
}

#[test]
fn packets_make_the_descriptor_readable() {
    let (fake, mut vmnet) = shared(Script::default());
    // Once at the start, for what was there before the callback.
    assert!(received(&mut vmnet, 8).is_empty() && !readable(&vmnet));
    fake.deliver(&frame(1, 60));
    fake.shared.events.settle();
    assert!(readable(&vmnet));
    assert_eq!(received(&mut vmnet, 8).len(), 1);
    assert!(received(&mut vmnet, 8).is_empty() && !readable(&vmnet));
}

#[test]
fn packets_from_before_the_callback_are_not_forgotten() {
    let fake = Fake::new();
    fake.state().inbound.push_back(frame(1, 60));
    let mut vmnet = start(&fake, VmnetConfig::shared()).unwrap();
    assert!(readable(&vmnet));
    assert_eq!(received(&mut vmnet, 8).len(), 1);
}

#[test]
fn only_packets_are_asked_for() {
    let (fake, _vmnet) = shared(Script::default());
    assert_eq!(fake.state().event_masks, [1]);
}

/// A million events and nobody reads: no thread of the framework is ever held up.
#[test]
fn events_that_nobody_reads() {
    let (fake, mut vmnet) = shared(Script::default());
    let on_event = fake.state().on_event.clone().unwrap();
    for _ in 0..1_000_000 {
        on_event(1);
    }
    assert!(received(&mut vmnet, 8).is_empty() && !readable(&vmnet));
}

/// Packets that came while the machine slept are found with the first event after it.
#[test]
fn sleep_and_wake() {
    let (fake, mut vmnet) = shared(Script::default());
    received(&mut vmnet, 8);
    fake.state().asleep = true;
    fake.deliver(&frame(1, 60));
    fake.deliver(&frame(2, 60));
    fake.shared.events.settle();
    assert!(!readable(&vmnet));
    fake.state().asleep = false;
    fake.deliver(&frame(3, 60));
    fake.shared.events.settle();
    assert!(readable(&vmnet));
    assert_eq!(received(&mut vmnet, 8).len(), 3);
}

/// Calls that fail for a while: the interface waits, comes back, and asks for its events again.
#[test]
fn unwell_and_well_again() {
    let (fake, mut vmnet) = shared(Script::default());
    received(&mut vmnet, 8);
    fake.state().inbound.push_back(frame(1, 60));
    fake.state().next_reads.extend([1001; 20]);
    let mut now = Duration::ZERO;
    for _ in 0..20 {
        assert!(received(&mut vmnet, 8).is_empty() && vmnet.is_running());
        let begun = now;
        tick(&mut vmnet, &mut now);
        assert!(
            now - begun >= Duration::from_millis(100),
            "a pause between two tries"
        );
        assert!(readable(&vmnet), "whoever waits is told to try again");
    }
    assert_eq!(fake.state().event_masks, [1]);
    assert_eq!(received(&mut vmnet, 8), [frame(1, 60)]);
    assert_eq!(fake.state().event_masks, [1, 1]);
    assert!(readable(&vmnet) && vmnet.next_deadline().is_none());
    assert_eq!(vmnet.statistics().disconnects, 0);
}

/// One that does not get well is given up, once, with the reason.
#[test]
fn unwell_for_good() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.state().next_reads.extend([1001; 100]);
    let mut now = Duration::ZERO;
    let mut tries = 0;
    let error = loop {
        match vmnet.receive(8, &mut |_| {}) {
            Ok(0) => tick(&mut vmnet, &mut now),
            Ok(_) => panic!("there is nothing"),
            Err(error) => break error,
        }
        tries += 1;
    };
    assert_eq!(tries, 50);
    assert!(matches!(
        error,
        BackendError::Host {
            errno: libc::EIO,
            ..
        }
    ));
    assert!(!vmnet.is_running());
    assert!(matches!(
        vmnet.receive(8, &mut |_| {}),
        Err(BackendError::Disconnected)
    ));
    let frame = frame(1, 60);
    let segments = [frame[..].into()];
    let offer = [TxFrame::plain(&segments)];
    assert!(matches!(
        vmnet.transmit(&offer),
        Err(BackendError::Disconnected)
    ));
}

/// A write that fails is tried again, and the frame is not lost.
#[test]
fn unwell_while_writing() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.state().next_writes.extend([1001, 1001]);
    let frame = frame(1, 60);
    let segments = [frame[..].into()];
    let offer = [TxFrame::plain(&segments)];
    let mut now = Duration::ZERO;
    for _ in 0..2 {
        assert_eq!(vmnet.transmit(&offer).unwrap(), 0);
        assert_eq!(
            vmnet.transmit(&offer).unwrap(),
            0,
            "not before the pause is over"
        );
        tick(&mut vmnet, &mut now);
    }
    assert_eq!(vmnet.transmit(&offer).unwrap(), 1);
    assert_eq!(fake.taken(), Some(frame.clone()));
    assert_eq!(fake.state().writes.len(), 3);
}

/// The interface goes while packets are under way: they arrive, then the end is told.
#[test]
fn the_interface_goes() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.deliver(&frame(1, 60));
    fake.deliver(&frame(2, 60));
    fake.die();
    assert_eq!(received(&mut vmnet, 1).len(), 1);
    assert_eq!(received(&mut vmnet, 8).len(), 1);
    assert!(matches!(
        vmnet.receive(8, &mut |_| {}),
        Err(BackendError::Disconnected)
    ));
    assert!(!vmnet.is_running());
    assert_eq!(vmnet.statistics().disconnects, 1);
    drop(vmnet);
    assert_eq!(fake.state().stops, 1);
}
