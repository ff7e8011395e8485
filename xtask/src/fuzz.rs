//! Running the fuzz targets for a while each, without touching the committed corpora.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;

use crate::{Result, cmd, deny};

/// The compiler that libFuzzer's instrumentation and the sanitizers need.
pub(crate) const TOOLCHAIN: &str = "+nightly";

/// `fuzz [--seconds N] [TARGET...]`
pub(crate) fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut seconds = 10u64;
    let mut chosen: Vec<String> = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Long("seconds") => {
                let value: OsString = args.value().map_err(|e| e.to_string())?;
                seconds = value
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .filter(|n| (1..=86_400).contains(n))
                    .ok_or("--seconds takes a number from 1 to 86400")?;
            }
            Value(name) => chosen.push(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let all = targets()?;
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        return Err(format!(
            "no fuzz target is called {unknown}; there are {}",
            all.join(", ")
        ));
    }
    let chosen = if chosen.is_empty() { all } else { chosen };
    prepare()?;
    smoke(&chosen, Duration::from_secs(seconds))
}

/// The names of the fuzz targets, as `fuzz/Cargo.toml` lists them.
pub(crate) fn targets() -> Result<Vec<String>> {
    let text = cmd::output(&mut cmd::cargo([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let targets = metadata["packages"][0]["targets"].as_array();
    // Examples write seeds.
    let is_bin = |t: &&serde_json::Value| t["kind"][0] == "bin";
    let names = targets.into_iter().flatten().filter(is_bin);
    let names = names.filter_map(|t| t["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Installs the nightly compiler and `cargo-fuzz` where they are missing.
pub(crate) fn prepare() -> Result<()> {
    nightly()?;
    deny::ensure("cargo-fuzz")
}

/// Installs the nightly compiler where it is missing.
pub(crate) fn nightly() -> Result<()> {
    let nightly = cmd::output(cmd::at_root("rustup").args(["toolchain", "list"]))?;
    if !nightly.lines().any(|line| line.starts_with("nightly")) {
        let mut install = cmd::at_root("rustup");
        cmd::run(install.args(["toolchain", "install", "nightly", "--profile", "minimal"]))?;
    }
    Ok(())
}

fn smoke(targets: &[String], each: Duration) -> Result<()> {
    // One build for all: `cargo fuzz run` would find each target fresh after it.
    cmd::run(&mut cmd::cargo([TOOLCHAIN, "fuzz", "build"]))?;
    // A target keeps one processor busy, so there are as many at once as processors; each takes the next.
    let next = Mutex::new(targets.iter());
    // A function of its own, so that the lock is not held while the target runs.
    let take = || lock(&next).next();
    let failed = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers.min(targets.len()) {
            scope.spawn(|| {
                while let Some(target) = take() {
                    if let Err(why) = one(target, each) {
                        lock(&failed).push(format!("{target}: {why}"));
                    }
                }
            });
        }
    });
    let failed = lock(&failed);
    if failed.is_empty() {
        println!("fuzz: {} targets, nothing found", targets.len());
        return Ok(());
    }
    Err(format!("fuzz targets failed: {}", failed.join("; ")))
}

/// Runs one target and prints what it said when it has ended, whole.
fn one(target: &str, each: Duration) -> Result<()> {
    // New inputs go into the first directory; the committed ones are only read.
    let scratch = cmd::target_dir().join("fuzz-scratch").join(target);
    std::fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    let corpus = Path::new("fuzz/corpus").join(target);
    if !cmd::root().join(&corpus).is_dir() {
        return Err("there is no committed corpus".to_owned());
    }
    let mut command = cmd::cargo([TOOLCHAIN, "fuzz", "run", target]);
    command.args([scratch.as_path(), &corpus]);
    command.args(["--", "-verbosity=0", "-print_final_stats=1", "-timeout=5"]);
    command.arg(format!("-max_total_time={}", each.as_secs()));
    let out = command.output().map_err(|e| format!("cannot start: {e}"))?;
    println!(
        "fuzz: {target}, {} s\n{}{}",
        each.as_secs(),
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("ended with {}", out.status))
    }
}

/// A worker that panicked has already failed the task.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
