//! `arcbox-net qemu`: a QEMU with a virtio NIC on a network of its own.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};

use net_manager::mac_for;

use crate::child::{exit_code, spawn_failure};
use crate::host::lock;
use crate::keeper::Keeper;
use crate::options::NetworkOptions;
use crate::place::Place;
use crate::usage::UsageError;

/// Starts the network and the QEMU, and ends with its exit status.
pub(crate) fn qemu(
    network: NetworkOptions,
    command: Vec<OsString>,
) -> Result<ExitCode, UsageError> {
    let failed = |what: &'static str| {
        move |err: std::io::Error| UsageError::new(format!("cannot {what}: {err}"))
    };
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| UsageError::new("no QEMU to run"))?;
    let mut running = Keeper::new(network, "qemu", false)?.serve(&[Place::Child], false)?;
    let mac = mac_for("qemu", "guest1");

    // QEMU inherits its end by number.
    let theirs = lock(&running.host).childs_end.take();
    let theirs = socket2::Socket::from(
        theirs.ok_or_else(|| UsageError::new("the socket for QEMU is gone"))?,
    );
    theirs
        .set_cloexec(false)
        .map_err(failed("hand a socket to QEMU"))?;
    let spawned = Command::new(program)
        .args(arguments)
        .arg("-netdev")
        .arg(format!(
            "stream,id=arcbox0,server=off,addr.type=fd,addr.str={}",
            theirs.as_raw_fd()
        ))
        .arg("-device")
        .arg(format!("virtio-net-pci,netdev=arcbox0,mac={mac}"))
        .spawn();
    drop(theirs);
    let mut child = match spawned {
        Ok(child) => child,
        Err(err) => {
            running.end();
            return Ok(spawn_failure(program, &err));
        }
    };
    running.signals().pass_on_to(&child);
    let status = child.wait().map_err(failed("wait for QEMU"));
    running.end();
    Ok(exit_code(status?))
}
