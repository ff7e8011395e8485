//! The program `arcbox-net`: networks for virtual machines, containers and commands.
//!
//! | module | its job |
//! |---|---|
//! | `args`, `file`, `usage` | what was asked for, and what is wrong with it |
//! | `network` | from options to a running network |
//! | `vmnet` | an interface of vmnet.framework in place of the gateway |
//! | `run`, `qemu`, `up`, `demo`, `doctor` | one command each |
//! | `child` | child processes: signals passed on, exit status handed through |
//! | `log` | messages on standard error |
//!
//! Exit status: that of the command for `run` and `qemu`; 0 for success; 1 for a failure while
//! working; 2 for a request that cannot be: one line on standard error says why.
#![forbid(unsafe_code)]

mod args;
mod child;
#[cfg(target_os = "linux")]
mod demo;
mod doctor;
mod file;
mod log;
mod network;
mod output;
mod qemu;
#[cfg(target_os = "linux")]
mod run;
mod up;
mod usage;
mod vmnet;

use std::process::ExitCode;

use args::Command;
use output::say;
use usage::UsageError;

/// First argument of the program when it starts itself inside a new namespace.
#[cfg(target_os = "linux")]
const NAMESPACE_CHILD: &str = "__namespace-child";
/// First argument of the program when it plays the guest of the demo.
#[cfg(target_os = "linux")]
const DEMO_GUEST: &str = "__demo-guest";

fn main() -> ExitCode {
    log::init();
    let result = args::parse(std::env::args_os()).and_then(dispatch);
    result.unwrap_or_else(|err| {
        eprintln!("arcbox-net: {err}");
        ExitCode::from(2)
    })
}

fn dispatch(command: Command) -> Result<ExitCode, UsageError> {
    match command {
        Command::Help => {
            say(format_args!("{}", usage::USAGE.trim_end()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            say(format_args!("arcbox-net {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        Command::Qemu { network, command } => qemu::qemu(network, command),
        Command::Up {
            file,
            network,
            attach,
        } => up::up(file.as_deref(), network, attach),
        Command::Doctor => Ok(doctor::doctor()),
        #[cfg(target_os = "linux")]
        Command::Run { network, command } => run::run(network, command),
        #[cfg(target_os = "linux")]
        Command::Demo => Ok(demo::demo()),
        #[cfg(target_os = "linux")]
        Command::NamespaceChild { command } => Ok(run::namespace_child(&command)),
        #[cfg(target_os = "linux")]
        Command::DemoGuest { arguments } => Ok(demo::guest(&arguments)),
        #[cfg(not(target_os = "linux"))]
        Command::Run { .. } | Command::Demo => Err(UsageError::new(
            "this command needs Linux network namespaces; on this system use `up` or `qemu`",
        )),
    }
}
