//! Two network namespaces with a cable between them: the *host*, where the program runs, and the
//! *outside*, where our servers are. Addresses are of the documentation ranges.
//!
//! ```text
//!     host 203.0.113.1/24 ────────────── 203.0.113.2/24 outside
//!          2001:db8:203::1/64            2001:db8:203::2/64
//!     arcbox-net, its guests             DNS, HTTP, digest and who-is-calling servers
//! ```
//!
//! A namespace is held by a process and not by a name: it is gone when its processes are, and
//! those die with this program, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::proc::{self, Done, Proc};
use super::serve;
use crate::{Result, cmd};

/// The host's address on the cable.
pub(crate) const HOST: &str = "203.0.113.1";
/// The address of every server outside.
pub(crate) const OUTSIDE: &str = "203.0.113.2";
/// The host's IPv6 address on the cable; its default route leads outside.
pub(crate) const HOST6: &str = "2001:db8:203::1";
/// The IPv6 address of every server outside.
pub(crate) const OUTSIDE6: &str = "2001:db8:203::2";
/// A user who is nobody in particular.
pub(crate) const ORDINARY: &str = "65534";

/// A network and mount namespace, held open by a sleeping process.
pub(crate) struct Namespace {
    holder: Proc,
}

impl Namespace {
    fn new(log: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount"]);
        Self::hold(command, log)
    }

    /// As an ordinary user makes one: with a user namespace, in which they are root.
    fn new_ordinary(log: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]);
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--user",
            "--map-root-user",
        ]);
        command.args(["--net", "--mount"]);
        Self::hold(command, log)
    }

    fn hold(mut command: Command, log: &Path) -> Result<Self> {
        // The echo comes from inside: the namespaces exist once it is written.
        command.args(["sh", "-c", "echo ready; exec sleep infinity"]);
        let mut holder = Proc::spawn(&mut command, log)?;
        holder.wait_until(Duration::from_secs(5), |out| out.contains("ready"))?;
        Ok(Self { holder })
    }

    /// A command inside, as root.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let pid = self.holder.pid().to_string();
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "nsenter",
            "-t",
            &pid,
            "-n",
            "-m",
            "--",
        ]);
        command.arg(program).env_remove("LD_LIBRARY_PATH");
        command
    }

    /// A command inside, as an ordinary user without any privilege.
    pub(crate) fn ordinary(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("setpriv");
        command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.env("HOME", "/").env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> String {
        self.holder.pid().to_string()
    }
}

/// Everything a test finds.
pub(crate) struct World {
    /// Where sockets, logs and copies of the programs are; readable by everybody.
    pub(crate) dir: PathBuf,
    /// The namespace the program runs in.
    pub(crate) host: Namespace,
    /// The namespace with the servers.
    pub(crate) outside: Namespace,
    /// `arcbox-net`, copied to where an ordinary user can read it.
    pub(crate) program: PathBuf,
    /// This program, copied likewise: its `e2e-serve` runs inside the namespaces.
    pub(crate) helper: PathBuf,
    servers: Proc,
    logs: std::cell::Cell<u32>,
}

impl World {
    /// Makes the namespaces, the cable and the servers.
    ///
    /// # Errors
    /// Says which step failed.
    pub(crate) fn new(program: &Path) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("arcbox-e2e-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let made = Self::build(&dir, program);
        if made.is_err() {
            let _ = fs::remove_dir_all(&dir);
        }
        made
    }

    fn build(dir: &Path, program: &Path) -> Result<Self> {
        open_to_all(dir)?;
        let copy = |from: &Path, name: &str| {
            let to = dir.join(name);
            let copied = fs::copy(from, &to).map(|_| to);
            copied.map_err(|e| format!("{}: {e}", from.display()))
        };
        let this = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
        let program = copy(program, "arcbox-net")?;
        let helper = copy(&this, "helper")?;

        let host = Namespace::new(&dir.join("host.log"))?;
        let outside = Namespace::new(&dir.join("outside.log"))?;
        let resolv = dir.join("resolv.conf");
        fs::write(&resolv, format!("nameserver {OUTSIDE}\n"))
            .map_err(|e| format!("{}: {e}", resolv.display()))?;
        let resolv = resolv.display();
        let steps = [
            (
                &host,
                format!(
                    "ip link add up0 type veth peer name out0 netns {}",
                    outside.pid()
                ),
            ),
            (
                &host,
                format!(
                    "ip addr add {HOST}/24 dev up0 && ip addr add {HOST6}/64 dev up0 nodad \
                     && ip link set up0 up && ip -6 route add default via {OUTSIDE6}"
                ),
            ),
            (&host, "ip link set lo up".into()),
            // What a desktop distribution gives its users: echo sockets without privileges.
            (
                &host,
                "echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range".into(),
            ),
            (&host, format!("mount --bind {resolv} /etc/resolv.conf")),
            (
                &outside,
                format!(
                    "ip addr add {OUTSIDE}/24 dev out0 && ip addr add {OUTSIDE6}/64 dev out0 nodad \
                     && ip link set out0 up"
                ),
            ),
            (&outside, "ip link set lo up".into()),
        ];
        for (index, (namespace, script)) in steps.iter().enumerate() {
            let log = dir.join(format!("setup-{index}.log"));
            let mut command = namespace.command("sh");
            let done = proc::run(command.args(["-c", script]), &log, Duration::from_secs(10))?;
            if done.status != 0 {
                return Err(format!("`{script}` failed: {}", done.output.trim()));
            }
        }
        let mut serve = outside.command(&helper);
        let mut servers = Proc::spawn(
            serve.args(["e2e-serve", "outside", OUTSIDE, OUTSIDE6]),
            &dir.join("servers.log"),
        )?;
        servers.wait_until(Duration::from_secs(5), |out| out.contains("ready"))?;
        let logs = std::cell::Cell::new(0);
        Ok(Self {
            dir: dir.to_path_buf(),
            host,
            outside,
            program,
            helper,
            servers,
            logs,
        })
    }

    /// One more namespace, empty: root's, or an ordinary user's.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn namespace(&self, ordinary: bool) -> Result<Namespace> {
        let log = self.log("namespace");
        if ordinary {
            Namespace::new_ordinary(&log)
        } else {
            Namespace::new(&log)
        }
    }

    /// A path for one more log.
    pub(crate) fn log(&self, what: &str) -> PathBuf {
        let number = self.logs.get() + 1;
        self.logs.set(number);
        self.dir.join(format!("{number:03}-{what}.log"))
    }

    /// What the servers outside have written: one line for each request.
    pub(crate) fn server_log(&self) -> String {
        self.servers.output()
    }

    /// Runs a helper outside and gives what it prints.
    ///
    /// # Errors
    /// Where it fails or takes more than ten seconds.
    pub(crate) fn ask_from_outside(&self, args: &[&str]) -> Result<String> {
        let mut command = self.outside.command(&self.helper);
        let log = self.log("ask");
        let done = proc::run(
            command.arg("e2e-serve").args(args),
            &log,
            Duration::from_secs(10),
        )?;
        if done.status != 0 {
            return Err(format!(
                "from outside, {}: {}",
                args.join(" "),
                done.output.trim()
            ));
        }
        Ok(done.output)
    }

    /// `arcbox-net ARGS...` on the host as an ordinary user, to its end.
    ///
    /// # Errors
    /// Where it cannot start or still runs after `limit`.
    pub(crate) fn arcbox<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Done> {
        let mut command = self.host.ordinary(&self.program);
        command.args(args).current_dir(&self.dir);
        proc::run(&mut command, &self.log("arcbox-net"), limit)
    }

    /// `arcbox-net ARGS...` on the host as an ordinary user, left running.
    ///
    /// # Errors
    /// Where it cannot start.
    pub(crate) fn start_arcbox(&self, args: &[&str]) -> Result<Proc> {
        let mut command = self.host.ordinary(&self.program);
        command.args(args).current_dir(&self.dir);
        Proc::spawn(&mut command, &self.log("arcbox-net"))
    }

    /// The helper's path and the port of one of the servers, as a shell script needs them.
    pub(crate) fn helper_command(&self) -> String {
        format!("{} e2e-serve", self.helper.display())
    }

    /// The URL of a body of this many bytes.
    pub(crate) fn body_url(len: u64) -> String {
        format!(
            "http://{}:{}/body/{len}",
            serve::dns::ZONE,
            serve::HTTP_PORT
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.kill();
        self.host.holder.kill();
        self.outside.holder.kill();
        if std::env::var_os("E2E_KEEP").is_some() {
            println!("e2e: logs kept in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Lets everybody make sockets in a directory: the ordinary user of the tests does.
fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777))
        .map_err(|e| format!("{}: {e}", dir.display()))
}

/// Why the tests cannot run on this machine, if they cannot.
pub(crate) fn obstacle() -> Option<String> {
    for tool in [
        "setpriv",
        "unshare",
        "nsenter",
        "ip",
        "mount",
        "sha256sum",
        "kill",
    ] {
        if !cmd::exists(tool) {
            return Some(format!("needs {tool}"));
        }
    }
    None
}
