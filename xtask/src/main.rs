//! Build, test, bench and check tasks of the workspace: `cargo xtask <task>`.
//!
//! Each task is a module with a `run` that takes what is left of the command line. A task that
//! needs a tool it cannot find says which, and where it may, installs it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod apt;
mod bench;
mod ci;
mod cmd;
mod counts;
mod deny;
mod e2e;
mod fuzz;
mod layers;
mod macos;
mod nostd;
mod prepare;
mod races;
mod table;
mod test;

/// What went wrong, in words for the person at the terminal.
pub(crate) type Result<T, E = String> = std::result::Result<T, E>;

const USAGE: &str = "\
cargo xtask <task>

  test [--require-all] [--release] [FILTER...]
               every test: unit, integration, doc, end to end; one table and one closing line.
               A test that cannot run here is listed as skipped with the reason, or fails
               with --require-all. FILTER picks tests by name.
  e2e [--require-all] [--release] [--list] [FILTER...]
               the end-to-end tests alone
  ci [SECTION...]
               everything that must hold before a change is merged
  layers       who may depend on whom, and where `unsafe` may stand
  check-macos  type-check the workspace for macOS, on Linux
  check-nostd  type-check the packet crates for machines without an operating system
  deny         licences, bans and sources of the dependencies
  fuzz [--seconds N] [TARGET...]
               run fuzz targets, 10 seconds each unless told otherwise
  bench [NAME] [-- ARG...]
               run one benchmark, or list them
  bench counts [--update] [NAME...]
               instructions per operation, compared with benches/counts.txt
  loom [FILTER...]
               the models of ring, pool and sleeping virtqueues, in every interleaving that
               loom finds
  sanitize [thread|address]
               the two-thread tests under the sanitizers of the nightly compiler
  prepare      install what the other tasks need, and say what is there
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(task) = args.next() else {
        print!("{USAGE}");
        return ExitCode::from(2);
    };
    let rest = lexopt::Parser::from_args(args);
    let done = match task.to_string_lossy().as_ref() {
        "test" => test::run(rest),
        "e2e" => e2e::run(rest),
        "ci" => ci::run(rest),
        "layers" => none_left(rest).and_then(|()| layers::run()),
        "check-macos" => none_left(rest).and_then(|()| macos::run()),
        "check-nostd" => none_left(rest).and_then(|()| nostd::run()),
        "loom" => races::loom(rest),
        "sanitize" => races::sanitize(rest),
        "deny" => none_left(rest).and_then(|()| deny::run()),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "prepare" => none_left(rest).and_then(|()| prepare::run()),
        // Started by the end-to-end tests inside the namespace that plays the outside.
        "e2e-serve" => e2e::serve::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: no task is called {other:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // The test tasks have said everything in their table, which ends the output.
            if !why.is_empty() {
                eprintln!("xtask: {why}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Refuses arguments on a task that takes none.
fn none_left(mut rest: lexopt::Parser) -> Result<()> {
    match rest.next() {
        Ok(None) => Ok(()),
        Ok(Some(arg)) => Err(arg.unexpected().to_string()),
        Err(e) => Err(e.to_string()),
    }
}
