//! Type-checking the crates that promise `no_std` for targets that have no operating system.
//!
//! `no_std` in a crate's first lines proves little: a dependency, or a feature that another crate of
//! the workspace turns on, can bring the standard library back unseen, because the host has one.
//! For these targets there is none. As for macOS the library's source is Debian's.

use crate::{Result, cmd, macos};

const TARGETS: &[&str] = &["x86_64-unknown-none", "aarch64-unknown-none"];

/// Checks the crates, without their default features, for both kinds of processor.
pub(crate) fn run() -> Result<()> {
    let crates = crates()?;
    macos::install()?;
    for target in TARGETS {
        println!("check-nostd: {target}");
        let mut command = macos::debian_cargo("nostd");
        command.args(["check", "-Zbuild-std=core,alloc", "--target", target]);
        command.args(["--no-default-features", "--lib", "--locked"]);
        for name in &crates {
            command.args(["-p", name]);
        }
        cmd::run(&mut command)?;
    }
    let (crates, targets) = (crates.join(", "), TARGETS.join(" and "));
    println!("check-nostd: {crates} type-check for {targets}");
    Ok(())
}

/// The crates that promise it.
fn crates() -> Result<Vec<String>> {
    let directory = cmd::root().join("crates");
    let entries = std::fs::read_dir(&directory).map_err(|e| format!("crates: {e}"))?;
    let promises = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path.join("src/lib.rs")).unwrap_or_default();
        text.lines()
            .any(|line| line.starts_with("#![") && line.contains("no_std"))
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| promises(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    // The packet crates at the least: an empty check would succeed.
    match names.iter().any(|name| name == "net-datapath") {
        true => Ok(names),
        false => Err("no crate promises no_std".into()),
    }
}
