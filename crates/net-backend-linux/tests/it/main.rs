//! TAP devices and namespaces on the real kernel, in namespaces that each test makes.
//!
//! The program plays three parts: the test runner, the helper that a namespace needs, and the
//! command that runs inside. Its output is that of the usual runner, a test that cannot run here
//! being `ignored` with the reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod conformance;
#[cfg(target_os = "linux")]
mod gateway;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod queues;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod runner;
#[cfg(target_os = "linux")]
mod settings;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use net_backend_linux::netns::SOCKET_VARIABLE;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os(SOCKET_VARIABLE).is_some() {
        return runner::helper(&arguments);
    }
    if let Some(("inside", rest)) = arguments.split_first().map(|(a, b)| (&a[..], b)) {
        return inside::main(rest);
    }
    runner::main(&arguments)
}

#[cfg(not(target_os = "linux"))]
fn main() {}
