//! A Linux guest whose QEMU has opened a TAP device with two pairs of queues, behind each engine.

use std::process::Command;
use std::time::Duration;

use super::kernel::{Lab, inside};
use super::vm::{published, transfers};
use crate::Result;
use crate::e2e::proc::{self, Proc};
use crate::e2e::serve::HTTP_PORT;
use crate::e2e::vm::{Image, Vm, field};
use crate::e2e::world::{HOST, ORDINARY, OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e tap";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "tap_kernel", |c, k| {
        attached(c, k, HOST, &["--engine", "kernel"]);
    }),
    Case::new(GROUP, "tap_user", |c, k| {
        attached(c, k, HOST, &["--engine", "user"]);
    }),
    Case::new(GROUP, "tap_fast", |c, k| attached(c, k, FAST, &FAST_ENGINE)),
    Case::new(GROUP, "tap_of_somebody_else", somebody_elses),
    Case::new(GROUP, "tap_macvtap", macvtap),
];

/// The address that the fast engine has outside.
const FAST: &str = "203.0.113.9";
const FAST_ENGINE: [&str; 8] = [
    "--engine",
    "fast",
    "--uplink",
    "if:up0",
    "--outside",
    "203.0.113.9/24",
    "--via",
    OUTSIDE,
];

/// Time for something small, on a guest in software emulation.
const SHORT: Duration = Duration::from_secs(20);

/// The machine's device.
const DEVICE: &str = "vm0";

/// What runs a program as an ordinary user who may open `/dev/net/tun`, as on most systems and not
/// on all: with a mount of its own there.
fn with_tun(world: &World) -> Command {
    let script = format!(
        "mount -t tmpfs tun /dev/net && mknod -m 666 /dev/net/tun c 10 200 && \
         exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups --pdeathsig KILL -- \"$@\""
    );
    let mut command = world.host.command("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command.env("HOME", "/").env_remove("XDG_RUNTIME_DIR");
    command
}

/// Boots a guest with two processors on the TAP device; its QEMU has no privileges, and opens the
/// device because it is its user's.
fn boot(image: &Image, world: &World, name: &str, mac: &str) -> Result<Vm> {
    let netdev = format!("tap,id=n0,ifname={DEVICE},script=no,downscript=no,queues=2,vhost=off");
    let device = format!("virtio-net-pci,netdev=n0,mac={mac},mq=on,vectors=6,romfile=");
    let nic = ["-smp", "2", "-netdev", &netdev, "-device", &device];
    Vm::boot_with(image, &world.dir, name, with_tun(world), &nic)
}

/// The word behind `name` in what `up` says of the device.
fn told<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let ready = said.lines().find(|line| line.starts_with("ready "))?;
    let mut words = ready.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()
}

/// A device that the program makes; ports are published at `address`.
fn attached(context: &Context, checks: &mut Checks, address: &str, engine: &[&str]) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let name = format!("t{}", engine[1]);
    let publish = format!("{address}:8090:80");
    let place = format!("tap:{DEVICE},queues=2,owner={ORDINARY}");
    let options = [engine, &["-p", &publish, "--attach", &place]].concat();
    let started = checks.step("the network is up", || {
        Lab::start_with(world, &name, &options, world.namespace(false)?)
    });
    let Some(lab) = started else { return };
    let said = lab.said();
    // Where the kernel carries the frames, a guest is known by its hardware address alone.
    let mac = told(&said, "mac").unwrap_or("52:54:00:e2:e0:77");
    let Some(mut vm) = checks.step("boot", || boot(image, world, &name, mac)) else {
        return;
    };
    checks.step("the address that was announced", || {
        let lease = vm.lease("alpha")?;
        let is = field(&lease, "ip");
        ensure(is.is_some() && is == told(&said, "address"), || {
            format!("{lease}, and not as in: {said}")
        })
    });
    reaches(&mut vm, checks, world, address);
    checks.step("detached, the device is gone", || {
        vm.kill();
        lab.ask(&["detach", DEVICE])?;
        inside(world, &world.host, &format!("! ip link show {DEVICE}"))
    });
    checks.step("stop leaves the host as it was", || lab.stop());
}

/// What a guest is for, and that it was by both pairs of queues.
fn reaches(vm: &mut Vm, checks: &mut Checks, world: &World, address: &str) {
    checks.step("ping gateway and outside", || {
        vm.check(
            &format!("ping -c2 -W2 10.0.2.1 && ping -c2 -W2 {OUTSIDE}"),
            SHORT,
        )
    });
    transfers(vm, checks);
    published(vm, checks, world, address);
    checks.step("several flows, over both pairs of queues", || {
        let url = World::body_url(64 << 10);
        let download = format!("for i in $(seq 16); do wget -q -O /dev/null {url} & done; wait");
        vm.check(&download, Duration::from_secs(60))?;
        // A pair of queues has an interrupt of its own for what arrives.
        let interrupts = vm.check("grep virtio.-input /proc/interrupts", SHORT)?;
        let used = |line: &&str| {
            let counts = line.split_whitespace().skip(1).take(2);
            counts
                .filter_map(|count| count.parse::<u64>().ok())
                .sum::<u64>()
                > 4
        };
        let queues = interrupts.lines().filter(used).count();
        ensure(queues == 2, || interrupts.clone())
    });
}

/// `--tap`: a device that somebody else has made, with a bridge and the machine's behind it. Nobody
/// but its maker has a privilege.
fn somebody_elses(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let made = checks.step("two devices and a bridge, made by hand", || {
        let make = format!(
            "ip link add br7 type bridge && echo 1 > /proc/sys/net/ipv6/conf/br7/disable_ipv6 && \
             for name in {DEVICE} net7; do \
             ip tuntap add $name mode tap multi_queue vnet_hdr user {ORDINARY} && \
             ip link set $name master br7 up || exit; done && ip link set br7 up"
        );
        inside(world, &world.host, &make)
    });
    if made.is_none() {
        return;
    }
    let started = checks.step("the network is up, without a privilege", || {
        let publish = format!("{HOST}:8090:80");
        let mut command = with_tun(world);
        command.arg(&world.program).current_dir(&world.dir);
        command.args(["up", "--engine", "user", "--tap", "net7", "-p", &publish]);
        let mut up = Proc::spawn(&mut command, &world.log("up-tap"))?;
        up.wait_until(SHORT, |out| out.contains("ready served-tap:net7"))?;
        Ok(up)
    });
    if let Some(_up) = started {
        let booted = checks.step("boot, with a lease", || {
            let mut vm = boot(image, world, "somebody", "52:54:00:e2:e0:78")?;
            vm.lease("alpha")?;
            Ok(vm)
        });
        if let Some(mut vm) = booted {
            reaches(&mut vm, checks, world, HOST);
        }
    }
    checks.step(
        "what was made by hand is still there, and taken away",
        || {
            let delete =
                format!("for name in {DEVICE} net7 br7; do ip link del $name || exit; done");
            inside(world, &world.host, &delete)
        },
    );
}

/// A macvtap on the host's way out: the guest is a host of the outside network, and no bridge is made
/// for it. The kernel's own `/dev` has its file, which a container's need not.
fn macvtap(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let own_dev = |script: &str| {
        let mut command = world.host.command("unshare");
        // It may be the kernel's own already.
        let script = format!("mount -t devtmpfs dev /dev 2>/dev/null; {script}");
        command.args(["--mount", "sh", "-c", &script, "sh"]);
        command
    };
    let state = world.dir.join("state-macvtap");
    let place = format!("macvtap:up0,owner={ORDINARY}");
    let started = checks.step("the network is up", || {
        let mut command = own_dev("exec \"$@\"");
        command
            .arg(&world.program)
            .args(["up", "--name", "kmv", "--mode", "bridge"]);
        command
            .args(["--attach", &place, "--state-dir"])
            .arg(&state);
        let mut up = Proc::spawn(&mut command, &world.log("up-macvtap"))?;
        up.wait_until(SHORT, |out| out.contains("ready macvtap:up0"))?;
        Ok(up)
    });
    let Some(mut up) = started else { return };
    let said = up.output();
    let mac = told(&said, "mac").unwrap_or_default();
    let device = said
        .split_whitespace()
        .find(|word| word.starts_with("/dev/tap"));
    let booted = checks.step("boot, by a device that is the user's", || {
        let device = device.ok_or_else(|| format!("no device in: {said}"))?;
        let open = format!(
            "exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups --pdeathsig KILL -- \
             sh -c 'exec 3<>{device} && exec \"$@\"' sh \"$@\""
        );
        let nic = format!("virtio-net-pci,netdev=n0,mac={mac},romfile=");
        let nic = ["-netdev", "tap,id=n0,fd=3", "-device", &nic];
        Vm::boot_with(image, &world.dir, "macvtap", own_dev(&open), &nic)
    });
    if let Some(mut vm) = booted {
        checks.step("the guest is a host of the outside network", || {
            vm.check(
                &format!(
                    "ip addr add 203.0.113.60/24 dev eth0 && ip link set eth0 up && sleep 1 && \
                     ping -c2 -W2 {OUTSIDE} && \
                     wget -q -O - http://{OUTSIDE}:{HTTP_PORT}/body/8388608 | wc -c | grep 8388608"
                ),
                SHORT,
            )
        });
    }
    checks.step("stop takes it away", || {
        let mut command = world.host.command(&world.program);
        command
            .args(["stop", "--name", "kmv", "--state-dir"])
            .arg(&state);
        let done = proc::run(&mut command, &world.log("stop"), SHORT)?;
        ensure(done.status == 0 && up.wait(SHORT)? == 0, || {
            done.output.clone()
        })?;
        inside(world, &world.host, "! ip link show mv-up0")
    });
}
