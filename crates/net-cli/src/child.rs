//! A command that this program runs: signals are passed on to it, its exit status is ours.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::usage::UsageError;

/// Signals that ask this program to end.
const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// Signals that have arrived, as bytes on a socket.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    sockets: Vec<(i32, UnixStream)>,
}

impl Signals {
    /// From now on the signals that would end this program are only noted.
    pub(crate) fn take() -> Result<Self, UsageError> {
        let failed = |err| UsageError::new(format!("cannot handle signals: {err}"));
        let mut sockets = Vec::new();
        for signal in ENDING {
            let (read, write) = UnixStream::pair().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, write).map_err(failed)?;
            sockets.push((signal, read));
        }
        Ok(Self { sockets })
    }

    /// Calls `act` for every signal that arrives, on threads of their own.
    pub(crate) fn each(self, act: impl Fn(i32) + Clone + Send + 'static) {
        for (signal, mut socket) in self.sockets {
            let act = act.clone();
            std::thread::spawn(move || {
                let mut byte = [0];
                while socket.read_exact(&mut byte).is_ok() {
                    act(signal);
                }
            });
        }
    }

    /// Sleeps until one arrives.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn wait(self) {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.each(move |signal| {
            // The first one is enough; nobody waits for a second.
            let _ = sender.send(signal);
        });
        // Every sender gone would mean that no signal can arrive any more.
        let _ = receiver.recv();
    }

    /// Passes every one on to `child`. The interrupt key reaches the whole terminal group by
    /// itself, so that a child would see it twice; passing it on is right for `kill -INT` only, and
    /// harmless for programs that count on one.
    pub(crate) fn pass_on_to(self, child: &Child) {
        self.pass_on(child.id());
    }

    fn pass_on(self, pid: u32) {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        self.each(move |signal| {
            if let Some(signal) = Signal::from_named_raw(signal) {
                // It may have ended in the meantime.
                let _ = kill_process(pid, signal);
            }
        });
    }
}

#[cfg(target_os = "linux")]
impl Signals {
    /// Waits for a command in a namespace, passing signals on.
    pub(crate) fn wait_for(
        self,
        child: &mut net_backend_linux::netns::NamespaceChild,
    ) -> std::io::Result<ExitStatus> {
        self.pass_on(child.id());
        child.wait()
    }
}

/// The exit status of a command as this program's own; a signal gives 128 and its number, as the
/// shell has it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The status for a command that could not be started, as the shell has it: 127 where it is not
/// there, 126 where it cannot be run.
pub(crate) fn spawn_failure(program: &std::ffi::OsStr, err: &std::io::Error) -> ExitCode {
    eprintln!("arcbox-net: {}: {err}", program.to_string_lossy());
    ExitCode::from(if err.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}
