//! `cargo xtask bench counts`: instructions per operation, compared with the committed ones.
//!
//! Time on a shared machine varies by half; instructions do not. callgrind counts them on a
//! processor of its own making, which has AVX2 and no AVX-512, so the figures of one compiler are
//! the same on all x86-64 machines with AVX2. Every operation runs twice with unlike repetitions:
//! the difference holds nothing of what came before the first of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::{Result, apt, cmd};

/// The committed counts: a name and a number on each line.
const FILE: &str = "benches/counts.txt";
const HEADER: &str = "\
# Instructions per operation under callgrind, x86-64 with AVX2, the compiler of rust-toolchain.toml.
# `cargo xtask bench counts` compares, `cargo xtask bench counts --update` writes this.
";
/// How many times an operation runs, the fewer and the more.
const TIMES: [u32; 2] = [1_000, 11_000];
/// What an operation may grow by before the comparison fails, as a factor.
const TOLERANCE: f64 = 1.10;

/// `bench counts [--update] [NAME...]`
pub(crate) fn run(mut args: lexopt::Parser) -> Result<()> {
    let (mut update, mut filters) = (false, Vec::new());
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Long("update") => update = true,
            Value(name) => filters.push(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if update && !filters.is_empty() {
        return Err("--update writes all counts: it takes no names".into());
    }
    if let Err(why) = available() {
        println!("counts: skipped: {why}");
        return Ok(());
    }
    let program = build()?;
    let listed = cmd::output(&mut cmd::at_root(&program))?;
    let wanted = |name: &&str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    let mut counted = Vec::new();
    for name in listed.lines().filter(wanted) {
        counted.push((name.to_owned(), count(&program, name)?));
    }
    if update {
        return write(&counted);
    }
    compare(&counted, &read()?, filters.is_empty())
}

/// Whether instructions can be counted here, and are comparable with the committed counts.
fn available() -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the counts are those of x86-64 Linux".into());
    }
    apt::ensure_program("valgrind", "valgrind")
}

/// Builds the program with the operations and says where it is.
fn build() -> Result<PathBuf> {
    let text = cmd::output(&mut cmd::cargo([
        "bench",
        "-p",
        "net-benches",
        "--bench",
        "counts",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]))?;
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages
        .filter(|m: &serde_json::Value| m["target"]["name"] == "counts")
        .find_map(|m| m["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo built no program called counts".into())
}

/// Instructions of one operation.
fn count(program: &PathBuf, name: &str) -> Result<f64> {
    let [few, many] = TIMES.map(|times| total(program, name, times));
    Ok((many? - few?) as f64 / f64::from(TIMES[1] - TIMES[0]))
}

/// Instructions of the whole program.
fn total(program: &PathBuf, name: &str, times: u32) -> Result<i64> {
    let out = cmd::target_dir().join("counts.out");
    let mut command = cmd::at_root("valgrind");
    command
        .args(["-q", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([name, &times.to_string()]);
    cmd::run(&mut command)?;
    let text = std::fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let _ = std::fs::remove_file(&out);
    text.lines()
        .find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
        .ok_or_else(|| "callgrind wrote no totals".into())
}

fn read() -> Result<BTreeMap<String, f64>> {
    let path = cmd::root().join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{FILE}: {e}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            match (words.next(), words.next().map(str::parse), words.next()) {
                (Some(name), Some(Ok(count)), None) => Ok((name.to_owned(), count)),
                _ => Err(format!("{FILE}: not a name and a number: {line:?}")),
            }
        })
        .collect()
}

fn write(counted: &[(String, f64)]) -> Result<()> {
    let mut text = HEADER.to_owned();
    for (name, count) in counted {
        let _ = writeln!(text, "{name:24} {count:8.1}");
    }
    std::fs::write(cmd::root().join(FILE), text).map_err(|e| format!("{FILE}: {e}"))?;
    println!("counts: {} written to {FILE}", counted.len());
    Ok(())
}

fn compare(
    counted: &[(String, f64)],
    committed: &BTreeMap<String, f64>,
    complete: bool,
) -> Result<()> {
    println!("{:24} {:>8} {:>9}", "instructions", "now", "committed");
    let mut wrong = Vec::new();
    for (name, now) in counted {
        let Some(&before) = committed.get(name) else {
            println!("{name:24} {now:8.1} {:>9}", "-");
            wrong.push(format!("{name} is not in {FILE}"));
            continue;
        };
        let word = match () {
            () if *now > before * TOLERANCE => "grown",
            () if *now * TOLERANCE < before => "shrunk: write it down with --update",
            () => "",
        };
        println!("{name:24} {now:8.1} {before:9.1}  {word}");
        if word == "grown" {
            wrong.push(format!("{name} has grown from {before:.1} to {now:.1}"));
        }
    }
    let gone = |name: &&String| complete && !counted.iter().any(|(n, _)| n == *name);
    wrong.extend(
        committed
            .keys()
            .filter(gone)
            .map(|n| format!("{n} is in {FILE} alone")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; if that is meant: cargo xtask bench counts --update",
        wrong.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_or_is_not_written_down_fails() {
        let committed = parse("# why\na 100.0\nb   40\n").unwrap();
        let counts = |a, b| [("a".to_owned(), a), ("b".to_owned(), b)];
        assert!(compare(&counts(109.0, 20.0), &committed, true).is_ok());
        let why = compare(&counts(111.0, 40.0), &committed, true).unwrap_err();
        assert!(why.contains("a has grown from 100.0 to 111.0"), "{why}");
        assert!(compare(&counts(100.0, 40.0)[..1], &committed, true).is_err());
        assert!(compare(&counts(100.0, 40.0)[..1], &committed, false).is_ok());
        assert!(compare(&[("c".to_owned(), 1.0)], &committed, false).is_err());
        assert!(parse("a\n").is_err() && parse("a 1 2\n").is_err());
    }
}
