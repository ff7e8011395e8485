//! Licences, bans and sources of the dependencies, by `cargo-deny` and `deny.toml`.

use crate::{Result, cmd};

/// Runs every check that needs no network; the advisory database is the hosted workflow's.
pub(crate) fn run() -> Result<()> {
    ensure("cargo-deny")?;
    cmd::run(&mut cmd::cargo([
        "deny", "--locked", "check", "bans", "licenses", "sources",
    ]))
}

/// Installs a cargo subcommand where it is missing.
///
/// # Errors
/// What cargo said.
pub(crate) fn ensure(tool: &str) -> Result<()> {
    if cmd::exists(tool) {
        return Ok(());
    }
    println!("xtask: installing {tool}");
    // Into its own target directory: the workspace's is for the workspace. Not optimised: the tool runs
    // for a second, and an optimised build takes minutes.
    let mut install = cmd::cargo(["install", "--locked", "--debug", tool]);
    install.env_remove("CARGO_TARGET_DIR");
    cmd::run(&mut install)
}
