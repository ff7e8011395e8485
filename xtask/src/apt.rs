//! Installing Debian packages, where this machine has them and we may.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::{Result, cmd};

/// Whether a package is installed.
pub(crate) fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${Status}", package])
        .output()
        .is_ok_and(|out| out.stdout == b"install ok installed")
}

/// Makes sure that every one of `packages` is installed.
///
/// # Errors
/// Says which packages are missing and why they were not installed: no apt, no root and no
/// `sudo` without a password, or what apt said.
pub(crate) fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !cmd::exists("apt-get") {
        return Err(format!(
            "needs the Debian packages {names}, and this machine has no apt-get"
        ));
    }
    let Some(apt) = privileged() else {
        return Err(format!(
            "needs root or password-free sudo to install {names}"
        ));
    };
    refresh_lists(&missing)?;
    let mut install = apt("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&missing);
    cmd::run(&mut install).map_err(|e| format!("cannot install {names}: {e}"))
}

/// Makes sure that there is a program of this name, by installing `package` where it is missing.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_program(program: &str, package: &str) -> Result<()> {
    if cmd::exists(program) {
        return Ok(());
    }
    ensure(&[package])
}

/// Runs `apt-get update` where the lists are missing, older than a day, or do not know one of
/// `packages`.
///
/// # Errors
/// Where apt cannot be run; a failing update is reported and left to the next step to judge.
pub(crate) fn refresh_lists(packages: &[&str]) -> Result<()> {
    let known = |package: &&str| {
        Command::new("apt-cache")
            .args(["show", "--no-all-versions", package])
            .output()
            .is_ok_and(|out| out.status.success() && !out.stdout.is_empty())
    };
    let age = std::fs::metadata(Path::new("/var/lib/apt/lists"))
        .and_then(|m| m.modified())
        .ok()
        .and_then(|t| SystemTime::now().duration_since(t).ok());
    let fresh = age.is_some_and(|age| age < Duration::from_secs(24 * 3600));
    if fresh && packages.iter().all(known) {
        return Ok(());
    }
    let Some(apt) = privileged() else {
        return Err("needs root or password-free sudo to run apt-get update".into());
    };
    let mut update = apt("apt-get");
    update.args(["update", "-q"]);
    if let Err(why) = cmd::run(&mut update) {
        eprintln!("xtask: {why}; going on with the lists that are there");
    }
    Ok(())
}

/// Makes commands that run as root, if there is a way.
fn privileged() -> Option<fn(&str) -> Command> {
    fn quiet(mut command: Command) -> Command {
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env_remove("LD_LIBRARY_PATH");
        command
    }
    if cmd::is_root() {
        return Some(|program| quiet(Command::new(program)));
    }
    if cmd::has_sudo() {
        return Some(|program| {
            let mut command = Command::new("sudo");
            command.args(["-n", "DEBIAN_FRONTEND=noninteractive", program]);
            quiet(command)
        });
    }
    None
}
