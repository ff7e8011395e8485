//! Installing what the other tasks need, and saying what is there.

use crate::{Result, apt, cmd, deny, e2e, fuzz, macos};

/// A thing to have, and how to get it.
type Step = (&'static str, fn() -> Result<()>);

/// Installs what can be installed; ends with one line for each thing that is there or missing.
pub(crate) fn run() -> Result<()> {
    let steps: [Step; 6] = [
        ("packages for the end-to-end tests", e2e::install),
        ("kernel for the virtual machines", || {
            e2e::kernel::fetch().map(|_| ())
        }),
        ("cargo-deny", || deny::ensure("cargo-deny")),
        ("nightly and cargo-fuzz", fuzz::prepare),
        (
            "Debian's compiler for check-macos and check-nostd",
            macos::install,
        ),
        ("valgrind for bench counts", || {
            apt::ensure_program("valgrind", "valgrind")
        }),
    ];
    let mut lines = Vec::new();
    for (name, step) in steps {
        lines.push(match step() {
            Ok(()) => format!("ready    {name}"),
            Err(why) => format!("missing  {name}: {why}"),
        });
    }
    let root = if cmd::is_root() {
        "yes"
    } else if cmd::has_sudo() {
        "by sudo"
    } else {
        "no: the end-to-end tests and the tests marked so will be skipped"
    };
    println!("\n{}\nroot     {root}", lines.join("\n"));
    Ok(())
}
