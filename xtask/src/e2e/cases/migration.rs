//! A guest is moved from one QEMU to another in mid-transfer, over vhost-user: to another place of its
//! network, and to another network.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::vhost_user::{GROUP, LONG, Named, SHORT, again, image, reaches, start_with};
use super::vm::{call, serve};
use crate::Result;
use crate::e2e::body::{Body, sha256};
use crate::e2e::vm::{Image, Vm, field};
use crate::e2e::world::{HOST, OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};

pub(in crate::e2e) const CASES: &[Case] = &[Case::new(GROUP, "vhost_user_migration", migration)];

/// Bytes of a download that takes five seconds at least: the guest reads half a megabyte, and rests.
const PIECE: u64 = 512 << 10;
const PIECES: u64 = 40;

/// A QEMU that can be moved from, or to.
struct Machine {
    vm: Vm,
    /// Where it takes QEMU's own commands, and where it waits for a guest.
    monitor: PathBuf,
    incoming: PathBuf,
}

impl Machine {
    /// Starts one at a place of a network. `waits` for the state of a guest, or boots one.
    fn start(
        world: &World,
        image: &Image,
        net: &Named<'_>,
        place: &str,
        waits: bool,
    ) -> Result<Self> {
        let name = format!("{}-{place}", net.name());
        let [monitor, incoming] =
            ["monitor", "incoming"].map(|it| world.dir.join(format!("{name}.{it}")));
        let monitored = format!("unix:{},server=on,wait=off", monitor.display());
        let state = format!("unix:{}", incoming.display());
        let mut more = vec!["-qmp", &monitored];
        if waits {
            more.extend(["-incoming", &state]);
        }
        let chardev = again(&net.path(place));
        let vm = start_with(image, &world.dir, (&name, 31, ""), 1, &chardev, &more)?;
        Ok(Self {
            vm,
            monitor,
            incoming,
        })
    }

    /// Carries out one of QEMU's own commands; its answer.
    fn command(&self, name: &str, arguments: &str) -> Result<String> {
        let why = |e: std::io::Error| format!("`{name}` of QEMU: {e}");
        let mut stream = UnixStream::connect(&self.monitor).map_err(why)?;
        stream.set_read_timeout(Some(SHORT)).map_err(why)?;
        let mut lines = BufReader::new(stream.try_clone().map_err(why)?).lines();
        // It greets, and wants to hear what it shall be able to do.
        let mut answer = lines
            .next()
            .unwrap_or_else(|| Ok(String::new()))
            .map_err(why)?;
        for (name, arguments) in [("qmp_capabilities", ""), (name, arguments)] {
            writeln!(
                stream,
                r#"{{"execute": "{name}", "arguments": {{{arguments}}}}}"#
            )
            .map_err(why)?;
            // Between an order and its answer there may be news.
            answer = loop {
                let line = lines
                    .next()
                    .ok_or_else(|| format!("`{name}`: QEMU has gone"))?;
                let line = line.map_err(why)?;
                if !line.contains(r#""event": "#) {
                    break line;
                }
            };
            ensure(!answer.contains(r#""error": "#), || {
                format!("`{name}`: {answer}")
            })?;
        }
        Ok(answer)
    }

    /// Moves the guest to `other`, where it runs from then on.
    ///
    /// It stands still meanwhile. QEMU copies the memory of a guest that runs too, but in software
    /// emulation may miss what that writes while it looks for changes (the race is described in QEMU's
    /// 9458a9a1df1a, which makes it smaller): once, of some ten, a guest went on with a kernel whose lists of
    /// pages were not whole.
    fn move_to(&self, other: &Self) -> Result<()> {
        let deadline = Instant::now() + LONG;
        // There once its device is.
        while !other.incoming.exists() {
            ensure(Instant::now() < deadline, || {
                "nobody waits for the guest".to_owned()
            })?;
            std::thread::sleep(TICK);
        }
        self.command("stop", "")?;
        self.command("migrate-set-parameters", r#""max-bandwidth": 1073741824"#)?;
        let to = format!(r#""uri": "unix:{}""#, other.incoming.display());
        self.command("migrate", &to)?;
        loop {
            let said = self.command("query-migrate", "")?;
            if said.contains(r#""status": "completed""#) {
                // Where it was stopped it arrives stopped.
                return other.command("cont", "").map(drop);
            }
            let failed = said.contains(r#""status": "failed""#) || Instant::now() > deadline;
            ensure(!failed, || said.clone())?;
            std::thread::sleep(TICK);
        }
    }
}

const TICK: Duration = Duration::from_millis(50);

/// Begins a download that lasts for a while.
fn begin_download(vm: &mut Vm) -> Result<()> {
    let url = World::body_url(PIECE * PIECES);
    let pieces = format!(
        "for i in $(seq {PIECES}); do dd bs={PIECE} count=1 iflag=fullblock 2>/dev/null; \
         usleep 125000; done"
    );
    let script = format!(
        "(wget -q -O - {url} | ({pieces}) | sha256sum > /tmp/sum; echo > /tmp/done) \
         >/dev/null 2>&1 &"
    );
    vm.check(&script, SHORT).map(drop)
}

fn end_download(vm: &mut Vm) -> Result<()> {
    let (digest, _) = sha256(Body::new(PIECE * PIECES))?;
    let out = vm.check(
        "for i in $(seq 300); do test -e /tmp/done && break; usleep 200000; done; cat /tmp/sum",
        LONG,
    )?;
    ensure(out.contains(&digest), || {
        format!("wanted {digest}, the guest has {out}")
    })
}

fn is_downloading(vm: &mut Vm) -> Result<bool> {
    Ok(vm.run("test -e /tmp/done", SHORT)?.status != 0)
}

fn migration(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match image(context) {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let publish = format!("{HOST}:8090:80");
    let started = checks.step("two networks are up", || {
        let one = Named::start(
            world,
            "from",
            &["-p", &publish],
            &["a,moves=on", "b,moves=on"],
        )?;
        Ok((one, Named::start(world, "to", &[], &["c"])?))
    });
    let Some((one, two)) = started else { return };
    checks.log(&one.log);
    checks.log(&two.log);
    let booted = checks.step("boot, lease, gateway, outside", || {
        let mut source = Machine::start(world, &image, &one, "a", false)?;
        let other = Machine::start(world, &image, &one, "b", true)?;
        source.vm.until_ready()?;
        let ip = reaches(&mut source.vm)?;
        serve(&mut source.vm)?;
        Ok((source, other, ip))
    });
    let Some((mut source, mut other, ip)) = booted else {
        return;
    };
    checks.step(
        "moved to another place of its network, in mid-transfer",
        || {
            begin_download(&mut source.vm)?;
            std::thread::sleep(Duration::from_secs(1));
            source.move_to(&other)?;
            ensure(is_downloading(&mut other.vm)?, || {
                "it has everything already".to_owned()
            })
        },
    );
    checks.step("a published port leads to where it is now", || {
        call(world, HOST)
    });
    checks.step(
        "where it was is gone; the transfer goes on to its end",
        || {
            source.vm.kill();
            end_download(&mut other.vm)?;
            let status = one.ask(&["status"])?;
            ensure(status.contains(&ip), || status.clone())
        },
    );
    checks.step("moved to another network", || {
        let mut third = Machine::start(world, &image, &two, "c", true)?;
        other.move_to(&third)?;
        other.vm.kill();
        third.vm.check(
            &format!("ping -c2 -W2 10.0.2.1 && ping -c2 -W2 {OUTSIDE}"),
            SHORT,
        )?;
        let lease = third.vm.lease("guest")?;
        ensure(field(&lease, "ip") == Some(&ip), || lease.clone())
    });
}
