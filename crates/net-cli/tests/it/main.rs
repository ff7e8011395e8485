//! The built program, as far as it can be tried anywhere: what is wrong in one line, its confinement,
//! and a network that is asked while it runs. With namespaces and machines: `cargo xtask e2e`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // The helpers are test code too.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcbox-net"));
    command.stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    program().args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_mistake_is_one_line_and_status_2() {
    for words in [
        &["fly"][..],
        &["up"],
        &["up", "--attach", "tap"],
        &["up", "--engine", "fast", "--vfkit", "/tmp/x"],
        &["up", "--name", "a/b", "--vfkit", "/tmp/x"],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{words:?}");
    }
}

/// Every forbidden thing is refused to a process that has confined itself as the server does.
#[test]
fn a_confined_process_can_do_nothing_else() {
    let output = run(&["__attempts"]);
    let said = text(&output.stdout);
    if said.contains("no Landlock") {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    assert!(said.starts_with("no capability, no file"), "{said}");
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.matches("\nrefused ").count(), 14, "{said}");
}

/// A network with a socket, its directory below `dir`.
struct Network<'a> {
    dir: &'a Path,
    up: Child,
}

impl<'a> Network<'a> {
    fn start(dir: &'a Path) -> Self {
        let mut up = program()
            .args(["up", "--engine", "user", "--name", "lab", "--vfkit"])
            .arg(dir.join("a"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(up.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("ready vfkit:"), "{line}");
        let network = Self { dir, up };
        // What is ready is said before the control socket answers.
        let answers = (0..1000).any(|_| network.ask(&["status"]).status.success());
        assert!(answers, "the network does not answer");
        network
    }

    fn ask(&self, words: &[&str]) -> Output {
        program()
            .args(words)
            .arg("--state-dir")
            .arg(self.dir.join("state"))
            .output()
            .unwrap()
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

#[test]
fn a_network_is_asked_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::start(dir.path());
    let status = text(&network.ask(&["status"]).stdout);
    assert!(status.contains("network lab"), "{status}");
    assert!(status.contains("no capability"), "{status}");
    let attach = format!("qemu-stream:{}", dir.path().join("b").display());
    assert!(network.ask(&["attach", &attach]).status.success());
    assert!(dir.path().join("b").exists());
    let publish = network.ask(&["publish", "127.0.0.1:0:80", "--guest", "guest2"]);
    let published = text(&publish.stdout);
    assert!(published.starts_with("published 127.0.0.1:"), "{published}");
    let refused = network.ask(&["publish", "127.0.0.1:0:80", "--guest", "nobody"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(network.ask(&["detach", "guest2"]).status.success());
    assert!(!dir.path().join("b").exists());
    assert!(network.ask(&["stop"]).status.success());
    assert!(network.up.wait().unwrap().success());
    assert!(!dir.path().join("a").exists());
    assert!(!dir.path().join("state").join("lab").exists());
}

/// A keeper that is killed takes the server with it, and the next one has the name again.
#[test]
fn a_killed_network_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Network::start(dir.path());
    first.up.kill().unwrap();
    first.up.wait().unwrap();
    std::fs::remove_file(dir.path().join("a")).unwrap();
    let second = Network::start(dir.path());
    let refused = run(&[
        "up",
        "--engine",
        "user",
        "--name",
        "lab",
        "--vfkit",
        &dir.path().join("c").display().to_string(),
        "--state-dir",
        &dir.path().join("state").display().to_string(),
    ]);
    assert_eq!(refused.status.code(), Some(2));
    let why = text(&refused.stderr);
    assert!(why.contains(&second.up.id().to_string()), "{why}");
    assert!(!dir.path().join("c").exists());
}
