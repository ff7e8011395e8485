//! A process that gives up, for good, what it does not need: before it reads the first byte of a
//! guest.
//!
//! | step, in this order | what is gone afterwards | needs |
//! |---|---|---|
//! | [`no_new_privileges`] | privileges by `exec` | nothing |
//! | [`private_mounts`] | mounts that others see | CAP_SYS_ADMIN |
//! | [`drop_capabilities`] | every capability | nothing |
//! | [`landlock()`] | files but those named | nothing; Linux 5.13 |
//! | [`seccomp()`] | system calls but those listed | nothing |
//!
//! The first four bind the calling thread and what it starts later, so that they refuse to run where
//! there are more threads: a thread that is not bound is a way around them. They count in `/proc`,
//! which Landlock takes away: it comes last of them. Landlock's and seccomp's
//! bonds hold for every later child, whatever user it becomes.
//!
//! Who may do what is the caller's choice; the lists of system calls are in [`syscalls`].

mod seccomp;
pub mod syscalls;

use std::path::Path;

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};

use crate::error::Context;
use crate::{LinuxError, Result, probe, sys};

pub use seccomp::{Refusal, seccomp};

/// The rules of the newest kernel that the lists here have been tried with; an older one enforces
/// what it knows.
const LANDLOCK: ABI = ABI::V5;

/// How much of what was asked for the kernel enforces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enforced {
    /// All of it.
    Fully,
    /// What this older kernel knows.
    Partly,
    /// Nothing: the kernel has no Landlock, or was started without it.
    Not,
}

/// How many threads the process has.
///
/// # Errors
/// [`LinuxError::Host`] where there is no `/proc`.
pub fn threads() -> Result<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").context("count the threads")?;
    Ok(tasks.count())
}

fn alone(what: &str) -> Result<()> {
    match threads()? {
        1 => Ok(()),
        count => Err(LinuxError::Invalid(format!(
            "cannot {what} with {count} threads: only one of them would be bound"
        ))),
    }
}

/// No program that is run from here on gets privileges by its file.
///
/// # Errors
/// [`LinuxError::Invalid`] with more than one thread.
pub fn no_new_privileges() -> Result<()> {
    alone("forgo new privileges")?;
    sys::set_no_new_privileges().context("forgo new privileges")
}

/// Enters a mount namespace of its own, where what others mount later is not seen, nor the reverse.
///
/// # Errors
/// [`LinuxError::Invalid`] with more than one thread; [`LinuxError::Host`] with EPERM without
/// CAP_SYS_ADMIN.
pub fn private_mounts() -> Result<()> {
    alone("have mounts of its own")?;
    let what = "have mounts of its own";
    sys::unshare(libc::CLONE_NEWNS)
        .context(what)
        .map_err(|error| error.with_advice(probe::namespace_restriction()))?;
    let (source, root) = (Path::new("none"), Path::new("/"));
    sys::mount(source, root, "", libc::MS_REC | libc::MS_PRIVATE, "").context(what)
}

/// Gives up every capability, and the possibility of ever having one again.
///
/// The user stays who it was: root without capabilities still owns root's files, which
/// [`landlock()`] keeps from it.
///
/// # Errors
/// [`LinuxError::Invalid`] with more than one thread; [`LinuxError::Host`] if the kernel refuses, or
/// if a capability is there after all.
pub fn drop_capabilities() -> Result<()> {
    alone("drop capabilities")?;
    let refused = |error: caps::errors::CapsError| {
        LinuxError::Invalid(format!("cannot drop capabilities: {error}"))
    };
    // The bounding set first: leaving it takes a capability. Without that one there is nothing in
    // force that the set would bound, and no_new_privileges keeps it so.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(refused)? {
        caps::clear(None, CapSet::Bounding).map_err(refused)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    for set in [CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        caps::clear(None, set).map_err(refused)?;
    }
    for set in [
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
        CapSet::Ambient,
    ] {
        let left = caps::read(None, set).map_err(refused)?;
        if !left.is_empty() {
            return Err(LinuxError::Invalid(format!(
                "capabilities are left after they were dropped: {left:?}"
            )));
        }
    }
    Ok(())
}

/// Leaves these files and directories, with what is below them, and no others. Files that are open
/// already stay usable; what does not exist is left out.
///
/// With `read_write` everything may be done but to run a file; with `read_only` files may be read and
/// directories listed. Files that another process passes are not bound by this.
///
/// # Errors
/// [`LinuxError::Invalid`] with more than one thread, or if the kernel refuses.
pub fn landlock(read_write: &[&Path], read_only: &[&Path]) -> Result<Enforced> {
    alone("leave files")?;
    let refused =
        |error: landlock::RulesetError| LinuxError::Invalid(format!("Landlock refuses: {error}"));
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(refused)?;
    let write = all & !AccessFs::Execute;
    for (paths, access) in [(read_only, read), (read_write, write)] {
        for path in paths {
            let file = match PathFd::new(path) {
                Ok(file) => file,
                Err(_) if !path.exists() => continue,
                Err(error) => {
                    return Err(LinuxError::Invalid(format!("{}: {error}", path.display())));
                }
            };
            // What is meant for directories cannot be allowed to a file.
            let access = match path.is_dir() {
                true => access,
                false => access & AccessFs::from_file(LANDLOCK),
            };
            rules = rules
                .add_rule(PathBeneath::new(file, access))
                .map_err(refused)?;
        }
    }
    let status = rules.restrict_self().map_err(refused)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}
