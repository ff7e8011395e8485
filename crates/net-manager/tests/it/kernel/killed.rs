//! Killed at any moment, a network is cleaned up after, and nothing else is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use net_manager::kernel::{KernelNetwork, StateDir, TapPort};
use net_manager::{AttachOptions, Network, NetworkMode};

use super::{Snapshot, VICTIM, World, config};

/// How often a process is killed.
const ROUNDS: u64 = 200;
/// The longest life, in milliseconds: about twice what a network takes to come and go.
const LIFE: u64 = 400;

/// A network that comes, changes and goes, over and over, until it is killed.
pub(crate) fn victim(state: &str, mode: &str) -> std::process::ExitCode {
    loop {
        let mut config = config(Path::new(state), mode.parse().unwrap());
        if config.mode == NetworkMode::Bridge {
            config.take_over = Some("up0".to_owned());
        }
        let routed = config.mode != NetworkMode::Bridge;
        let network = Network::new(config);
        network.start().unwrap();
        let tap = TapPort {
            name: "vm1".to_owned(),
            ..TapPort::default()
        };
        let attached = network.attach_tap(tap, AttachOptions::default()).unwrap();
        if routed {
            let port = network.publish("0:80".parse().unwrap()).unwrap();
            network.unpublish(port.id).unwrap();
        }
        network.detach(attached.info.id).unwrap();
        network.stop();
    }
}

pub(super) fn killed() {
    // IPv6 too, with a way out that the host hears of: a mode moves it, another makes a router of
    // the host.
    let world = World::with_ipv6(NetworkMode::Nat);
    // Somebody else's setting, which is not that of all.
    std::fs::write("/proc/sys/net/ipv4/conf/up0/forwarding", "1").unwrap();
    let up = world.netlink.link("up0").unwrap().index;
    let far = super::FAR.parse().unwrap();
    world.netlink.add_default_route(up, far).unwrap();
    let before = Snapshot::take(&world.netlink);
    let state = StateDir::new(world.state.path());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut cleaned = 0;
    for round in 0..ROUNDS {
        let mode = ["nat", "bridge", "host-only"][(round % 3) as usize];
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .arg(VICTIM)
            .arg(world.state.path())
            .arg(mode)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // xorshift: the same moments in every run, as far as the machine is the same.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_millis(random % LIFE));
        let ended = victim.try_wait().unwrap();
        assert!(ended.is_none(), "{mode} ended by itself: {ended:?}");
        victim.kill().unwrap();
        victim.wait().unwrap();
        // Half of the time by the next to use the name, else by whoever cleans up.
        if round % 2 == 0 {
            cleaned += KernelNetwork::recover(&state).unwrap().len();
        } else {
            let network = Network::new(config(world.state.path(), NetworkMode::HostOnly));
            network.start().unwrap();
            network.stop();
        }
        // A question to nft that outlives who asked it, and is never carried out, may show for as
        // long as the kernel takes to forget it, and a router is heard again when it speaks. What was
        // left behind stays.
        let mut difference = String::new();
        for _ in 0..100 {
            difference = before.difference(&Snapshot::take(&world.netlink));
            if difference.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(
            difference.is_empty(),
            "round {round}, {mode}:\n{difference}"
        );
        assert!(state.networks().unwrap().is_empty());
    }
    assert!(cleaned > ROUNDS as usize / 10, "only {cleaned} were alive");
}
