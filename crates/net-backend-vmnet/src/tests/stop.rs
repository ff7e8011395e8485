//! Stopping and dropping: once, bounded, from any thread, whatever the framework does.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use net_backend::{BackendError, NetworkBackend};

use super::{SHORT, frame, hasty, shared};
use crate::fake::{Answer, Fake, Script};
use crate::{Vmnet, VmnetConfig, VmnetError};

#[test]
fn a_stop_waits_for_its_completion() {
    let (fake, mut vmnet) = shared(Script {
        stop_answer: Answer::After(SHORT),
        ..Script::default()
    });
    let begun = Instant::now();
    vmnet.stop().unwrap();
    assert!(begun.elapsed() >= SHORT);
    assert!(!vmnet.is_running());
    assert_eq!(fake.state().stops, 1);
}

#[test]
fn a_second_stop_does_nothing() {
    let (fake, mut vmnet) = shared(Script::default());
    vmnet.stop().unwrap();
    vmnet.stop().unwrap();
    drop(vmnet);
    let state = fake.state();
    assert_eq!((state.stops, state.dropped), (1, 1));
}

#[test]
fn a_drop_stops() {
    let (fake, vmnet) = shared(Script::default());
    drop(vmnet);
    let state = fake.state();
    assert_eq!((state.started, state.stops, state.dropped), (1, 1, 1));
}

/// The callback is taken back before the interface is stopped.
#[test]
fn events_end_first() {
    let (fake, mut vmnet) = shared(Script::default());
    assert_eq!(fake.state().event_masks, [1]);
    vmnet.stop().unwrap();
    assert_eq!(fake.state().event_masks, [1, 1]);
    assert!(fake.state().on_event.is_none());
}

#[test]
fn a_completion_told_five_times() {
    let (fake, mut vmnet) = shared(Script {
        stop_answer: Answer::Times(5),
        ..Script::default()
    });
    vmnet.stop().unwrap();
    fake.shared.completions.settle();
}

#[test]
fn a_completion_before_the_call_returns() {
    let (_fake, mut vmnet) = shared(Script {
        stop_answer: Answer::Within,
        ..Script::default()
    });
    vmnet.stop().unwrap();
}

#[test]
fn a_completion_that_never_comes() {
    let fake = Fake::with(Script {
        stop_answer: Answer::Never,
        ..Script::default()
    });
    let start = || Vmnet::start(fake.framework(), None, VmnetConfig::shared(), hasty()).unwrap();
    let mut vmnet = start();
    let error = vmnet.stop().unwrap_err();
    assert!(matches!(
        error,
        VmnetError::Timeout {
            what: "stop the interface",
            ..
        }
    ));
    assert!(!vmnet.is_running());
    drop(vmnet);
    // Dropping does not wait for ever either, and gives up what it has.
    drop(start());
    let state = fake.state();
    assert_eq!((state.started, state.stops, state.dropped), (2, 2, 2));
}

/// A stop that was refused brings no completion, and nobody waits for one.
#[test]
fn a_refused_stop_does_not_wait() {
    let (fake, mut vmnet) = shared(Script {
        stop_asked: 1004,
        ..Script::default()
    });
    let begun = Instant::now();
    assert!(matches!(vmnet.stop(), Err(VmnetError::Refused { .. })));
    assert!(begun.elapsed() < super::patience().other / 2);
    drop(vmnet);
    assert_eq!(fake.state().stops, 1);
}

#[test]
fn after_a_stop_nothing_moves() {
    let (fake, mut vmnet) = shared(Script::default());
    vmnet.stop().unwrap();
    fake.deliver(&frame(1, 60));
    let mut buffer = [0; 1514];
    assert!(matches!(
        vmnet.read_packet(&mut buffer),
        Err(VmnetError::NotRunning)
    ));
    assert!(matches!(
        vmnet.write_packet(&frame(1, 60)),
        Err(VmnetError::NotRunning)
    ));
    assert!(matches!(
        vmnet.receive(1, &mut |_| {}),
        Err(BackendError::Disconnected)
    ));
    assert!(matches!(
        vmnet.transmit(&[]),
        Err(BackendError::Disconnected)
    ));
    assert!(matches!(vmnet.flush(), Err(BackendError::Disconnected)));
    let rule = super::forwarding::rule();
    assert!(matches!(
        vmnet.add_forward(rule),
        Err(VmnetError::NotRunning)
    ));
    assert!(matches!(vmnet.forwards(), Err(VmnetError::NotRunning)));
    assert_eq!(fake.calls(), (0, 0));
}

/// Runs `job` on a thread of the framework and waits for it.
fn within(queue: &crate::fake::Queue, job: impl FnOnce() + Send + 'static) -> Duration {
    let (done, wait) = channel();
    let begun = Instant::now();
    queue.run(move || {
        job();
        done.send(()).unwrap();
    });
    wait.recv_timeout(SHORT * 200).expect("a deadlock");
    begun.elapsed()
}

/// A drop inside an event's callback: the completion comes on another queue.
#[test]
fn a_drop_inside_an_event() {
    let (fake, vmnet) = shared(Script::default());
    let took = within(&fake.shared.events, move || drop(vmnet));
    assert!(took < super::patience().other / 2);
    assert_eq!(fake.ends(), (1, 1));
}

/// A drop on the very queue that would bring the completion: it waits no longer than it may.
#[test]
fn a_drop_inside_a_completion() {
    let fake = Fake::new();
    let vmnet = Vmnet::start(
        fake.framework(),
        None,
        VmnetConfig::shared(),
        super::Patience {
            other: SHORT,
            ..super::patience()
        },
    );
    let vmnet = vmnet.unwrap();
    within(&fake.shared.completions, move || drop(vmnet));
    fake.shared.completions.settle();
    assert_eq!(fake.ends(), (1, 1));
}

/// An event that is under way while the interface goes finds its wake-up still there.
#[test]
fn an_event_after_the_drop() {
    let (fake, vmnet) = shared(Script::default());
    let late = fake.state().on_event.clone().unwrap();
    drop(vmnet);
    fake.shared.events.run(move || late(1));
    fake.shared.events.settle();
}

/// An interface may move to another thread, with everything that belongs to it.
#[test]
fn an_interface_moves_between_threads() {
    let (fake, mut vmnet) = shared(Script::default());
    fake.deliver(&frame(3, 60));
    let got = std::thread::spawn(move || super::received(&mut vmnet, 8).len());
    assert_eq!(got.join().unwrap(), 1);
    assert_eq!(fake.state().dropped, 1);
}

/// Nothing is left of a hundred interfaces, and none is stopped twice.
#[test]
fn a_hundred_lives() {
    let fake = Fake::new();
    for round in 0..100 {
        let mut vmnet = super::start(&fake, VmnetConfig::host_only()).unwrap();
        if round % 2 == 0 {
            vmnet.stop().unwrap();
        }
    }
    let state = fake.state();
    assert_eq!((state.started, state.stops, state.dropped), (100, 100, 100));
    assert!(state.on_event.is_none());
}
