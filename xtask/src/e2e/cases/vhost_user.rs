//! Linux guests under QEMU over vhost-user: their NIC's queues are served where they lie in the guests'
//! memory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::daemon::ticks_over;
use super::vm::{published, transfers};
use crate::e2e::body::{Body, sha256};
use crate::e2e::proc::{self, Proc};
use crate::e2e::vm::{Image, Vm, field};
use crate::e2e::world::{HOST, ORDINARY, OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};
use crate::{Result, cmd};

pub(super) const GROUP: &str = "e2e vhost-user";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "vhost_user_session", session),
    Case::new(GROUP, "vhost_user_three_guests", three_guests),
    Case::new(GROUP, "vhost_user_gibibyte", gibibyte).long(),
    Case::new(GROUP, "vhost_user_called", called),
    Case::new(GROUP, "vhost_user_under_qemu_command", under_qemu_command),
];

/// Time for something small, on a guest in software emulation.
pub(super) const SHORT: Duration = Duration::from_secs(20);
/// Time for a transfer likewise.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// A virtio NIC without an offload, as QEMU is told.
const BARE: &str = ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,\
    guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off";

/// What these guests boot, with a tool that reads counters of queues.
pub(super) fn image(context: &Context) -> std::result::Result<Image, String> {
    // Says what is missing for any guest.
    context.image()?;
    let ethtool = cmd::find("ethtool").ok_or("needs ethtool")?;
    Image::with("vhost-user.cpio", &[], &[("ethtool", &ethtool)])
}

/// The same with a load generator, which brings its libraries.
fn image_with_iperf3(context: &Context) -> std::result::Result<Image, String> {
    context.image()?;
    let iperf3 = cmd::find("iperf3").ok_or("needs iperf3")?;
    Image::with("iperf3.cpio", &[], &[("iperf3", &iperf3)])
}

/// A network of an ordinary user with a name.
pub(super) struct Named<'a> {
    world: &'a World,
    name: String,
    options: Vec<String>,
    up: Proc,
    pub(super) log: PathBuf,
}

impl<'a> Named<'a> {
    /// Starts it; of each place `KIND:FILE[,OPTIONS]` the file is in the test's directory.
    pub(super) fn start(
        world: &'a World,
        name: &str,
        options: &[&str],
        places: &[&str],
    ) -> Result<Self> {
        let directory = directory(world, name);
        let made = fs::create_dir(&directory)
            .and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o777)));
        made.map_err(|e| format!("{}: {e}", directory.display()))?;
        let mut options: Vec<String> = options.iter().map(|it| (*it).to_owned()).collect();
        for place in places {
            options.extend(["--vhost-user".to_owned(), whole(world, name, place)]);
        }
        let log = world.log("up-vhost-user");
        let up = Self::spawn(world, name, &options, &log)?;
        let name = name.to_owned();
        Ok(Self {
            world,
            name,
            options,
            up,
            log,
        })
    }

    fn spawn(world: &World, name: &str, options: &[String], log: &Path) -> Result<Proc> {
        let mut command = world.host.ordinary(&world.program);
        let state = directory(world, name).join("state");
        command.args(["up", "--name", name, "--state-dir"]);
        command.arg(&state).args(options);
        let mut up = Proc::spawn(&mut command, log)?;
        let control = state.join(name).join("control");
        let places = options.iter().filter(|it| *it == "--vhost-user").count();
        up.wait_until(SHORT, |out| {
            let ready = out.lines().filter(|line| line.starts_with("ready "));
            control.exists() && ready.count() == places
        })?;
        Ok(up)
    }

    /// Kills it and starts it again.
    fn restart(&mut self) -> Result<()> {
        self.up.kill();
        self.log = self.world.log("up-vhost-user");
        self.up = Self::spawn(self.world, &self.name, &self.options, &self.log)?;
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        directory(self.world, &self.name).join(file)
    }

    /// Runs one of the commands that ask, to its success.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = self.world.host.ordinary(&self.world.program);
        command.args(words).args(["--name", &self.name]);
        command.arg("--state-dir").arg(self.path("state"));
        let done = proc::run(&mut command, &self.world.log("ask"), SHORT)?;
        ensure(done.status == 0, || format!("{words:?}: {}", done.output))?;
        Ok(done.output)
    }
}

/// Where a network's files are.
fn directory(world: &World, name: &str) -> PathBuf {
    world.dir.join(format!("vhost-user-{name}"))
}

fn whole(world: &World, name: &str, place: &str) -> String {
    directory(world, name).join(place).display().to_string()
}

/// Starts a guest with so many processors and pairs of queues, whose QEMU finds the back end by
/// `chardev`.
fn start(image: &Image, dir: &Path, kind: Kind<'_>, pairs: u8, chardev: &str) -> Result<Vm> {
    start_with(image, dir, kind, pairs, chardev, &[])
}

/// As [`start`], with more to say to QEMU.
///
/// The device has no interrupt vectors: QEMU 7.2 without KVM would end with a segmentation fault.
pub(super) fn start_with(
    image: &Image,
    dir: &Path,
    (name, number, device): Kind<'_>,
    pairs: u8,
    chardev: &str,
    more: &[&str],
) -> Result<Vm> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]);
    command.args(["--pdeathsig", "KILL", "--"]);
    let chardev = format!("socket,id=c0,{chardev}");
    let device = format!(
        "virtio-net-pci,netdev=n0,mac=52:54:00:e2:e1:{number:02x},mq=on,vectors=0,romfile={device}"
    );
    let memory = "memory-backend-memfd,id=m0,size=320M,share=on";
    let netdev = format!("vhost-user,id=n0,chardev=c0,queues={pairs}");
    let processors = pairs.to_string();
    let nic = [
        &[
            "-smp",
            &processors,
            "-action",
            "reboot=reset",
            "-object",
            memory,
        ][..],
        &["-machine", "memory-backend=m0", "-chardev", &chardev],
        &["-netdev", &netdev, "-device", &device],
        more,
    ];
    Vm::start_with(image, dir, name, command, &nic.concat())
}

/// What QEMU says to connect to `path`, and again where it has to.
pub(super) fn again(path: &Path) -> String {
    format!("path={},reconnect=1", path.display())
}

/// Waits for a guest that has been started.
fn booted(started: Result<Vm>) -> Result<Vm> {
    let mut vm = started?;
    vm.until_ready()?;
    Ok(vm)
}

/// Everything one guest does, and everything its driver does.
fn session(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let publish = format!("{HOST}:8090:80");
    let started = checks.step("the network is up", || {
        Named::start(world, "one", &["-p", &publish], &["alpha,queues=2"])
    });
    let Some(net) = started else { return };
    checks.log(&net.log);
    let Some(mut vm) = checks.step("boot", || {
        booted(start(
            &image,
            &world.dir,
            ("alpha", 1, ""),
            2,
            &again(&net.path("alpha")),
        ))
    }) else {
        return;
    };
    checks.step("lease, gateway, outside", || reaches(&mut vm));
    transfers(&mut vm, checks);
    published(&mut vm, checks, world, HOST);
    checks.step("several flows, over both pairs of queues", || {
        both_pairs(&mut vm)
    });
    checks.step("an idle guest costs no measurable CPU", || {
        std::thread::sleep(Duration::from_secs(1));
        let used = ticks_over(&net.up)?;
        ensure(used <= 1, || format!("{used} ticks in 5 s"))
    });
    checks.step("the driver is unloaded and loaded again", || {
        let again = "rmmod virtio_net && for module in /modules/*.ko; do \
            insmod $module 2>/dev/null; done; ip link show eth0";
        vm.check(again, SHORT)?;
        reaches(&mut vm)?;
        download(&mut vm)
    });
    checks.step("the guest reboots", || {
        vm.reboot()?;
        reaches(&mut vm)?;
        download(&mut vm)
    });
    checks.step("nothing was held against it", || {
        let said = net.up.output();
        ensure(!said.contains("warning: vhost-user"), || said.clone())
    });
}

/// Asks for a lease, and uses it.
pub(super) fn reaches(vm: &mut Vm) -> Result<String> {
    let lease = vm.lease("guest")?;
    let router = field(&lease, "router").unwrap_or_default();
    vm.check(
        &format!("ping -c2 -W2 {router} && ping -c2 -W2 {OUTSIDE}"),
        SHORT,
    )?;
    let ip = field(&lease, "ip").ok_or_else(|| lease.clone())?;
    Ok(ip.to_owned())
}

pub(super) fn download(vm: &mut Vm) -> Result<()> {
    let (digest, _) = sha256(Body::new(8 << 20))?;
    let url = World::body_url(8 << 20);
    let out = vm.check(&format!("wget -q -O - {url} | sha256sum"), LONG)?;
    ensure(out.contains(&digest), || {
        format!("wanted {digest}, the guest has {out}")
    })
}

fn both_pairs(vm: &mut Vm) -> Result<()> {
    let url = World::body_url(64 << 10);
    // A processor sends by the pair of queues that is its own.
    let download = format!(
        "for i in $(seq 8); do for cpu in 1 2; do taskset $cpu wget -q -O /dev/null {url} & done; \
         done; wait"
    );
    vm.check(&download, LONG)?;
    let counted = vm.check("ethtool -S eth0", SHORT)?;
    for queue in ["rx_queue_0", "rx_queue_1", "tx_queue_0", "tx_queue_1"] {
        let packets = counted.lines().find_map(|line| {
            let number = line
                .trim()
                .strip_prefix(queue)?
                .strip_prefix("_packets: ")?;
            number.parse::<u64>().ok()
        });
        ensure(packets.is_some_and(|packets| packets > 20), || {
            format!("{queue} had {packets:?} packets:\n{counted}")
        })?;
    }
    Ok(())
}

/// A guest of three.
struct Guest {
    vm: Vm,
    ip: String,
    /// The file that it sends.
    sends: &'static str,
}

impl Guest {
    /// Waits for one that has been started, for its lease and for bytes to send.
    fn booted(started: Result<Vm>) -> Result<Self> {
        let mut vm = booted(started)?;
        let ip = reaches(&mut vm)?;
        vm.check(&format!("head -c 16777216 /dev/urandom > {BYTES}"), LONG)?;
        Ok(Self {
            vm,
            ip,
            sends: BYTES,
        })
    }

    fn listen(&mut self) -> Result<()> {
        // Its input stays open: at the end of it nc would half-close, and the other end leave.
        let listen = "(sleep 600 | nc -l -p 7000 > /tmp/got) >/dev/null 2>&1 & sleep 0.5";
        self.vm.check(listen, SHORT).map(drop)
    }

    /// Begins to send a file. Straight out of it: through a pipe, software emulation takes ten times
    /// as long.
    fn send(&mut self, to: &str, file: &'static str) -> Result<()> {
        self.sends = file;
        let send = format!(
            "rm -f /tmp/done; (nc {to} 7000 < {file}; echo $? > /tmp/done) >/dev/null 2>&1 &"
        );
        self.vm.check(&send, SHORT).map(drop)
    }

    fn is_sending(&mut self) -> Result<bool> {
        Ok(self.vm.run("test -e /tmp/done", SHORT)?.status != 0)
    }

    /// What it has sent, once it has.
    fn sent(&mut self) -> Result<String> {
        let deadline = Instant::now() + LONG;
        while self.is_sending()? {
            ensure(Instant::now() < deadline, || "it still sends".to_owned())?;
            std::thread::sleep(Duration::from_millis(200));
        }
        let digest = format!("sha256sum < {}", self.sends);
        self.vm.check(&digest, LONG)
    }

    /// What has arrived, once the sender has left.
    fn arrived(&mut self) -> Result<String> {
        self.vm.check("sleep 1; sha256sum < /tmp/got", LONG)
    }

    /// Sends broadcasts as fast as it can, for a minute at most.
    fn flood(&mut self) -> Result<()> {
        let flood = "(timeout 60 ping -i 0.0001 -s 1000 10.0.2.255 >/dev/null 2>&1 &)";
        self.vm.check(flood, SHORT).map(drop)
    }

    fn calm(&mut self) -> Result<()> {
        self.vm.check("killall ping; true", SHORT).map(drop)
    }
}

/// 16 MiB, and twice that.
const BYTES: &str = "/tmp/bytes";
const LARGE: &str = "/tmp/large";

/// Name, end of the hardware address, and more about the device.
pub(super) type Kind<'a> = (&'a str, u8, &'a str);

fn same(sent: &str, arrived: &str) -> Result<()> {
    let digest = |text: &str| text.split_whitespace().next().map(str::to_owned);
    ensure(
        digest(sent).is_some_and(|it| it.len() == 64) && digest(sent) == digest(arrived),
        || format!("sent {sent}, arrived {arrived}"),
    )
}

/// 16 MiB each way at once, while a third guest floods.
fn both_ways(one: &mut Guest, other: &mut Guest, third: &mut Guest) -> Result<()> {
    third.flood()?;
    one.listen()?;
    other.listen()?;
    one.send(&other.ip, BYTES)?;
    other.send(&one.ip, BYTES)?;
    let (from_one, from_other) = (one.sent()?, other.sent()?);
    third.calm()?;
    same(&from_one, &other.arrived()?)?;
    same(&from_other, &one.arrived()?)
}

/// Streams for some seconds, to one end and to the other.
fn iperf3(client: &mut Guest, server: &mut Guest) -> Result<()> {
    for reverse in ["", "-R"] {
        let serve = "(iperf3 -s -1 >/tmp/iperf3 2>&1 &); sleep 1";
        server.vm.check(serve, SHORT)?;
        let stream = format!("iperf3 -c {} -t 3 {reverse}", server.ip);
        let out = client.vm.check(&stream, LONG)?;
        // What the receiver counted, which it reports once all is over.
        let counted = out
            .lines()
            .any(|line| line.trim_end().ends_with("receiver"));
        ensure(counted, || out.clone())?;
    }
    Ok(())
}

/// Frames go from one guest's memory to another's, whatever happens to the third and to the program.
fn three_guests(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image_with_iperf3(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let started = checks.step("the network is up", || {
        let storm = ["--storm", "broadcast=50"];
        Named::start(world, "three", &storm, &["a", "b", "c"])
    });
    let Some(mut net) = started else { return };
    checks.log(&net.log);
    let paths = ["a", "b", "c"].map(|name| again(&net.path(name)));
    let start_at = |name, number: u8, device| {
        let chardev = &paths[usize::from(number - 11)];
        start(&image, &world.dir, (name, number, device), 1, chardev)
    };
    let booted = checks.step("three guests, one of them without offloads", || {
        let (a, b, c) = (
            start_at("a", 11, ""),
            start_at("b", 12, ""),
            start_at("c", 13, BARE),
        );
        Ok((Guest::booted(a)?, Guest::booted(b)?, Guest::booted(c)?))
    });
    let Some((mut a, mut b, mut c)) = booted else {
        return;
    };
    checks.step(
        "16 MiB both ways with offloads, while a third floods",
        || both_ways(&mut a, &mut b, &mut c),
    );
    checks.step("the flood was limited", || {
        let status = net.ask(&["status", "--json"])?;
        ensure(status.contains("broadcast-limit"), || status.clone())
    });
    checks.step("iperf3 with offloads", || iperf3(&mut a, &mut b));
    checks.step("iperf3, one end without offloads", || {
        iperf3(&mut a, &mut c)
    });
    checks.step("16 MiB both ways, one end without offloads", || {
        both_ways(&mut a, &mut c, &mut b)
    });
    checks.step(
        "a third is killed and another comes, in mid-transfer",
        || {
            a.vm.check(&format!("cat {BYTES} {BYTES} > {LARGE}"), SHORT)?;
            b.listen()?;
            a.send(&b.ip, LARGE)?;
            c.vm.kill();
            ensure(a.is_sending()?, || "it has sent everything already".into())?;
            c = Guest::booted(start_at("c", 13, BARE))?;
            same(&a.sent()?, &b.arrived()?)
        },
    );
    checks.step("the program is killed and started, in mid-transfer", || {
        b.listen()?;
        a.send(&b.ip, LARGE)?;
        net.restart()?;
        ensure(a.is_sending()?, || "it has sent everything already".into())?;
        same(&a.sent()?, &b.arrived()?)?;
        c.vm.check(&format!("ping -c2 -W2 {}", a.ip), SHORT)?;
        reaches(&mut c.vm)
    });
    checks.log(&net.log);
}

/// 1 GiB between two guests, half of it each way, while a third floods.
fn gibibyte(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let started = checks.step("the network is up", || {
        Named::start(world, "gibibyte", &[], &["a", "b", "c"])
    });
    let Some(net) = started else { return };
    checks.log(&net.log);
    let booted = checks.step("three guests", || {
        let boot = |name: &str, number| {
            let chardev = again(&net.path(name));
            start(&image, &world.dir, (name, number, ""), 1, &chardev)
        };
        let (a, b, c) = (boot("a", 11), boot("b", 12), boot("c", 13));
        Ok([Guest::booted(a)?, Guest::booted(b)?, Guest::booted(c)?])
    });
    let Some([mut a, mut b, mut c]) = booted else {
        return;
    };
    for part in 1..=32 {
        let name = format!("16 MiB both ways while a third floods, {part} of 32");
        let whole = checks.step(&name, || both_ways(&mut a, &mut b, &mut c));
        if whole.is_none() {
            return;
        }
    }
    checks.step("the flood was limited", || {
        let status = net.ask(&["status", "--json"])?;
        ensure(status.contains("broadcast-limit"), || status.clone())
    });
}

/// `server=off`: QEMU listens, the network calls; attached and detached while it runs.
fn called(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let started = checks.step("the network is up", || {
        Named::start(world, "called", &[], &[])
    });
    let Some(net) = started else { return };
    checks.log(&net.log);
    let place = format!(
        "vhost-user:{},server=off,queues=2",
        net.path("vmm").display()
    );
    checks.step("attached before anybody listens", || {
        net.ask(&["attach", &place])
    });
    let chardev = format!("path={},server=on,wait=off", net.path("vmm").display());
    let boot = |name: &str| booted(start(&image, &world.dir, (name, 21, ""), 2, &chardev));
    let first = checks.step("QEMU listens and is called", || {
        let mut vm = boot("called")?;
        reaches(&mut vm)?;
        download(&mut vm)?;
        Ok(vm)
    });
    let Some(mut first) = first else { return };
    let second = checks.step("killed; the next one is called, too", || {
        first.kill();
        let mut vm = boot("called-again")?;
        reaches(&mut vm)?;
        Ok(vm)
    });
    let Some(mut second) = second else { return };
    checks.step("detached, it is not called any more", || {
        net.ask(&["detach", "guest1"])?;
        let status = net.ask(&["status"])?;
        ensure(!status.contains("vmm"), || status.clone())?;
        let answer = second.run("ping -c1 -W2 10.0.2.1", SHORT)?;
        ensure(answer.status != 0, || "the gateway still answers".into())
    });
    checks.step("attached again, it is", || {
        net.ask(&["attach", &place])?;
        second.check(
            "for i in $(seq 10); do ping -c1 -W1 10.0.2.1 && exit 0; sleep 0.5; done; exit 1",
            SHORT,
        )
    });
}

/// `arcbox-net qemu --vhost-user -- QEMU ...`: memory and device are added to the command line.
fn under_qemu_command(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let booted = checks.step("boot", || {
        let mut command = world.host.ordinary(&world.program);
        command.args(["qemu", "--vhost-user", "--queues", "2", "--"]);
        Vm::boot_with(&image, &world.dir, "vhost-command", command, &["-smp", "2"])
    });
    let Some(mut vm) = booted else { return };
    checks.step("lease, gateway, outside", || reaches(&mut vm));
    checks.step("several flows, over both pairs of queues", || {
        both_pairs(&mut vm)
    });
    checks.step("download of 8 MiB", || download(&mut vm));
}
