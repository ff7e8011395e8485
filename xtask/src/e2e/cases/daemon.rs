//! `arcbox-net up` without guests that do anything: readiness, signals, idleness.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::e2e::body::{Body, sha256};
use crate::e2e::proc::{self, Proc};
use crate::e2e::serve::{HTTP_PORT, dns};
use crate::e2e::world::{OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e up";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "ready_and_gone", ready_and_gone),
    Case::new(GROUP, "idle", idle),
    Case::new(GROUP, "stalled", stalled),
    Case::new(GROUP, "namespace_of_root", |c, k| namespace(c, k, false)),
    Case::new(GROUP, "namespace_of_a_user", |c, k| namespace(c, k, true)),
];

/// Time for `up` to be ready.
const READY: Duration = Duration::from_secs(10);
/// Time for a small transfer.
const LONG: Duration = Duration::from_secs(60);

/// A daemon with its sockets.
pub(in crate::e2e) struct Daemon {
    /// The process.
    pub(in crate::e2e) proc: Proc,
    /// The path of each attachment, in order.
    pub(in crate::e2e) paths: Vec<PathBuf>,
    /// Its log.
    pub(in crate::e2e) log: PathBuf,
}

impl Daemon {
    /// Starts `arcbox-net up` with these options and one socket for each kind, an option such as
    /// `--qemu-stream`; ready when every socket is there and was announced.
    pub(in crate::e2e) fn start(world: &World, options: &[&str], kinds: &[&str]) -> Result<Self> {
        let log = world.log("up");
        let name = |index| {
            let stem = log.file_stem().map(|s| s.to_string_lossy().into_owned());
            world
                .dir
                .join(format!("{}-{index}.sock", stem.unwrap_or_default()))
        };
        let paths: Vec<PathBuf> = (0..kinds.len()).map(name).collect();
        let mut command = world.host.ordinary(&world.program);
        command.arg("up").args(options).current_dir(&world.dir);
        for (kind, path) in kinds.iter().zip(&paths) {
            command.arg(kind).arg(path);
        }
        let mut proc = Proc::spawn(&mut command, &log)?;
        let announced = |out: &str| {
            paths
                .iter()
                .all(|p| p.exists() && out.contains(&p.display().to_string()))
        };
        proc.wait_until(READY, announced)?;
        Ok(Self { proc, paths, log })
    }
}

fn ready_and_gone(context: &Context, checks: &mut Checks) {
    for (signal, kinds) in [
        ("TERM", &["--qemu-stream", "--qemu-dgram"][..]),
        ("INT", &["--vfkit", "--bess"]),
    ] {
        let names = kinds.join(" and ");
        let started = checks.step(&format!("one line for each of {names}"), || {
            Daemon::start(&context.world, &[], kinds)
        });
        let Some(mut daemon) = started else { continue };
        checks.log(&daemon.log);
        checks.step(&format!("ends on SIG{signal}, without its sockets"), || {
            daemon.proc.signal(signal);
            let status = daemon.proc.wait(Duration::from_secs(5))?;
            ensure(status == 0, || {
                format!("status {status}: {}", daemon.proc.output())
            })?;
            let left: Vec<_> = daemon.paths.iter().filter(|p| p.exists()).collect();
            ensure(left.is_empty(), || format!("left behind: {left:?}"))
        });
    }
}

/// Most clock ticks (10 ms each) that a process with nothing to do may use in [`WATCH`].
const IDLE_TICKS: u64 = 1;
const WATCH: Duration = Duration::from_secs(5);

fn idle(context: &Context, checks: &mut Checks) {
    let sockets = &["--qemu-stream", "--qemu-dgram"][..];
    for (what, options, kinds) in [
        ("a daemon without guests", &[][..], sockets),
        // There is nobody to poll yet.
        (
            "one that is to poll its guests",
            &["--poll"],
            &["--vhost-user"],
        ),
    ] {
        let started = checks.step(what, || Daemon::start(&context.world, options, kinds));
        let Some(daemon) = started else { return };
        checks.step("uses no measurable CPU", || {
            std::thread::sleep(Duration::from_secs(1));
            let used = ticks_over(&daemon.proc)?;
            ensure(used <= IDLE_TICKS, || {
                format!("{used} ticks in {} s", WATCH.as_secs())
            })
        });
    }
}

fn stalled(context: &Context, checks: &mut Checks) {
    let started = checks.step("a guest that does not read what it asked for", || {
        let text = format!(
            "(printf 'GET /body/1000000000 HTTP/1.0\\r\\n\\r\\n'; sleep 60) \
             | busybox nc {OUTSIDE} {HTTP_PORT} | (echo asked; sleep 60)"
        );
        let mut run = context
            .world
            .start_arcbox(&["run", "--", "sh", "-c", &text])?;
        run.wait_until(Duration::from_secs(20), |out| out.contains("asked"))?;
        Ok(run)
    });
    let Some(run) = started else { return };
    checks.step("costs no measurable CPU", || {
        // Until every buffer on the way is full. Window probes may cost a tick afterwards.
        std::thread::sleep(Duration::from_secs(3));
        let used = ticks_over(&run)?;
        ensure(used <= IDLE_TICKS + 1, || {
            format!("{used} ticks in {} s", WATCH.as_secs())
        })
    });
}

/// `up --netns PID`: a namespace that somebody else made joins the network.
fn namespace(context: &Context, checks: &mut Checks, ordinary: bool) {
    let world = &context.world;
    let log = world.log("up-netns");
    let started = checks.step("the network is up", || {
        let guest = world.namespace(ordinary)?;
        let mut command = if ordinary {
            world.host.ordinary(&world.program)
        } else {
            world.host.command(&world.program)
        };
        // Root would get the kernel's network; here it is the program that serves.
        let state = world.dir.join(format!("state-{}", guest.pid()));
        command.args(["up", "--engine", "user", "--netns", &guest.pid()]);
        let mut up = Proc::spawn(command.arg("--state-dir").arg(&state), &log)?;
        up.wait_until(READY, |out| out.contains(&guest.pid()))?;
        Ok((guest, up))
    });
    let Some((guest, mut up)) = started else {
        return;
    };
    checks.log(&log);
    let inside = |script: &str| {
        let mut command = guest.command("sh");
        let done = proc::run(command.args(["-c", script]), &world.log("inside"), LONG)?;
        ensure(done.status == 0, || {
            format!("`{script}` ended with {}: {}", done.status, done.output)
        })?;
        Ok(done.output)
    };
    checks.step("address and route are there", || {
        let out = inside("ip addr; ip route")?;
        ensure(out.contains("default via"), || out.clone())
    });
    checks.step("ping of the gateway", || {
        inside("ping -c2 -i0.2 -W2 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')")
    });
    checks.step("download of 8 MiB", || {
        let (digest, _) = sha256(Body::new(8 << 20))?;
        // The resolver of a namespace is a file, and so not a matter of the network's.
        let url = World::body_url(8 << 20).replace(dns::ZONE, OUTSIDE);
        let out = inside(&format!("busybox wget -q -O - {url} | sha256sum"))?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the guest has {out}")
        })
    });
    checks.step("ends on SIGTERM", || {
        up.signal("TERM");
        let status = up.wait(Duration::from_secs(5))?;
        ensure(status == 0, || format!("status {status}: {}", up.output()))
    });
}

/// Clock ticks that a network's two processes use while they are watched.
pub(in crate::e2e) fn ticks_over(proc: &Proc) -> Result<u64> {
    let server = server_of(proc.pid()).ok_or("there is no server")?;
    let both = || Ok::<u64, String>(ticks(proc.pid())? + ticks(server)?);
    let before = both()?;
    std::thread::sleep(WATCH);
    Ok(both()? - before)
}

/// The process that carries the packets of the network whose keeper is `keeper`.
pub(in crate::e2e) fn server_of(keeper: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&file("status")).into_owned();
        let is_child = status.contains(&format!("PPid:\t{keeper}\n"));
        is_child && String::from_utf8_lossy(&file("cmdline")).contains("__server")
    })
}

/// User and system time of a process, in clock ticks (`proc(5)`, fields 14 and 15 of `stat`).
fn ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // The second field is a name in parentheses and may hold anything.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
    match (number(11), number(12)) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(format!("{path} has no times: {text}")),
    }
}
