//! `arcbox-net up` with privileges: every mode of the kernel, through the program, and the host as it
//! was afterwards.

use std::path::PathBuf;
use std::time::Duration;

use super::daemon::server_of;
use crate::Result;
use crate::e2e::proc::{self, Proc};
use crate::e2e::world::{HOST, Namespace, OUTSIDE, OUTSIDE6, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e kernel";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "kernel_nat", nat),
    Case::new(GROUP, "host_only", host_only),
    Case::new(GROUP, "bridge_take_over", bridge),
    Case::new(GROUP, "fast_engine", fast),
    Case::new(GROUP, "killed", killed),
];

/// Time for anything here.
const SHORT: Duration = Duration::from_secs(15);

/// Everything of the host that a network may change; addresses that are still tentative become valid
/// by themselves, and promiscuity is a count of who looks.
const SNAPSHOT: &str = "ip -d link | sed 's/promiscuity [0-9]* //; s/allmulti [0-9]* //'; \
    ip addr | grep -v valid_lft | sed 's/ tentative//'; ip route; ip -6 route; nft list ruleset; \
    cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";

/// A network of root, with a namespace that may be its guest.
pub(super) struct Lab<'a> {
    world: &'a World,
    guest: Namespace,
    state: PathBuf,
    before: String,
    up: Proc,
}

impl<'a> Lab<'a> {
    /// A network with one guest, in a namespace.
    fn start(world: &'a World, name: &str, options: &[&str]) -> Result<Self> {
        let guest = world.namespace(false)?;
        let pid = guest.pid();
        let options = [options, &["--netns", &pid]].concat();
        Self::start_with(world, name, &options, guest)
    }

    /// A network with what `options` attach, the last of them an option and the place.
    pub(super) fn start_with(
        world: &'a World,
        name: &str,
        options: &[&str],
        guest: Namespace,
    ) -> Result<Self> {
        let state = world.dir.join(format!("state-{name}"));
        let before = inside(world, &world.host, SNAPSHOT)?;
        let log = world.log("up-kernel");
        let mut command = world.host.command(&world.program);
        command
            .args(["up", "--name", name, "--state-dir"])
            .arg(&state);
        command.args(options);
        let mut up = Proc::spawn(&mut command, &log)?;
        let place = options.last().copied().unwrap_or_default();
        up.wait_until(SHORT, |out| {
            let ready = |line: &str| line.starts_with("ready ") && line.contains(place);
            out.lines().any(ready)
        })?;
        Ok(Self {
            world,
            guest,
            state,
            before,
            up,
        })
    }

    /// Runs a script in the guest.
    fn guest(&self, script: &str) -> Result<String> {
        inside(self.world, &self.guest, script)
    }

    /// Runs one of the commands that ask.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = self.world.host.command(&self.world.program);
        command.args(words).arg("--state-dir").arg(&self.state);
        let done = proc::run(&mut command, &self.world.log("ask"), SHORT)?;
        ensure(done.status == 0, || {
            format!("{words:?}: status {}: {}", done.status, done.output)
        })?;
        Ok(done.output)
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        self.up.output()
    }

    /// The host is what it was before.
    fn compare(&self) -> Result<()> {
        let after = inside(self.world, &self.world.host, SNAPSHOT)?;
        let line = |(before, after): &(&str, &str)| before != after;
        let changed = self.before.lines().zip(after.lines()).find(line);
        ensure(self.before == after, || {
            format!("the host has changed: {changed:?}, all of it:\n{after}")
        })
    }

    /// Ends it by the control socket.
    pub(super) fn stop(mut self) -> Result<()> {
        self.ask(&["stop"])?;
        let status = self.up.wait(SHORT)?;
        ensure(status == 0, || {
            format!("status {status}: {}", self.up.output())
        })?;
        self.compare()
    }
}

pub(super) fn inside(world: &World, namespace: &Namespace, script: &str) -> Result<String> {
    let mut command = namespace.command("sh");
    let done = proc::run(command.args(["-c", script]), &world.log("inside"), SHORT)?;
    ensure(done.status == 0, || {
        format!("`{script}` ended with {}: {}", done.status, done.output)
    })?;
    Ok(done.output)
}

fn nat(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let options = [
        "--attach",
        "tap:vm0,queues=2,owner=65534",
        "-p",
        "203.0.113.1:18090:8000",
    ];
    let started = checks.step("the network is up, the kernel by itself", || {
        Lab::start(world, "knat", &options)
    });
    let Some(lab) = started else { return };
    checks.step("status says which engine", || {
        let out = lab.ask(&["status"])?;
        ensure(
            out.contains("engine kernel") && out.contains("no capability"),
            || out,
        )
    });
    checks.step("the guest reaches gateway and outside", || {
        lab.guest(&format!("ping -c1 -W2 10.0.2.1 && ping -c1 -W2 {OUTSIDE}"))
    });
    checks.step("the gateway answers by name", || {
        lab.guest("busybox nslookup gateway.internal 10.0.2.2")
    });
    checks.step(
        "a port is moved while it runs, the client's address kept",
        || {
            lab.ask(&["unpublish", "203.0.113.1:18090"])?;
            lab.ask(&[
                "publish",
                "203.0.113.1:18091:8000",
                "--guest",
                &lab.guest.pid(),
            ])?;
            // It answers with what it knows of its connections.
        let mut command = lab.guest.command("busybox");
        command.args(["nc", "-l", "-p", "8000", "-e", "busybox", "netstat", "-tn"]);
        let _served = Proc::spawn(&mut command, &world.log("served"))?;
        let script = format!(
            "for i in $(seq 50); do busybox nc -w 5 {HOST} 18091 < /dev/null && exit; sleep 0.1; done"
        );
        let out = inside(world, &world.outside, &script)?;
        ensure(out.contains(&format!("{OUTSIDE}:")), || {
            format!("the guest knows of {out}")
        })
    });
    checks.step("a TAP device comes and goes", || {
        lab.ask(&["attach", "tap:vm1"])?;
        inside(world, &world.host, "ip link show vm1")?;
        lab.ask(&["detach", "vm1"])?;
        inside(world, &world.host, "! ip link show vm1")
    });
    checks.step("stop leaves the host as it was", || lab.stop());
}

fn host_only(context: &Context, checks: &mut Checks) {
    let options = ["--mode", "host-only", "--isolated"];
    let started = checks.step("the network is up", || {
        Lab::start(&context.world, "konly", &options)
    });
    let Some(lab) = started else { return };
    checks.step("the guest reaches the host and nothing else", || {
        lab.guest("ping -c1 -W2 10.0.2.1")?;
        // With a route of its own making, the rules still stand.
        let out =
            format!("ip route add default via 10.0.2.1 2>/dev/null; ! ping -c1 -W1 {OUTSIDE}");
        lab.guest(&out)
    });
    checks.step("stop leaves the host as it was", || lab.stop());
}

fn bridge(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let options = ["--mode", "bridge", "--take-over", "up0"];
    let started = checks.step("the network is up", || Lab::start(world, "kbr", &options));
    let Some(lab) = started else { return };
    checks.step("the guest is a host of the outside network", || {
        lab.guest(&format!(
            "ip addr add 203.0.113.50/24 dev eth0; ping -c1 -W2 {OUTSIDE} && ping -c1 -W2 {HOST}"
        ))
    });
    checks.step("the host still is", || {
        inside(world, &world.host, &format!("ping -c1 -W2 {OUTSIDE}"))
    });
    checks.step("stop leaves the host as it was", || lab.stop());
}

fn fast(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let options = [
        "--engine",
        "fast",
        "--uplink",
        "if:up0",
        "--outside",
        "203.0.113.9/24",
        "--via",
        OUTSIDE,
        "--outside6",
        "2001:db8:203::9/64",
        "--via6",
        OUTSIDE6,
        "-p",
        "[2001:db8:203::9]:8095:80",
    ];
    let started = checks.step("the network is up", || Lab::start(world, "kfast", &options));
    let Some(lab) = started else { return };
    checks.step("the guest reaches the outside", || {
        lab.guest(&format!("ping -c1 -W2 {OUTSIDE}"))
    });
    checks.step("it hears of a router of IPv6, and reaches it", || {
        let routed = "for i in $(seq 100); do ip -6 route show default | grep -q via && break; \
                      sleep 0.1; done";
        lab.guest(&format!("{routed}; ping -6 -c1 -W2 {OUTSIDE6}"))
    });
    checks.step("status says by which address and router", || {
        let out = lab.ask(&["status"])?;
        let says = format!("203.0.113.9 and 2001:db8:203::9, IPv6 by {OUTSIDE6}");
        ensure(out.contains(&says) && !out.contains("among guests"), || out)
    });
    checks.step("a port of it, with the client's address", || {
        let mut command = lab.guest.command("sh");
        let text = format!("{} tcp-who [::]:80", world.helper_command());
        let mut server = Proc::spawn(command.args(["-c", &text]), &world.log("served"))?;
        server.wait_until(SHORT, |out| out.contains("ready"))?;
        let out = world.ask_from_outside(&["tcp-ask", "[2001:db8:203::9]:8095"])?;
        ensure(out.trim() == format!("you are {OUTSIDE6}"), || out.clone())
    });
    checks.step("its server has no capability", || {
        let server = server_of(lab.up.pid()).ok_or("there is no server")?;
        let status = std::fs::read_to_string(format!("/proc/{server}/status"));
        let status = status.map_err(|e| format!("/proc/{server}/status: {e}"))?;
        let is = |line: &str| status.lines().any(|it| it == line);
        let none = "CapEff:\t0000000000000000";
        ensure(
            is(none) && is("Seccomp:\t2") && is("NoNewPrivs:\t1"),
            || status.clone(),
        )
    });
    checks.step("stop leaves the host as it was", || lab.stop());
}

/// A keeper that is killed leaves the kernel's part; `clean` takes it away, and nothing else.
fn killed(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let started = checks.step("the network is up", || {
        Lab::start(world, "kdead", &["--engine", "kernel"])
    });
    let Some(mut lab) = started else { return };
    checks.step("the keeper is killed", || {
        lab.up.signal("KILL");
        lab.up.wait(SHORT)?;
        inside(world, &world.host, "ip link show ab-kdead")
    });
    checks.step("clean leaves the host as it was", || {
        let out = lab.ask(&["clean"])?;
        ensure(out.contains("kdead"), || out)?;
        lab.compare()
    });
}
