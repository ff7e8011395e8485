//! What is cleaned up after a dead process, and what is not.

use net_wire::MacAddr;

use super::{config, create, host, networks, take_over, tap};
use crate::config::NetworkMode;
use crate::error::ManagerError;
use crate::kernel::fake::Fault;
use crate::kernel::ops::KernelOps;
use crate::kernel::state::StateDir;
use crate::kernel::undo;

/// The alias tells whose an interface is: a name that somebody else has taken meanwhile is safe.
#[test]
fn what_is_not_ours_is_left_alone() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    network.attach(&tap("tap1")).unwrap();
    fake.fail_at(0, Fault::KilledBefore);
    drop(network);
    fake.revive();
    fake.change_world(|world| {
        for (name, mac) in [("ab-blue", 1), ("tap1", 2)] {
            world.add(name, Some(MacAddr([6, 6, 6, 6, 6, mac])), Some("bridge"));
        }
    });
    undo::recover(&fake, &StateDir::new(root.path())).unwrap();
    let world = fake.world();
    assert!(world.names().contains(&"ab-blue") && world.names().contains(&"tap1"));
    assert!(!world.names().contains(&"as-blue"));
    assert!(world.rules.is_empty());
}

#[test]
fn a_living_network_is_left_alone() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let alive = fake.world();
    let state = StateDir::new(root.path());
    assert!(undo::recover(&fake, &state).unwrap().is_empty());
    assert_eq!(fake.world(), alive);
    let second = create(&fake, &config("blue", NetworkMode::Nat), root.path());
    let error = second.unwrap_err().to_string();
    let pid = std::process::id().to_string();
    assert!(error.contains("blue") && error.contains(&pid), "{error}");
    assert_eq!(fake.world(), alive);
    network.destroy().unwrap();
}

#[test]
fn a_new_start_cleans_up_by_itself() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let before = fake.world();
    let network = create(&fake, &take_over(), root.path()).unwrap();
    fake.fail_at(0, Fault::KilledBefore);
    drop(network);
    fake.revive();
    create(&fake, &config("blue", NetworkMode::Nat), root.path())
        .unwrap()
        .destroy()
        .unwrap();
    assert_eq!(fake.world(), before);
}

#[test]
fn what_another_boot_or_namespace_has_left() {
    let leave = || {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
        fake.fail_at(0, Fault::KilledBefore);
        drop(network);
        fake.revive();
        (fake, root)
    };
    // After a boot everything is gone by itself; what has the same name is a stranger's.
    let (fake, root) = leave();
    fake.reboot();
    let left = fake.world();
    undo::recover(&fake, &StateDir::new(root.path())).unwrap();
    assert_eq!(fake.world(), left);
    assert!(networks(root.path()).is_empty());
    // In another namespace it cannot be reached, and is not forgotten.
    let (fake, root) = leave();
    fake.enter_namespace(9);
    let state = StateDir::new(root.path());
    let error = undo::recover(&fake, &state).unwrap_err();
    assert!(
        matches!(error, ManagerError::OtherNamespace { .. }),
        "{error}"
    );
    assert_eq!(networks(root.path()), ["blue"]);
    fake.enter_namespace(0);
    assert_eq!(undo::recover(&fake, &state).unwrap().len(), 1);
}
