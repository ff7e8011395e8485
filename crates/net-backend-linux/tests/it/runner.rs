//! Running the cases one after the other, and being the helper of a namespace.

use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use net_backend_linux::netns::{Outcome, SOCKET_VARIABLE, child_setup};
use net_backend_linux::probe;

use crate::cases;

/// Why a case cannot run here.
pub(crate) struct Skip(pub(crate) String);

/// What a case returns; failures panic.
pub(crate) type Case = Result<(), Skip>;

/// The helper's part: the namespace, then the command.
pub(crate) fn helper(command: &[String]) -> ExitCode {
    match child_setup() {
        Ok(Outcome::Run) => {}
        Ok(_) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    let (program, arguments) = command.split_first().expect("a command to become");
    let error = Command::new(program)
        .args(arguments)
        .env_remove(SOCKET_VARIABLE)
        .exec();
    eprintln!("{program}: {error}");
    ExitCode::from(127)
}

/// The runner's part, with the arguments of the usual runner that matter.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| {
        let exact = has("--exact");
        let fits = |filter: &&String| {
            if exact {
                **filter == name
            } else {
                name.contains(&filter[..])
            }
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    if has("--list") {
        for (name, _) in cases::all() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let namespaces = probe::namespaces();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let all = cases::all();
    println!("\nrunning {} tests", all.len());
    for (name, case) in all.iter().filter(|(name, _)| chosen(name)) {
        let outcome = if namespaces.works {
            catch_unwind(AssertUnwindSafe(case)).map_err(drop)
        } else {
            Ok(Err(Skip(format!("no namespaces: {}", namespaces.detail))))
        };
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Err(Skip(reason))) => {
                ignored += 1;
                println!("test {name} ... ignored, {reason}");
            }
            Err(()) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 \
         filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}
