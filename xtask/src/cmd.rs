//! Running other programs: where they start, what they inherit, what is said when they fail.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Result;

/// The directory of the root `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // `cargo run` says it at run time; a copy that runs without cargo knows where it was built.
    let told = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = PathBuf::from(told.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    here.parent().unwrap_or(&here).to_path_buf()
}

/// The workspace's target directory: `CARGO_TARGET_DIR`, or `target` at the root.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command at the root of the workspace, without the variables that `cargo run` and rustup
/// put into the environment of this process: they would pin the toolchain of a child that asks
/// for another one, and make it load this one's libraries.
pub(crate) fn at_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env_remove("LD_LIBRARY_PATH");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let pinned = matches!(
            text.as_ref(),
            "CARGO" | "RUSTC" | "RUSTDOC" | "RUSTUP_TOOLCHAIN" | "RUST_RECURSION_COUNT"
        );
        if pinned || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// `cargo` at the root of the workspace, with the toolchain of `rust-toolchain.toml`.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = at_root("cargo");
    command.args(args);
    command
}

/// Runs a command with the terminal as its output.
///
/// # Errors
/// Says the whole command where it cannot start or does not end with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .map_err(|e| format!("cannot start `{shown}`: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}

/// Runs a command and gives its standard output; its standard error goes to the terminal.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot start `{shown}`: {e}"))?;
    if !out.status.success() {
        return Err(format!("`{shown}` ended with {}", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether a program of this name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    find(program).is_some()
}

/// The first file of this name on the path. The system's directories for administrators are
/// searched too: an ordinary user's path often leaves them out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // The owner of a process's directory under /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Whether `sudo` works without asking.
pub(crate) fn has_sudo() -> bool {
    exists("sudo")
        && Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
