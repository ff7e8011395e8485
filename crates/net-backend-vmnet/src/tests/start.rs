//! Starting: answers that are late, missing, repeated, from anywhere; interfaces that do not come.

use std::time::{Duration, Instant};

use super::{SHORT, hasty, start};
use crate::fake::{Answer, Fake, Script};
use crate::{Status, Vmnet, VmnetConfig, VmnetError};

fn with(script: Script) -> (Fake, Result<Vmnet, VmnetError>) {
    let fake = Fake::with(script);
    let vmnet = start(&fake, VmnetConfig::shared());
    (fake, vmnet)
}

#[test]
fn an_answer_from_another_thread() {
    let (fake, vmnet) = with(Script::default());
    assert!(vmnet.unwrap().is_running());
    assert_eq!(fake.state().started, 1);
}

#[test]
fn an_answer_before_the_call_returns() {
    let (_fake, vmnet) = with(Script {
        start_answer: Answer::Within,
        ..Script::default()
    });
    assert!(vmnet.unwrap().is_running());
}

#[test]
fn a_late_answer() {
    let (_fake, vmnet) = with(Script {
        start_answer: Answer::After(SHORT),
        ..Script::default()
    });
    assert!(vmnet.unwrap().is_running());
}

#[test]
fn the_same_answer_three_times() {
    let (fake, vmnet) = with(Script {
        start_answer: Answer::Times(3),
        ..Script::default()
    });
    let vmnet = vmnet.unwrap();
    fake.shared.completions.settle();
    assert!(vmnet.is_running());
}

#[test]
fn no_answer() {
    let fake = Fake::with(Script {
        start_answer: Answer::Never,
        ..Script::default()
    });
    let begun = Instant::now();
    let error = Vmnet::start(fake.framework(), None, VmnetConfig::shared(), hasty()).unwrap_err();
    assert!(
        matches!(error, VmnetError::Timeout { what: "start an interface", after } if after == SHORT)
    );
    assert!(error.to_string().contains("0.05 seconds"), "{error}");
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(fake.ends(), (1, 1));
}

/// A handler that is given up will never be told: nobody waits for it.
#[test]
fn an_answer_that_is_given_up() {
    let begun = Instant::now();
    let (fake, vmnet) = with(Script {
        start_answer: Answer::Dropped,
        ..Script::default()
    });
    assert!(matches!(
        vmnet,
        Err(VmnetError::NoAnswer {
            what: "start an interface"
        })
    ));
    assert!(begun.elapsed() < super::patience().start / 2);
    assert_eq!(fake.ends(), (1, 1));
}

/// An answer that comes when nobody waits any more finds nobody, and does no harm.
#[test]
fn an_answer_after_everybody_has_left() {
    let fake = Fake::with(Script {
        start_answer: Answer::After(SHORT * 4),
        stop_answer: Answer::Never,
        ..Script::default()
    });
    let error = Vmnet::start(fake.framework(), None, VmnetConfig::shared(), hasty()).unwrap_err();
    assert!(matches!(error, VmnetError::Timeout { .. }));
    fake.shared.completions.settle();
    assert_eq!(fake.state().dropped, 1);
}

#[test]
fn no_interface_and_no_reason() {
    let (fake, vmnet) = with(Script {
        null_interface: true,
        start_answer: Answer::Never,
        ..Script::default()
    });
    let error = vmnet.unwrap_err();
    assert!(matches!(error, VmnetError::NoInterface));
    assert!(error.to_string().contains("root"), "{error}");
    // There is nothing to stop.
    assert_eq!(fake.state().stops, 0);
}

#[test]
fn no_interface_and_a_reason() {
    let (fake, vmnet) = with(Script {
        null_interface: true,
        start_status: 1010,
        ..Script::default()
    });
    assert!(matches!(
        vmnet,
        Err(VmnetError::Refused {
            status: Status::NotAuthorized,
            ..
        })
    ));
    assert_eq!(fake.state().stops, 0);
}

/// Success without an interface is no success.
#[test]
fn no_interface_and_success() {
    let (_fake, vmnet) = with(Script {
        null_interface: true,
        ..Script::default()
    });
    assert!(matches!(vmnet, Err(VmnetError::NoInterface)));
}

#[test]
fn a_name_that_cannot_be_bridged() {
    let fake = Fake::new();
    let error = start(&fake, VmnetConfig::bridged("en7")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "en7 cannot be bridged; those that can: en0, en10"
    );
    assert!(fake.state().requests.is_empty());
    fake.state().script.bridgeable = Some(Vec::new());
    let error = start(&fake, VmnetConfig::bridged("en0")).unwrap_err();
    assert!(
        error.to_string().ends_with("those that can: none"),
        "{error}"
    );
}

/// A system that does not tell which can be bridged is asked to try.
#[test]
fn a_list_that_is_not_told() {
    let fake = Fake::with(Script {
        bridgeable: None,
        ..Script::default()
    });
    assert!(
        start(&fake, VmnetConfig::bridged("en7"))
            .unwrap()
            .is_running()
    );
}

/// What a system without the framework says, of every function that would need it.
#[cfg(not(target_os = "macos"))]
#[test]
fn another_system() {
    let errors = [
        Vmnet::new(VmnetConfig::shared()).unwrap_err(),
        Vmnet::new_shared().unwrap_err(),
        Vmnet::new_host_only().unwrap_err(),
        Vmnet::new_bridged("en0").unwrap_err(),
        Vmnet::shared_interfaces().unwrap_err(),
        crate::VmnetNetwork::new(&crate::VmnetNetworkConfig::shared()).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, VmnetError::UnsupportedSystem));
        assert!(error.to_string().contains("not supported on this system"));
    }
}

/// The framework is given half a minute to start and ten seconds for the rest.
#[test]
fn the_bounds() {
    let patience = crate::session::Patience::default();
    assert_eq!(patience.start, Duration::from_secs(30));
    assert_eq!(patience.reason, Duration::from_secs(1));
    assert_eq!(patience.other, Duration::from_secs(10));
}
