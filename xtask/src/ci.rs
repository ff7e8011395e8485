//! Everything that must hold before a change is merged, section by section, with the time each
//! took. `.ci/run` and the hosted workflow call this, so a developer can run exactly the same.

use std::time::Instant;

use lexopt::prelude::*;

use crate::{Result, cmd, counts, deny, fuzz, layers, macos, nostd, races, test};

struct Section {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// No arguments, for tasks that take some.
const NONE: [&str; 0] = [];

/// In the order of cost: what fails cheaply fails first.
const SECTIONS: &[Section] = &[
    Section {
        name: "fmt",
        run: fmt,
    },
    Section {
        name: "clippy",
        run: clippy,
    },
    Section {
        name: "doc",
        run: doc,
    },
    Section {
        name: "layers",
        run: layers::run,
    },
    Section {
        name: "test",
        run: tests,
    },
    Section {
        name: "loom",
        run: || races::loom(lexopt::Parser::from_args(NONE)),
    },
    Section {
        name: "sanitize",
        run: || races::sanitize(lexopt::Parser::from_args(NONE)),
    },
    Section {
        name: "deny",
        run: deny::run,
    },
    Section {
        name: "check-nostd",
        run: nostd::run,
    },
    Section {
        name: "check-macos",
        run: macos::run,
    },
    Section {
        name: "counts",
        run: || counts::run(lexopt::Parser::from_args(NONE)),
    },
    Section {
        name: "fuzz",
        run: fuzzing,
    },
    Section {
        name: "demo",
        run: demo,
    },
];

/// `ci [SECTION...]`
pub(crate) fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut chosen: Vec<&Section> = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        let Value(name) = arg else {
            return Err(arg.unexpected().to_string());
        };
        let name = name.to_string_lossy();
        let found = SECTIONS.iter().find(|s| s.name == name);
        let names: Vec<&str> = SECTIONS.iter().map(|s| s.name).collect();
        let why = || {
            format!(
                "no section is called {name}; there are {}",
                names.join(", ")
            )
        };
        chosen.push(found.ok_or_else(why)?);
    }
    if chosen.is_empty() {
        chosen = SECTIONS.iter().collect();
    }
    let began = Instant::now();
    let mut report = Vec::new();
    let mut failed = Vec::new();
    for section in chosen {
        println!("\n==== {}", section.name);
        let start = Instant::now();
        let done = (section.run)();
        let seconds = start.elapsed().as_secs();
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        if let Err(why) = done {
            eprintln!("{}: {why}", section.name);
            failed.push(section.name);
        }
        println!("==== {}: {word} after {seconds} s", section.name);
        report.push(format!("{word:6}  {seconds:5} s  {}", section.name));
    }
    println!(
        "\n{}\nall sections: {} s",
        report.join("\n"),
        began.elapsed().as_secs()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

fn fmt() -> Result<()> {
    cmd::run(&mut cmd::cargo(["fmt", "--all", "--check"]))?;
    cmd::run(&mut cmd::cargo([
        "fmt",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--check",
    ]))
}

fn clippy() -> Result<()> {
    cmd::run(&mut cmd::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

fn doc() -> Result<()> {
    cmd::run(
        cmd::cargo(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn tests() -> Result<()> {
    test::run(lexopt::Parser::from_args(["--require-all"]))
}

fn fuzzing() -> Result<()> {
    fuzz::run(lexopt::Parser::from_args(["--seconds", "10"]))
}

/// The first command of the README, as a user types it.
fn demo() -> Result<()> {
    cmd::run(&mut cmd::cargo([
        "run",
        "--release",
        "--locked",
        "--",
        "demo",
    ]))
}
