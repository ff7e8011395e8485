//! What ordinary tests cannot show of code between threads: loom's models, and the sanitizers.
//!
//! loom runs the models of ring and pool, and of a virtqueue whose device goes to sleep, in every
//! interleaving, within bounds, on atomics of its own. The thread sanitizer watches the real code, with
//! real threads, in the tests of `tests/it/soak.rs`; the address sanitizer watches all tests of what copies guests' memory.

use lexopt::prelude::*;

use crate::{Result, cmd, fuzz};

const CRATE: &str = "net-datapath";
/// Those that copy to and from memory by address.
const COPYING: [&str; 4] = ["-p", CRATE, "-p", "net-virtio"];
/// The sanitizers' own: a target is named so that build scripts and macros go without them.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const SUPPRESSIONS: &str = "crates/net-datapath/tests/tsan-suppressions.txt";

/// Where models are: a crate, its test program, and what their names begin with there.
const MODELS: [(&str, &[&str], &str); 2] = [
    (CRATE, &["--test", "loom"], ""),
    // Beside what they model, which is nobody else's.
    ("net-virtio", &["--lib"], "ring::models::"),
];

/// `loom [FILTER...]`
pub(crate) fn loom(args: lexopt::Parser) -> Result<()> {
    let filters = values(args)?;
    for (package, program, prefix) in MODELS {
        let mut command = cmd::cargo(["test", "-p", package, "--release", "--locked"]);
        command
            // Its flags are for every crate of the build: apart, it does not undo the others' work.
            .env("CARGO_TARGET_DIR", cmd::target_dir().join("loom"))
            .env("RUSTFLAGS", "--cfg loom")
            .args(program)
            .arg("--");
        match filters.is_empty() {
            true => command.arg(prefix),
            false => command.args(filters.iter().map(|filter| format!("{prefix}{filter}"))),
        };
        cmd::run(&mut command)?;
    }
    Ok(())
}

/// `sanitize [thread|address]`: one of them, or both.
pub(crate) fn sanitize(args: lexopt::Parser) -> Result<()> {
    let mut chosen = values(args)?;
    if chosen.is_empty() {
        chosen = ["thread", "address"].map(str::to_owned).to_vec();
    }
    if let Some(other) = chosen
        .iter()
        .find(|s| !matches!(s.as_str(), "thread" | "address"))
    {
        return Err(format!(
            "no sanitizer is called {other}; there are thread, address"
        ));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("sanitize: skipped: set up for x86-64 Linux only");
        return Ok(());
    }
    fuzz::nightly()?;
    for sanitizer in chosen {
        println!("sanitize: {sanitizer}");
        under(&sanitizer)?;
    }
    Ok(())
}

fn under(sanitizer: &str) -> Result<()> {
    // The standard library that comes with the compiler is not instrumented, and linking it is
    // refused without the second flag. What the thread sanitizer then misunderstands of it stands
    // in the suppressions, so that the library's source is not needed.
    let flags = format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer");
    let suppressions = cmd::root().join(SUPPRESSIONS);
    let mut command = cmd::cargo([fuzz::TOOLCHAIN, "test", "--locked"]);
    command
        .env(
            "CARGO_TARGET_DIR",
            cmd::target_dir().join("sanitize").join(sanitizer),
        )
        .env("RUSTFLAGS", flags)
        .env(
            "TSAN_OPTIONS",
            format!("halt_on_error=1 suppressions={}", suppressions.display()),
        )
        // A test asks for more memory than there is, and wants to hear so.
        .env("ASAN_OPTIONS", "allocator_may_return_null=1")
        .args(["--target", TARGET, "--test", "it"]);
    match sanitizer {
        "thread" => command.args(["-p", CRATE, "--", "soak"]),
        _ => command.args(COPYING).arg("--lib"),
    };
    cmd::run(&mut command)
}

fn values(mut args: lexopt::Parser) -> Result<Vec<String>> {
    let mut values = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Value(value) => values.push(value.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(values)
}
