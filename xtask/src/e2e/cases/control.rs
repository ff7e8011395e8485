//! A network that is asked while it runs, and the process that serves it confined.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::server_of;
use crate::Result;
use crate::e2e::proc::{self, Done, Proc};
use crate::e2e::world::World;
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e control";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "asked_and_changed", asked_and_changed),
    Case::new(GROUP, "one_dies", one_dies),
    Case::new(GROUP, "confined_as_a_user", |c, k| confined(c, k, true)),
    Case::new(GROUP, "confined_as_root", |c, k| confined(c, k, false)),
];

/// Time for anything here.
const SHORT: Duration = Duration::from_secs(10);

/// A network of an ordinary user with a directory of its own.
struct Asked<'a> {
    world: &'a World,
    state: PathBuf,
    up: Proc,
}

impl<'a> Asked<'a> {
    fn start(world: &'a World, name: &str) -> Result<Self> {
        let state = world.dir.join(name);
        let made = fs::create_dir(&state)
            .and_then(|()| fs::set_permissions(&state, Permissions::from_mode(0o777)));
        made.map_err(|e| format!("{}: {e}", state.display()))?;
        let up = Self::up(world, &state, name)?;
        Ok(Self { world, state, up })
    }

    fn up(world: &World, state: &Path, name: &str) -> Result<Proc> {
        let log = world.log("up-asked");
        let socket = state.join("first.sock");
        let mut command = world.host.ordinary(&world.program);
        command
            .args(["up", "--name", name, "--qemu-stream"])
            .arg(&socket)
            .arg("--state-dir")
            .arg(state.join("state"));
        let mut up = Proc::spawn(&mut command, &log)?;
        up.wait_until(SHORT, |out| out.contains("ready"))?;
        Ok(up)
    }

    /// Runs one of the commands that ask.
    fn ask(&self, words: &[&str]) -> Result<Done> {
        let mut command = self.world.host.ordinary(&self.world.program);
        command
            .args(words)
            .arg("--state-dir")
            .arg(self.state.join("state"));
        proc::run(&mut command, &self.world.log("ask"), SHORT)
    }

    /// The same, where success and these words are expected.
    fn told(&self, words: &[&str], says: &[&str]) -> Result<()> {
        let done = self.ask(words)?;
        ensure(done.status == 0, || {
            format!("{words:?}: status {}: {}", done.status, done.output)
        })?;
        let missing = says.iter().find(|says| !done.output.contains(**says));
        ensure(missing.is_none(), || {
            format!("{words:?}: no {missing:?} in {}", done.output)
        })
    }

    /// The same, where a refusal in one line is expected.
    fn refused(&self, words: &[&str], says: &str) -> Result<()> {
        let done = self.ask(words)?;
        let one_line = done.output.trim().lines().count() == 1;
        let fits = done.status == 2 && one_line && done.output.contains(says);
        ensure(fits, || {
            format!("{words:?}: status {}: {}", done.status, done.output)
        })
    }
}

fn asked_and_changed(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let started = checks.step("a network with a name", || Asked::start(world, "lab"));
    let Some(mut asked) = started else { return };
    let second = asked.state.join("second.sock");
    let place = format!("vfkit:{}", second.display());
    checks.step("status says engine and why", || {
        asked.told(
            &["status"],
            &[
                "network lab",
                "engine user",
                "not the kernel",
                "no capability",
            ],
        )?;
        asked.told(
            &["status", "lab", "--json"],
            &["\"version\":1", "\"engine\":\"user\""],
        )
    });
    checks.step("a port is published and taken back", || {
        let port = "127.0.0.1:18080:80";
        asked.told(&["publish", port], &["published 127.0.0.1:18080"])?;
        asked.told(&["status"], &["127.0.0.1:18080/tcp"])?;
        asked.refused(&["publish", port], "published already")?;
        asked.told(&["unpublish", "127.0.0.1:18080"], &[])?;
        asked.refused(&["unpublish", "127.0.0.1:18080"], "not published")
    });
    checks.step("a guest is attached and detached", || {
        asked.told(&["attach", &place], &["ready vfkit:", "name guest2"])?;
        ensure(second.exists(), || "the socket is not there".to_owned())?;
        asked.told(&["publish", "127.0.0.1:18081:80", "--guest", "guest2"], &[])?;
        asked.told(&["detach", "guest2"], &[])?;
        ensure(!second.exists(), || "the socket is still there".to_owned())?;
        asked.refused(&["unpublish", "127.0.0.1:18081"], "not published")
    });
    checks.step("what cannot be is refused in one line", || {
        asked.refused(&["attach", "tap:vm0"], "CAP_NET_ADMIN")?;
        asked.refused(&["attach", "vfkit:/no/such/directory"], "/no/such")?;
        asked.refused(&["publish", "80:80"], "privileged")?;
        asked.refused(&["detach", "nobody"], "nobody")?;
        asked.refused(&["status", "--name", "other"], "no network answers")
    });
    checks.step("a second one of its name is refused", || {
        let socket = asked.state.join("third.sock").display().to_string();
        let pid = asked.up.pid().to_string();
        asked.refused(&["up", "--name", "lab", "--vfkit", &socket], &pid)
    });
    checks.step("stop ends it and leaves nothing", || {
        asked.told(&["stop"], &[])?;
        let status = asked.up.wait(SHORT)?;
        ensure(status == 0, || format!("status {status}"))?;
        let left = asked.state.join("state").join("lab");
        ensure(!left.exists(), || format!("{} is there", left.display()))?;
        asked.refused(&["stop"], "no network runs")
    });
}

/// Neither of the two processes outlives the other.
fn one_dies(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    checks.step(
        "the server is killed: the keeper cleans up and says so",
        || {
            let mut asked = Asked::start(world, "orphan")?;
            let server = server_of(asked.up.pid()).ok_or("there is no server")?;
            proc::kill("KILL", &server.to_string());
            let status = asked.up.wait(SHORT)?;
            ensure(
                status == 1 && asked.up.output().contains("by itself"),
                || format!("status {status}: {}", asked.up.output()),
            )?;
            let left = asked.state.join("first.sock");
            ensure(!left.exists(), || format!("{} is there", left.display()))
        },
    );
    checks.step(
        "the keeper is killed: the server ends, `clean` clears up",
        || {
            let mut asked = Asked::start(world, "widow")?;
            let server = server_of(asked.up.pid()).ok_or("there is no server")?;
            asked.up.signal("KILL");
            asked.up.wait(SHORT)?;
            let gone = || !PathBuf::from(format!("/proc/{server}")).exists();
            let start = std::time::Instant::now();
            while !gone() && start.elapsed() < SHORT {
                std::thread::sleep(Duration::from_millis(20));
            }
            ensure(gone(), || "the server is still there".to_owned())?;
            asked.told(&["clean"], &["widow"])?;
            let left = [
                asked.state.join("state/widow"),
                asked.state.join("first.sock"),
            ];
            let left = left.iter().find(|left| left.exists());
            ensure(left.is_none(), || format!("{left:?} is there"))
        },
    );
    checks.step(
        "the keeper is killed: the next one takes its name and socket",
        || {
            let mut asked = Asked::start(world, "phoenix")?;
            asked.up.signal("KILL");
            asked.up = Asked::up(world, &asked.state, "phoenix")?;
            asked.told(&["status"], &["network phoenix"])
        },
    );
}

/// Everything that a server taken over would try is refused.
fn confined(context: &Context, checks: &mut Checks, ordinary: bool) {
    let world = &context.world;
    checks.step("every forbidden thing is refused", || {
        let mut command = if ordinary {
            world.host.ordinary(&world.program)
        } else {
            world.host.command(&world.program)
        };
        let done = proc::run(command.arg("__attempts"), &world.log("attempts"), SHORT)?;
        let refused = done.output.matches("refused ").count();
        ensure(done.status == 0 && refused == 14, || {
            format!("status {}, {refused} refused: {}", done.status, done.output)
        })
    });
}
