//! Running the cases, each in a process and a network namespace of its own.

use std::process::{Command, ExitCode, Output};

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
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    println!("\nrunning {} tests", all().count());
    for (name, _) in all().filter(|(name, _)| chosen(name)) {
        let output = in_namespace(&[CASE, name]).output();
        let (verdict, counter) = match &output {
            Err(error) => (format!("ignored, no unshare: {error}"), &mut ignored),
            Ok(output) => match skipped(output) {
                Some(reason) => (format!("ignored, {reason}"), &mut ignored),
                None if output.status.success() => ("ok".to_owned(), &mut passed),
                None => ("FAILED".to_owned(), &mut failed),
            },
        };
        *counter += 1;
        println!("test {name} ... {verdict}");
        if verdict == "FAILED"
            && let Ok(output) = output
        {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            print!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 \
         filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
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
