//! Entering new namespaces, with as few privileges as there are.

use std::fs;
use std::io;

use crate::error::Context;
use crate::{LinuxError, Result, probe, sys};

/// Who the helper is afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum User {
    /// Who it was: it had the privilege to make the namespaces.
    Same,
    /// Root of a user namespace, and outside of it who it was.
    Mapped,
}

const NETWORK_AND_MOUNTS: libc::c_int = libc::CLONE_NEWNET | libc::CLONE_NEWNS;

/// Leaves network and mounts for new ones; makes a user namespace where that takes one.
pub(super) fn enter() -> Result<User> {
    match sys::unshare(NETWORK_AND_MOUNTS) {
        Ok(()) => return Ok(User::Same),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        Err(error) => return Err(refused(&error)),
    }
    let (user, group) = sys::effective_ids();
    sys::unshare(libc::CLONE_NEWUSER | NETWORK_AND_MOUNTS).map_err(|error| refused(&error))?;
    // Without this an ordinary user may not map a group (user_namespaces(7)); before Linux 3.19
    // there is no such file.
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&error)),
        _ => {}
    }
    // Root inside, so that the tools in there (ping, ip) find the capabilities they look for.
    fs::write("/proc/self/uid_map", format!("0 {user} 1\n")).map_err(|error| {
        let refusal = refused(&error);
        if user == 0 {
            // Since Linux 5.12: root may be mapped only by who could give capabilities to files.
            return refusal.with_advice(
                "root needs CAP_SYS_ADMIN here, or CAP_SETFCAP to map itself: give the container \
                 one of them, or run as an ordinary user",
            );
        }
        refusal
    })?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1\n")).context("map the group")?;
    Ok(User::Mapped)
}

/// The refusal with its reason: there are several switches, and each has another name.
fn refused(error: &io::Error) -> LinuxError {
    let advice = match error.raw_os_error() {
        Some(libc::EINVAL) => "the kernel is built without user or network namespaces".into(),
        _ => probe::namespace_restriction(),
    };
    LinuxError::host("make a user and network namespace", error).with_advice(advice)
}
