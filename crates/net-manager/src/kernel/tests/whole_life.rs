//! A network from its beginning to its end, cut short at every single step.

use std::path::Path;

use net_usernet::Protocol;

use super::{config, create, host, netns, networks, publish, publish6, take_over, tap};
use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;
use crate::kernel::fake::{Fake, Fault};
use crate::kernel::ops::{KernelAttach, KernelOps, MacvtapPort};
use crate::kernel::state::StateDir;
use crate::kernel::undo;

/// All that a network can do, and its end.
pub(super) fn whole_life(
    fake: &Fake,
    config: &NetworkConfig,
    root: &Path,
) -> Result<(), ManagerError> {
    let network = create(fake, config, root)?;
    network.attach(&tap("tap1"))?;
    network.attach(&tap("tap2"))?;
    let veth = network.attach(&netns())?.interface;
    if config.mode == NetworkMode::Bridge {
        network.attach(&KernelAttach::Macvtap(MacvtapPort {
            parent: "eth1".to_owned(),
            name: "mv1".to_owned(),
            mac: [2, 0, 0, 0, 0, 6],
            owner: None,
        }))?;
    } else {
        let address = network.forward(&publish(3))?;
        network.forward(&publish(4))?;
        network.forward(&publish6())?;
        network.unforward(Protocol::Tcp, address)?;
    }
    network.detach("tap1")?;
    network.detach(&veth)?;
    network.destroy()
}

fn every_mode() -> [NetworkConfig; 5] {
    [
        config("blue", NetworkMode::Nat),
        config("blue", NetworkMode::HostOnly),
        config("blue", NetworkMode::Bridge),
        take_over(),
        NetworkConfig {
            isolated: true,
            ..config("blue", NetworkMode::HostOnly)
        },
    ]
}

#[test]
fn a_whole_life_leaves_nothing() {
    for config in every_mode() {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        let before = fake.world();
        whole_life(&fake, &config, root.path()).unwrap();
        assert_eq!(fake.world(), before, "{config:?}");
        assert!(networks(root.path()).is_empty());
    }
}

/// Killed at any change, before or after the kernel has made it: whoever cleans up finds it all.
#[test]
fn a_death_at_any_step_is_cleaned_up_after() {
    for config in every_mode() {
        let (fake, root) = (host(), tempfile::tempdir().unwrap());
        whole_life(&fake, &config, root.path()).unwrap();
        let changes = fake.revive();
        assert!(changes > 10, "{changes}");
        for change in 0..changes {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let (fake, root) = (host(), tempfile::tempdir().unwrap());
                let before = fake.world();
                fake.fail_at(change, fault);
                let result = whole_life(&fake, &config, root.path());
                assert!(fake.is_dead(), "{config:?} {change}");
                assert!(result.is_err() || change + 1 == changes);
                fake.revive();
                let state = StateDir::new(root.path());
                undo::recover(&fake, &state).unwrap();
                assert_eq!(fake.world(), before, "{fault:?} at {change} of {config:?}");
                assert!(networks(root.path()).is_empty());
            }
        }
    }
}

/// Killed once more while cleaning up, at any change, it is the same to the next.
#[test]
fn a_death_while_cleaning_up_too() {
    for config in [config("blue", NetworkMode::Nat), take_over()] {
        let leave = || {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            let before = fake.world();
            let network = create(&fake, &config, root.path()).unwrap();
            network.attach(&tap("tap1")).unwrap();
            fake.fail_at(0, Fault::KilledBefore);
            drop(network);
            fake.revive();
            (fake, root, before)
        };
        let (fake, root, _) = leave();
        undo::recover(&fake, &StateDir::new(root.path())).unwrap();
        let changes = fake.revive();
        for change in 0..changes {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let (fake, root, before) = leave();
                let state = StateDir::new(root.path());
                fake.fail_at(change, fault);
                undo::recover(&fake, &state).unwrap_err();
                fake.revive();
                undo::recover(&fake, &state).unwrap();
                assert_eq!(fake.world(), before, "{fault:?} at {change} of {config:?}");
            }
        }
    }
}

/// What the kernel refuses while a network is made leaves nothing; what it refuses later leaves
/// the network as it was.
#[test]
fn a_refusal_at_any_step_leaves_nothing() {
    for config in every_mode() {
        let changes = {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            whole_life(&fake, &config, root.path()).unwrap();
            fake.revive()
        };
        for change in 0..changes {
            let (fake, root) = (host(), tempfile::tempdir().unwrap());
            let before = fake.world();
            fake.fail_at(change, Fault::Refused);
            // Refused on the way out, it is undone by the next.
            let _ = whole_life(&fake, &config, root.path());
            fake.revive();
            undo::recover(&fake, &StateDir::new(root.path())).unwrap();
            assert_eq!(fake.world(), before, "refused {change} of {config:?}");
        }
    }
}
