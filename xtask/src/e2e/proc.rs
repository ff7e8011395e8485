//! Child processes that cannot outlive their test: every one has a deadline, dies with this
//! program, and leaves its output in a log that a failing test shows.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// How often a wait looks again.
const TICK: Duration = Duration::from_millis(10);

/// A running child, killed with everything it started when dropped.
pub(crate) struct Proc {
    child: Child,
    name: String,
    log: PathBuf,
}

/// What a command that ended has left.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit status; 128 and the signal's number where a signal ended it.
    pub(crate) status: i32,
    /// What it wrote to standard output and standard error, in order.
    pub(crate) output: String,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Proc {
    /// Starts a command in a process group of its own, with its output in `log`.
    ///
    /// # Errors
    /// Where the log or the process cannot be made.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let both = file
            .try_clone()
            .map_err(|e| format!("{}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(both);
        Self::start(command, log)
    }

    /// As [`Proc::spawn`], with standard input and output left as `command` says.
    ///
    /// # Errors
    /// Where the process cannot be made.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        let name = format!("{name} {}", args.join(" "));
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot start `{name}`: {e}"))?;
        Ok(Self {
            child,
            name,
            log: log.to_path_buf(),
        })
    }

    /// Its process id, which is its group's too.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, &self.pid().to_string());
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it is still running after `limit`; it is killed then.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(code(status)),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(TICK),
                Ok(None) => {
                    self.kill();
                    return Err(format!(
                        "`{}` still ran after {} s",
                        self.name,
                        limit.as_secs()
                    ));
                }
                Err(e) => return Err(format!("`{}`: {e}", self.name)),
            }
        }
    }

    /// Waits until `ready` holds of what it has written.
    ///
    /// # Errors
    /// Where it ends first, or `limit` passes; with what it wrote.
    pub(crate) fn wait_until(
        &mut self,
        limit: Duration,
        ready: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let alive = self.alive();
            let output = self.output();
            if ready(&output) {
                return Ok(());
            }
            if !alive || Instant::now() > deadline {
                let how = if alive { "is not ready" } else { "ended early" };
                return Err(format!("`{}` {how}; it wrote:\n{output}", self.name));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Kills the whole group and waits for the child.
    pub(crate) fn kill(&mut self) {
        kill("KILL", &format!("-{}", self.pid()));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
///
/// # Errors
/// Where it cannot start or still runs after `limit`; with what it wrote until then.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<Done> {
    let start = Instant::now();
    let mut proc = Proc::spawn(command, log)?;
    match proc.wait(limit) {
        Ok(status) => Ok(Done {
            status,
            output: proc.output(),
            took: start.elapsed(),
        }),
        Err(why) => Err(format!("{why}; it wrote:\n{}", proc.output())),
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sends a signal to a process, or to the group of one with `-` in front.
pub(crate) fn kill(signal: &str, target: &str) {
    let _ = Command::new("kill")
        .args(["-s", signal, "--", target])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
