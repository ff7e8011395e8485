//! `cargo xtask test`: every test there is, one table, one closing line.
//!
//! `cargo test` runs the unit, integration and documentation tests; this module reads its output
//! and keeps it back, so that only failures are shown in full. Tests marked
//! `#[ignore = "needs root..."]` then run as root, where there is a way to be root. The
//! end-to-end tests come last.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lexopt::prelude::*;

use crate::table::{self, Group};
use crate::{Result, apt, cmd, e2e};

/// What the command line of `test` and `e2e` can say.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// A skipped test is a failure.
    pub(crate) require_all: bool,
    /// Test the release build of the program.
    pub(crate) release: bool,
    /// List the end-to-end tests instead of running them.
    pub(crate) list: bool,
    /// Run only tests whose name contains one of these; all if empty.
    pub(crate) filters: Vec<String>,
}

impl Options {
    /// Reads what is left of the command line.
    ///
    /// # Errors
    /// For an unknown option.
    pub(crate) fn read(mut args: lexopt::Parser) -> Result<Self> {
        let mut options = Self::default();
        while let Some(arg) = args.next().map_err(|e| e.to_string())? {
            match arg {
                Long("require-all") => options.require_all = true,
                Long("release") => options.release = true,
                Long("list") => options.list = true,
                Value(filter) => options.filters.push(filter.to_string_lossy().into_owned()),
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(options)
    }

    /// Whether a test of this name is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| name.contains(f.as_str()))
    }
}

/// `test [--require-all] [--release] [FILTER...]`
pub(crate) fn run(args: lexopt::Parser) -> Result<()> {
    let options = Options::read(args)?;
    // Tests of kernel NAT run it; without it they say so and are skipped.
    if let Err(why) = apt::ensure_program("nft", "nftables") {
        eprintln!("xtask: {why}");
    }
    let mut groups = cargo_tests(&options)?;
    groups.extend(e2e::groups(&options)?);
    groups.retain(|g| g.passed + g.failed.len() + g.skipped.len() > 0);
    conclude(&groups, options.require_all)
}

/// Prints the table; the result is an error without words where the run was not good.
pub(crate) fn conclude(groups: &[Group], require_all: bool) -> Result<()> {
    print!("\n{}", table::render(groups, require_all));
    if table::good(groups, require_all) {
        Ok(())
    } else {
        Err(String::new())
    }
}

/// A test program, as cargo built it.
struct Program {
    package: String,
    kind: String,
    directory: PathBuf,
    file: PathBuf,
}

/// How long `cargo test` may stay silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(15 * 60);

fn cargo_tests(options: &Options) -> Result<Vec<Group>> {
    let programs = build()?;
    let mut command = cmd::cargo(["test", "--workspace", "--locked", "--no-fail-fast", "--"]);
    command
        .args(&options.filters)
        .env("CARGO_TERM_COLOR", "never");
    let (reader, writer) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let both = writer.try_clone().map_err(|e| format!("pipe: {e}"))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(both);
    let mut child = command
        .spawn()
        .map_err(|e| format!("cannot start cargo test: {e}"))?;
    // The command holds the writing ends; with them the reader would never see the end.
    drop(command);

    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let mut log = Reader::new(&programs);
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => log.line(&line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                log.line(&format!(
                    "xtask: no output for {} s, stopped",
                    SILENCE.as_secs()
                ));
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child.wait().map_err(|e| format!("cargo test: {e}"))?;
    let mut groups = log.finish();
    if !status.success() && groups.iter().all(|g| g.failed.is_empty()) {
        let mut group = Group::new("cargo test");
        group
            .failed
            .push(("cargo test".into(), format!("ended with {status}")));
        groups.push(group);
    }
    for group in &mut groups {
        if let Some(program) = programs.values().find(|p| p.title() == group.name) {
            run_as_root(group, program);
        }
    }
    Ok(groups)
}

/// Builds the test programs and learns which file belongs to which crate: the name that cargo
/// prints while running them says only the file.
fn build() -> Result<BTreeMap<String, Program>> {
    let text = cmd::output(&mut cmd::cargo([
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]))?;
    Ok(read_programs(&text))
}

/// The test programs that cargo tells of, by the names of their files.
fn read_programs(text: &str) -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    for line in text.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let (Some(file), Some(manifest)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let file = PathBuf::from(file);
        let directory = Path::new(manifest)
            .parent()
            .unwrap_or(Path::new("/"))
            .to_path_buf();
        let package = message["package_id"]
            .as_str()
            .map(package_name)
            .unwrap_or_default();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let kind = match message["target"]["kind"][0].as_str() {
            Some("test") => format!("tests/{target}"),
            Some("bench") => format!("bench {target}"),
            Some("example") => format!("example {target}"),
            _ => "unit".to_owned(),
        };
        if let Some(name) = file.file_name() {
            let program = Program {
                package,
                kind,
                directory,
                file: file.clone(),
            };
            programs.insert(name.to_string_lossy().into_owned(), program);
        }
    }
    programs
}

/// The integration tests of these packages, built: each package with the file of its tests.
///
/// # Errors
/// Where they do not build.
pub(crate) fn programs(packages: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut command = cmd::cargo(["test", "--locked", "--no-run", "--test", "it"]);
    command.arg("--message-format=json-render-diagnostics");
    for package in packages {
        command.args(["-p", package]);
    }
    let programs = read_programs(&cmd::output(&mut command)?).into_values();
    Ok(programs.map(|it| (it.package, it.file)).collect())
}

/// The package's name in an identifier such as `path+file:///x/crates/net-wire#0.1.0` or
/// `path+file:///x#net-wire@0.1.0`.
fn package_name(id: &str) -> String {
    let (path, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

impl Program {
    fn title(&self) -> String {
        format!("{} {}", self.package, self.kind)
    }
}

/// Reads what `cargo test` prints and sorts it into groups.
struct Reader<'a> {
    programs: &'a BTreeMap<String, Program>,
    groups: Vec<Group>,
    /// Everything the current group has printed; shown if it fails.
    kept: Vec<String>,
    /// Whether the current group has printed its result.
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(programs: &'a BTreeMap<String, Program>) -> Self {
        Self {
            programs,
            groups: Vec::new(),
            kept: Vec::new(),
            ended: true,
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = self.heading(line) {
            self.close();
            self.groups.push(Group::new(name));
            self.ended = false;
            return;
        }
        let Some(group) = self.groups.last_mut() else {
            println!("{line}");
            return;
        };
        self.kept.push(line.to_owned());
        if let Some(rest) = line.strip_prefix("test ") {
            if let Some((name, result)) = rest.rsplit_once(" ... ") {
                match result
                    .split_once(", ")
                    .unwrap_or((result, "ignored in the source"))
                {
                    ("ignored", why) => group.skipped.push((name.into(), why.into())),
                    ("FAILED", _) => group.failed.push((name.into(), "see above".into())),
                    _ => {}
                }
            }
            if let Some(counts) = rest.strip_prefix("result: ") {
                // Doc tests can print more than one result: merged programs and single ones.
                group.passed += count(counts, " passed");
                self.ended = true;
            }
        }
    }

    /// The group that a line opens, if it opens one.
    fn heading(&self, line: &str) -> Option<String> {
        let line = line.trim_start();
        if let Some(name) = line.strip_prefix("Doc-tests ") {
            return Some(format!("{} doc", name.replace('_', "-")));
        }
        let path = line
            .strip_prefix("Running ")?
            .strip_suffix(')')?
            .rsplit_once('(')?
            .1;
        let file = Path::new(path).file_name()?.to_string_lossy().into_owned();
        Some(self.programs.get(&file).map_or(file, Program::title))
    }

    fn close(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let Some(group) = self.groups.last_mut() else {
            return;
        };
        if !self.ended {
            group
                .failed
                .push((group.name.clone(), "ended before its result".into()));
        }
        self.ended = true;
        let (failed, skipped) = (group.failed.len(), group.skipped.len());
        if failed > 0 {
            println!("---- {}", group.name);
            for line in kept {
                println!("{line}");
            }
        }
        if group.passed + failed + skipped > 0 {
            let word = if failed > 0 { "FAILED" } else { "ok" };
            println!(
                "{word:6} {}: {} passed, {failed} failed, {skipped} skipped",
                group.name, group.passed
            );
        }
    }

    fn finish(mut self) -> Vec<Group> {
        self.close();
        self.groups
    }
}

/// The number before `word` in a line such as `ok. 12 passed; 0 failed`.
fn count(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Runs the tests of a group that were left out because they need root, where root can be had.
fn run_as_root(group: &mut Group, program: &Program) {
    let needs_root = |(_, why): &&(String, String)| why.starts_with("needs root");
    let names: Vec<String> = group
        .skipped
        .iter()
        .filter(needs_root)
        .map(|(name, _)| name.clone())
        .collect();
    let as_root = || match (cmd::is_root(), cmd::has_sudo()) {
        (true, _) => Some(Command::new(&program.file)),
        (false, true) => {
            let mut command = Command::new("sudo");
            command.args(["-n", "-E"]).arg(&program.file);
            Some(command)
        }
        (false, false) => None,
    };
    for name in names {
        let Some(mut command) = as_root() else { break };
        println!("as root: {}: {name}", program.title());
        group.skipped.retain(|(skipped, _)| *skipped != name);
        command
            .args(["--ignored", "--exact", &name])
            .current_dir(&program.directory);
        match cmd::run(&mut command) {
            Ok(()) => group.passed += 1,
            Err(why) => group.failed.push((name, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Group> {
        let program = Program {
            package: "net-wire".into(),
            kind: "unit".into(),
            directory: PathBuf::from("/w"),
            file: PathBuf::from("/w/target/debug/deps/net_wire-0123"),
        };
        let programs = BTreeMap::from([("net_wire-0123".to_owned(), program)]);
        let mut reader = Reader::new(&programs);
        text.lines().for_each(|line| reader.line(line));
        reader.finish()
    }

    #[test]
    fn groups_are_named_after_the_crate_and_counted() {
        let groups = read(
            "   Compiling net-wire v0.1.0\n     Running unittests src/lib.rs (target/debug/deps/net_wire-0123)\n\
             \nrunning 3 tests\ntest a::b ... ok\ntest c ... ignored, needs root\ntest d ... ok\n\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             \n   Doc-tests net_wire\n\nrunning 1 test\ntest src/lib.rs - (line 3) ... ok\n\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].name.as_str(), groups[0].passed),
            ("net-wire unit", 2)
        );
        assert_eq!(
            groups[0].skipped,
            [("c".to_owned(), "needs root".to_owned())]
        );
        assert_eq!(
            (groups[1].name.as_str(), groups[1].passed),
            ("net-wire doc", 1)
        );
    }

    #[test]
    fn a_failed_test_and_a_program_that_dies_are_failures() {
        let groups = read(
            "Running tests/main.rs (/elsewhere/main-77)\ntest x ... FAILED\n\
             test result: FAILED. 4 passed; 1 failed; 0 ignored\n\
             Running tests/other.rs (/elsewhere/other-78)\ntest y ... ok\n",
        );
        assert_eq!((groups[0].passed, groups[0].failed.len()), (4, 1));
        assert_eq!(groups[0].failed[0].0, "x");
        assert_eq!(groups[1].failed.len(), 1, "no result line");
    }

    #[test]
    fn packages_are_named_in_either_form_of_identifier() {
        assert_eq!(
            package_name("path+file:///w/crates/net-wire#0.1.0"),
            "net-wire"
        );
        assert_eq!(
            package_name("path+file:///w/benches#net-benches@0.1.0"),
            "net-benches"
        );
    }
}
