//! Entering a network namespace that exists.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::{LinuxError, Result, ioctl, sys};

/// Where `ip netns` keeps its namespaces.
const NAMED: &str = "/run/netns";

/// Enters the namespace that `ip netns` knows by `name`.
pub(super) fn by_name(name: &str) -> Result<()> {
    let path = Path::new(NAMED).join(name);
    enter(&path, || {
        format!("there is no network namespace {name} in {NAMED}; ip netns list shows what is")
    })
}

/// Enters the namespace of a process.
pub(super) fn by_pid(pid: u32) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    enter(&path, || format!("there is no process {pid}"))
}

fn enter(path: &Path, missing: impl FnOnce() -> String) -> Result<()> {
    let namespace = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LinuxError::Invalid(missing()),
        _ => LinuxError::host(format!("open {}", path.display()), &error)
            .with_advice("it belongs to another user: run as that user or as root"),
    })?;
    // Rights over a network namespace are rights in the user namespace that owns it, which need
    // not be the one its processes are in.
    if let Ok(owner) = ioctl::namespace_owner(namespace.as_fd()) {
        let owner = File::from(owner);
        if !is_ours(&owner)? {
            sys::setns(owner.as_fd(), libc::CLONE_NEWUSER)
                .context(format!(
                    "enter the user namespace that owns {}",
                    path.display()
                ))
                .map_err(|error| error.with_advice("run as the user who made it, or as root"))?;
        }
    }
    sys::setns(namespace.as_fd(), libc::CLONE_NEWNET)
        .context(format!("enter the network namespace {}", path.display()))
        .map_err(|error| match error.errno() {
            Some(libc::EINVAL) => error.with_advice("that file is not a network namespace"),
            Some(libc::EPERM) => error.with_advice("run as the user who made it, or as root"),
            _ => error,
        })
}

/// Whether this is the user namespace we are in.
fn is_ours(namespace: &File) -> Result<bool> {
    let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
    let ours = File::open("/proc/self/ns/user").context("open /proc/self/ns/user")?;
    let what = "compare user namespaces";
    Ok(identity(namespace).context(what)? == identity(&ours).context(what)?)
}
