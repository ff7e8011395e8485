//! `arcbox-net qemu`: a QEMU with a virtio NIC on a network of its own.

mod command_line;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use net_manager::mac_for;

use crate::child::{exit_code, spawn_failure};
use crate::host::lock;
use crate::keeper::{Keeper, Running};
use crate::options::NetworkOptions;
use crate::place::{Place, VhostUserPlace, child_queues};
use crate::usage::UsageError;

/// Starts the network and the QEMU, and ends with its exit status.
pub(crate) fn qemu(
    network: NetworkOptions,
    vhost_user: bool,
    command: Vec<OsString>,
) -> Result<ExitCode, UsageError> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| UsageError::new("no QEMU to run"))?;
    if vhost_user {
        over_vhost_user(network, program, arguments)
    } else {
        over_a_stream(network, program, arguments)
    }
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> UsageError {
    move |err| UsageError::new(format!("cannot {what}: {err}"))
}

fn device() -> String {
    let mac = mac_for("qemu", "guest1");
    format!("virtio-net-pci,netdev=arcbox0,mac={mac}")
}

/// Frames over a stream socket.
fn over_a_stream(
    network: NetworkOptions,
    program: &OsString,
    arguments: &[OsString],
) -> Result<ExitCode, UsageError> {
    let running = Keeper::new(network, "qemu", false)?.serve(&[Place::Child], false)?;

    // QEMU inherits its end by number.
    let theirs = lock(&running.host).childs_end.take();
    let theirs = socket2::Socket::from(
        theirs.ok_or_else(|| UsageError::new("the socket for QEMU is gone"))?,
    );
    theirs
        .set_cloexec(false)
        .map_err(failed("hand a socket to QEMU"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("-netdev")
        .arg(format!(
            "stream,id=arcbox0,server=off,addr.type=fd,addr.str={}",
            theirs.as_raw_fd()
        ))
        .args(["-device", &device()]);
    run(running, command, theirs)
}

/// The guest's memory. QEMU passes descriptors over sockets that it has found by a path, and over no
/// other.
fn over_vhost_user(
    network: NetworkOptions,
    program: &OsString,
    arguments: &[OsString],
) -> Result<ExitCode, UsageError> {
    let pairs = child_queues(network.queues)?;
    let memory = command_line::shared_memory(arguments)?;
    let vectors = command_line::vectors(arguments, pairs);
    let directory = Private::new().map_err(failed("make a directory for a socket"))?;
    let place = VhostUserPlace {
        path: directory.0.join("vhost.sock"),
        queues: Some(pairs),
        ..VhostUserPlace::default()
    };
    // In a value of QEMU's a comma is written twice.
    let path = place.path.display().to_string().replace(',', ",,");
    let place = Place::VhostUser(place);
    let running = Keeper::new(network, "qemu", false)?.serve(&[place], false)?;
    let device = device();
    let mq = if pairs > 1 { ",mq=on" } else { "" };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(memory)
        .args(["-chardev", &format!("socket,id=arcbox0,path={path}")])
        .arg("-netdev")
        .arg(format!(
            "vhost-user,id=arcbox0,chardev=arcbox0,queues={pairs}"
        ))
        .arg("-device")
        .arg(format!("{device}{mq},vectors={vectors}"));
    run(running, command, directory)
}

/// Runs QEMU, which has been given `given`, to its end.
fn run<T>(mut running: Running, mut command: Command, given: T) -> Result<ExitCode, UsageError> {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(err) => {
            running.end();
            return Ok(spawn_failure(command.get_program(), &err));
        }
    };
    running.signals().pass_on_to(&child);
    let status = child.wait().map_err(failed("wait for QEMU"));
    running.end();
    drop(given);
    Ok(exit_code(status?))
}

/// A directory that is its user's alone, until it is dropped.
struct Private(PathBuf);

impl Private {
    fn new() -> std::io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let parent = runtime.filter(|it| it.is_absolute());
        Self::below(&parent.unwrap_or_else(std::env::temp_dir))
    }

    /// One of some names; those that others took before are left to them.
    fn below(parent: &Path) -> std::io::Result<Self> {
        let process = std::process::id();
        let mut number = 0;
        loop {
            let path = parent.join(format!("arcbox-net-qemu-{process}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists && number < 16 => {
                    number += 1;
                }
                made => return made.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir(&self.0) {
            log::warn!("{}: {err}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_its_users_alone_and_goes() {
        let parent = tempfile::tempdir().unwrap();
        let one = Private::below(parent.path()).unwrap();
        let other = Private::below(parent.path()).unwrap();
        assert_ne!(one.0, other.0);
        let mode = one.0.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop((one, other));
        assert_eq!(parent.path().read_dir().unwrap().count(), 0);
        assert!(Private::below(&parent.path().join("none")).is_err());
    }
}
