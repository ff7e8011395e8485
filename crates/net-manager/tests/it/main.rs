//! Networks on the real kernel, in namespaces that each case makes.
//!
//! The program plays three parts: the runner, the host of a case in a network namespace of its own,
//! and a peer of that host (a guest, a router, a server) in another one. Its output is that of the usual
//! runner; a case that cannot run here is `ignored` with the reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod fast;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod matrix;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod runner;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [runner::PEER] => {
            peer::main();
            std::process::ExitCode::SUCCESS
        }
        [runner::CASE, name] => runner::case(name),
        [kernel::VICTIM, directory, mode] => kernel::victim(directory, mode),
        _ => runner::main(&arguments),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
