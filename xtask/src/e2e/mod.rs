//! End-to-end tests: the program `arcbox-net`, driven as a user drives it.
//!
//! | module | its one job |
//! |---|---|
//! | [`world`] | the namespaces that play the host and the outside |
//! | [`serve`] | the servers outside, and the clients that ask them |
//! | [`vm`], [`kernel`], [`cpio`] | a Linux guest under QEMU that takes orders over a serial port |
//! | [`proc`] | children with deadlines |
//! | [`body`] | the bytes of the transfers, and their digests |
//! | [`cases`] | the tests |
//!
//! They need root for the namespaces, and give it up again for the program itself: it runs as an
//! ordinary user.

mod body;
mod cases;
mod cpio;
pub(crate) mod kernel;
mod proc;
pub(crate) mod serve;
mod vm;
mod world;

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::table::Group;
use crate::test::{self, Options};
use crate::{Result, apt, cmd};
use vm::Image;
use world::World;

/// What the tests run: QEMU, the guest's userland, and the tools that make namespaces and rules.
const PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "busybox-static",
    "ethtool",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "nftables",
];

/// Installs what the tests run.
pub(crate) fn install() -> Result<()> {
    apt::ensure(PACKAGES)
}

/// One test.
struct Case {
    group: &'static str,
    name: &'static str,
    run: fn(&Context, &mut Checks),
    /// It takes many minutes, and runs only where its whole name is given.
    long: bool,
}

impl Case {
    const fn new(group: &'static str, name: &'static str, run: fn(&Context, &mut Checks)) -> Self {
        Self {
            group,
            name,
            run,
            long: false,
        }
    }

    const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    fn is_wanted(&self, options: &Options) -> bool {
        match self.long {
            true => options.filters.iter().any(|filter| filter == self.name),
            false => options.wants(self.name),
        }
    }
}

/// What a test is given.
struct Context {
    world: World,
    image: OnceCell<Result<Image>>,
    /// The tests of crates that run on a real kernel, where root may not build them.
    tests: Option<Vec<(String, PathBuf)>>,
}

impl Context {
    /// The programs of those tests, by the name of their crate.
    fn tests(&self) -> Result<Vec<(String, PathBuf)>> {
        match &self.tests {
            Some(tests) => Ok(tests.clone()),
            None => test::programs(TESTED),
        }
    }

    /// What virtual machines boot, made for the first test that asks.
    fn image(&self) -> Result<&Image> {
        self.image
            .get_or_init(Image::prepare)
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// What a test has found so far: each step of it counts as one test of the table.
#[derive(Default)]
struct Checks {
    steps: Vec<(String, Result<()>)>,
    skipped: Option<String>,
    logs: Vec<PathBuf>,
}

impl Checks {
    /// Does one step and notes how it went; gives what the step gave, if it passed.
    fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        let start = Instant::now();
        let done = run();
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        println!("  {word:6} {name} ({:.1} s)", start.elapsed().as_secs_f64());
        if let Err(why) = &done {
            println!("{}", indent(why));
        }
        let (value, done) = match done {
            Ok(value) => (Some(value), Ok(())),
            Err(why) => (None, Err(why)),
        };
        self.steps.push((name.to_owned(), done));
        value
    }

    /// Notes that the test cannot run here.
    fn skip(&mut self, why: String) {
        self.skipped = Some(why);
    }

    /// Names a log to show if a step fails.
    fn log(&mut self, path: &Path) {
        self.logs.push(path.to_path_buf());
    }

    fn failed(&self) -> bool {
        self.steps.iter().any(|(_, done)| done.is_err())
    }
}

/// An error unless `condition` holds.
fn ensure(condition: bool, why: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(why()) }
}

/// `e2e [--require-all] [--release] [--list] [FILTER...]`
pub(crate) fn run(args: lexopt::Parser) -> Result<()> {
    let options = Options::read(args)?;
    if options.list {
        for case in cases::all() {
            println!("{} {}", case.group, case.name);
        }
        return Ok(());
    }
    let groups = groups(&options)?;
    test::conclude(&groups, options.require_all)
}

/// Where a run under `sudo` leaves its findings.
const REPORT: &str = "E2E_REPORT";
/// The program that a run under `sudo` is to test: root builds nothing.
const PROGRAM: &str = "E2E_PROGRAM";
/// The tests of crates likewise, as `CRATE=PATH` with blanks between.
const TESTS: &str = "E2E_TESTS";
/// The crates whose tests run in a virtual machine too.
const TESTED: &[&str] = &["net-backend-linux", "net-manager"];

/// Runs the tests that `options` asks for.
///
/// # Errors
/// Where a run under `sudo` leaves no report; what a test finds is in the groups.
pub(crate) fn groups(options: &Options) -> Result<Vec<Group>> {
    let chosen: Vec<&Case> = cases::all().filter(|c| c.is_wanted(options)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let skip_all = |why: &str| {
        let mut groups = Vec::new();
        for case in &chosen {
            group(&mut groups, case.group)
                .skipped
                .push((case.name.into(), why.into()));
        }
        Ok(groups)
    };
    if !cfg!(target_os = "linux") {
        return skip_all("needs Linux: network namespaces");
    }
    if !cmd::is_root() && !cmd::has_sudo() {
        return skip_all("needs root or password-free sudo for network namespaces");
    }
    if let Err(why) = install() {
        // What is there may do: each test says what it misses.
        println!("e2e: {why}");
    }
    if let Some(why) = world::obstacle() {
        return skip_all(&why);
    }
    let program = match std::env::var_os(PROGRAM) {
        Some(path) => PathBuf::from(path),
        None => match build(options.release) {
            Ok(path) => path,
            Err(why) => {
                let mut failed = Group::new("e2e");
                failed.failed.push(("building arcbox-net".into(), why));
                return Ok(vec![failed]);
            }
        },
    };
    if !cmd::is_root() {
        return under_sudo(options, &program);
    }
    let context = match World::new(&program) {
        Ok(world) => Context {
            world,
            image: OnceCell::new(),
            tests: std::env::var(TESTS).ok().map(|text| {
                let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
                pairs
                    .map(|(name, path)| (name.into(), path.into()))
                    .collect()
            }),
        },
        Err(why) => return skip_all(&why),
    };
    let mut groups = Vec::new();
    for case in chosen {
        run_case(case, &context, group(&mut groups, case.group));
    }
    drop(context);
    if let Some(path) = std::env::var_os(REPORT) {
        fs::write(&path, write_report(&groups)).map_err(|e| format!("{path:?}: {e}"))?;
    }
    Ok(groups)
}

fn group<'a>(groups: &'a mut Vec<Group>, name: &str) -> &'a mut Group {
    let index = groups
        .iter()
        .position(|g| g.name == name)
        .unwrap_or_else(|| {
            groups.push(Group::new(name));
            groups.len() - 1
        });
    &mut groups[index]
}

fn build(release: bool) -> Result<PathBuf> {
    let mut command = cmd::cargo(["build", "--locked", "-p", "net-cli"]);
    if release {
        command.arg("--release");
    }
    cmd::run(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(cmd::target_dir().join(profile).join("arcbox-net"))
}

fn run_case(case: &Case, context: &Context, group: &mut Group) {
    println!("{} {}", case.group, case.name);
    let mut checks = Checks::default();
    (case.run)(context, &mut checks);
    if let Some(why) = &checks.skipped {
        println!("  SKIPPED {why}");
        group.skipped.push((case.name.into(), why.clone()));
    }
    if checks.failed() {
        for log in &checks.logs {
            println!("  ---- {}", log.display());
            println!("{}", indent(&tail(log)));
        }
    }
    for (step, done) in checks.steps {
        match done {
            Ok(()) => group.passed += 1,
            Err(why) => {
                group
                    .failed
                    .push((format!("{}: {step}", case.name), one_line(&why)));
            }
        }
    }
}

/// The beginning of a reason, as the table has room for; all of it was shown as it happened.
fn one_line(why: &str) -> String {
    let line = why.lines().map(str::trim).collect::<Vec<_>>().join(" | ");
    line.chars().take(300).collect()
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Runs this program again as root and reads what it found.
fn under_sudo(options: &Options, program: &Path) -> Result<Vec<Group>> {
    let report = kernel::cache().join("report");
    let this = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    fs::create_dir_all(kernel::cache()).map_err(|e| format!("{}: {e}", report.display()))?;
    let _ = fs::remove_file(&report);
    // Fetched as the user, so that the target directory stays the user's.
    if let Err(why) = kernel::fetch() {
        println!("e2e: {why}");
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "env"]);
    for (name, value) in [(REPORT, &report), (PROGRAM, &program.to_path_buf())] {
        command.arg(format!("{name}={}", value.display()));
    }
    let tests = test::programs(TESTED)?;
    let tests = tests
        .iter()
        .map(|(name, path)| format!("{name}={}", path.display()));
    command.arg(format!("{TESTS}={}", tests.collect::<Vec<_>>().join(" ")));
    let manifest = cmd::root().join("xtask");
    command.arg(format!("CARGO_TARGET_DIR={}", cmd::target_dir().display()));
    command.arg(format!("CARGO_MANIFEST_DIR={}", manifest.display()));
    command
        .arg(this)
        .arg("e2e")
        .args(&options.filters)
        .current_dir(cmd::root());
    // Its exit status repeats what the report says.
    let _ = command
        .status()
        .map_err(|e| format!("cannot start sudo: {e}"))?;
    let text = fs::read_to_string(&report).map_err(|e| {
        format!(
            "the run under sudo left no report: {}: {e}",
            report.display()
        )
    })?;
    Ok(read_report(&text))
}

/// One line a finding: group, word, name and reason, separated by tabs.
fn write_report(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        out.push_str(&format!("{}\tpassed\t{}\t\n", group.name, group.passed));
        for (word, list) in [("failed", &group.failed), ("skipped", &group.skipped)] {
            for (name, why) in list {
                let why = why.replace(['\t', '\n'], " ");
                out.push_str(&format!("{}\t{word}\t{name}\t{why}\n", group.name));
            }
        }
    }
    out
}

fn read_report(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, '\t');
        let (Some(name), Some(word), Some(what), Some(why)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let group = group(&mut groups, name);
        match word {
            "passed" => group.passed = what.parse().unwrap_or(0),
            "failed" => group.failed.push((what.into(), why.into())),
            _ => group.skipped.push((what.into(), why.into())),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_what_was_written() {
        let mut first = Group::new("e2e run");
        first.passed = 3;
        first.failed.push(("a: b".into(), "why\tnot".into()));
        let mut second = Group::new("e2e vm");
        second.skipped.push(("c".into(), "needs QEMU".into()));
        let groups = read_report(&write_report(&[first.clone(), second.clone()]));
        first.failed[0].1 = "why not".into();
        assert_eq!(groups, [first, second]);
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<&str> = cases::all().map(|c| c.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
