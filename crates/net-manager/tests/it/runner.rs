//! Running the cases, each in a process and a network namespace of its own.

use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::thread;

use crate::{fast, kernel, matrix};

/// First argument of a process that is a case's host, and of one that is a peer of it.
pub(crate) const CASE: &str = "case";
pub(crate) const PEER: &str = "peer";

/// A case: its name, and what it does in its namespace.
type Case = (&'static str, fn());

/// The cases of every module.
const MODULES: &[&[Case]] = &[fast::CASES, kernel::CASES, matrix::CASES];

fn all() -> impl Iterator<Item = Case> {
    MODULES.iter().flat_map(|cases| cases.iter().copied())
}

/// This program in a new network namespace, with the privileges over it that it takes: root has
/// them, everybody else needs a user namespace too.
pub(crate) fn in_namespace(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(arguments);
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|uid| uid.split_whitespace().nth(1)) == Some("0")
}

/// The host's part of a case. What it prints as `skip: REASON` is why it cannot run.
pub(crate) fn case(name: &str) -> ExitCode {
    match all().find(|(known, _)| *known == name) {
        Some((_, run)) => {
            run();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(2),
    }
}

/// The runner's part, with the arguments of the usual runner that matter.
pub(crate) fn main(arguments: &[&str]) -> ExitCode {
    let has = |name| arguments.contains(&name);
    let filters: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        let exact = has("--exact");
        let fits = |filter: &&str| {
            if exact {
                *filter == name
            } else {
                name.contains(filter)
            }
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    if has("--list") {
        all().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", all().count());
    let next = Mutex::new(all().filter(|(name, _)| chosen(name)));
    let counts = Mutex::new([0; 3]);
    // A function of its own, so that nobody waits for the lock while a case runs.
    let take = || next.lock().unwrap().next();
    // A case mostly waits: for what shall not come.
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((name, _)) = take() {
                    let output = in_namespace(&[CASE, name]).output();
                    // Held until everything of this case is printed.
                    let mut counts = counts.lock().unwrap();
                    counts[report(name, output) as usize] += 1;
                }
            });
        }
    });
    let [passed, failed, ignored] = counts.into_inner().unwrap();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 \
         filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}

/// What became of a case.
enum Verdict {
    Passed,
    Failed,
    Ignored,
}

/// Prints what became of a case, and what one said that failed.
fn report(name: &str, output: std::io::Result<Output>) -> Verdict {
    let ignored = match &output {
        Err(error) => Some(format!("no unshare: {error}")),
        Ok(output) => skipped(output),
    };
    match (ignored, output) {
        (Some(reason), _) => {
            println!("test {name} ... ignored, {reason}");
            Verdict::Ignored
        }
        (None, Ok(output)) if !output.status.success() => {
            println!("test {name} ... FAILED");
            print!("{}", String::from_utf8_lossy(&output.stdout));
            print!("{}", String::from_utf8_lossy(&output.stderr));
            Verdict::Failed
        }
        _ => {
            println!("test {name} ... ok");
            Verdict::Passed
        }
    }
}

/// Why a case did not run, if it did not.
fn skipped(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(reason) = said.lines().find_map(|line| line.strip_prefix("skip: ")) {
        return Some(reason.to_owned());
    }
    // Nothing of ours was started.
    let refused = String::from_utf8_lossy(&output.stderr);
    let refusal = refused.lines().find(|line| line.starts_with("unshare: "));
    refusal
        .filter(|_| !output.status.success())
        .map(str::to_owned)
}
