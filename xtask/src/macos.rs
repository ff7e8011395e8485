//! Type-checking the workspace for macOS on Linux.
//!
//! Linking needs Apple's SDK; type-checking needs only the standard library's metadata for the
//! target. Debian packages a compiler together with the library's source (`rustc-web`,
//! `cargo-web`, `rust-web-src`), from which `-Zbuild-std` makes that metadata. Nothing runs here:
//! this shows that the macOS code compiles against its dependencies, and the hosted macOS runner
//! shows that it works.

use std::path::Path;
use std::process::Command;

use crate::{Result, apt, cmd};

const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const TARGETS: &[&str] = &["aarch64-apple-darwin", "x86_64-apple-darwin"];

/// Checks every target of every crate, for both kinds of Mac: libraries, programs, tests, examples,
/// benchmarks, and these tasks.
pub(crate) fn run() -> Result<()> {
    if cfg!(target_os = "macos") {
        return cmd::run(&mut cmd::cargo([
            "check",
            "--workspace",
            "--all-targets",
            "--locked",
        ]));
    }
    install()?;
    for target in TARGETS {
        println!("check-macos: {target}");
        check(target)?;
    }
    println!("check-macos: {} type-check", TARGETS.join(" and "));
    Ok(())
}

/// Installs Debian's compiler where it is missing.
pub(crate) fn install() -> Result<()> {
    apt::ensure(PACKAGES)
}

/// Debian's cargo and compiler, with `-Z` flags allowed and a target directory of its own.
pub(crate) fn debian_cargo(directory: &str) -> Command {
    let mut command = cmd::at_root(Path::new("/usr/bin/cargo"));
    command
        // rustup's directory would come first in an ordinary path and its `rustc` is a proxy.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        // `-Z` flags on a stable compiler: only the standard library's check needs them.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", cmd::target_dir().join(directory))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER");
    command
}

fn check(target: &str) -> Result<()> {
    let mut command = debian_cargo("macos");
    // A dependency of criterion has a line of C. Nothing is linked, so that no compiler for it is
    // needed; the one of Linux would not understand Apple's options.
    let suffix = target.replace('-', "_");
    command
        .env(format!("CC_{suffix}"), "/bin/true")
        .env(format!("AR_{suffix}"), "/bin/true")
        .args([
            "check",
            "-Zbuild-std=std,panic_abort,test",
            "--target",
            target,
        ])
        .args(["--workspace", "--all-targets", "--locked"]);
    cmd::run(&mut command)
}
