//! `arcbox-net qemu`: a QEMU with a virtio NIC on a network of its own.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use net_backend_socket::qemu_stream::QemuStream;
use net_manager::{AttachOptions, mac_for};

use crate::args::NetworkOptions;
use crate::child::{Signals, exit_code, spawn_failure};
use crate::usage::UsageError;

/// Starts the network and the QEMU, and ends with its exit status.
pub(crate) fn qemu(
    network: NetworkOptions,
    command: Vec<OsString>,
) -> Result<ExitCode, UsageError> {
    let failed = |what: &'static str| {
        move |err: std::io::Error| UsageError::new(format!("cannot {what}: {err}"))
    };
    let manager = network.start("qemu")?;
    let mac = mac_for("qemu", "guest1");
    let (ours, theirs) = UnixStream::pair().map_err(failed("make a socket pair"))?;
    let backend = QemuStream::from_stream(ours).map_err(UsageError::new)?;
    manager.attach(Box::new(backend), AttachOptions::default())?;

    // QEMU inherits its end by number.
    let theirs = socket2::Socket::from(theirs);
    theirs
        .set_cloexec(false)
        .map_err(failed("hand a socket to QEMU"))?;
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| UsageError::new("no QEMU to run"))?;
    let signals = Signals::take()?;
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
        Err(err) => return Ok(spawn_failure(program, &err)),
    };
    signals.pass_on_to(&child);
    let status = child.wait().map_err(failed("wait for QEMU"))?;
    manager.stop();
    Ok(exit_code(status))
}
