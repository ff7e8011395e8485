//! The doors that the server closes behind itself, before it reads the first byte of a guest.
//!
//! | what | how | where it cannot be |
//! |---|---|---|
//! | privileges by running a program | `no_new_privs` | - |
//! | mounts that others make | a mount namespace | without CAP_SYS_ADMIN |
//! | every file | Landlock, with no exception | kernels before 5.13 |
//! | every capability | dropped, the bounding set too | - |
//! | system calls that the work does not take | seccomp | - |
//!
//! What needs a file later is the keeper's to open. What is open, the capture file for example, stays
//! usable.

use net_backend_linux::confine::{self, Enforced, Refusal, syscalls};

use crate::usage::UsageError;

/// Turns a refused system call into the end of the server, for those who look for the reason.
const KILL: &str = "ARCBOX_NET_SECCOMP";

/// Closes every door; says in words what is closed.
///
/// # Errors
/// Where the kernel refuses what every kernel has, or there are threads already.
pub(super) fn confine() -> Result<String, UsageError> {
    let refused = |err: net_backend_linux::LinuxError| {
        UsageError::new(format!("the server cannot be confined: {err}"))
    };
    confine::no_new_privileges().map_err(refused)?;
    let mounts = match confine::private_mounts() {
        Ok(()) => "its own mounts",
        // Whoever has no privileges has none to mount with either.
        Err(_) => "the mounts of its user",
    };
    confine::drop_capabilities().map_err(refused)?;
    let files = match confine::landlock(&[], &[]).map_err(refused)? {
        Enforced::Fully => "no file",
        Enforced::Partly => "hardly a file (an older Landlock)",
        Enforced::Not => "every file of its user (no Landlock)",
    };
    let refusal = match std::env::var(KILL).as_deref() {
        Ok("kill") => Refusal::Kill,
        Ok("log") => Refusal::Log,
        _ => Refusal::Errno,
    };
    let lists = [
        syscalls::BASE,
        syscalls::THREADS,
        syscalls::SOCKETS,
        syscalls::FILES,
        syscalls::TAP,
        syscalls::SHARED_MEMORY,
    ];
    confine::seccomp(&lists, refusal).map_err(refused)?;
    Ok(format!(
        "no capability, {files}, {mounts}, and the system calls of its work"
    ))
}
