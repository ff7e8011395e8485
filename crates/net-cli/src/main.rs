//! The program `arcbox-net`: networks for virtual machines, containers and commands.
//!
//! | module | its job |
//! |---|---|
//! | `args`, `file`, `options`, `place`, `usage` | what was asked for, and what is wrong with it |
//! | `up`, `run`, `qemu`, `client`, `demo`, `doctor` | the commands |
//! | `keeper` | the process that was started, and the one that it starts to carry packets |
//! | `server` | serves a network's places and ports, and answers who asks |
//! | `host` | what the server needs of the world: paths, privileges, processes |
//! | `namespace`, `vmnet` | network namespaces; an interface of vmnet.framework |
//! | `state` | the directory of a network: its lock, its control socket |
//! | `child`, `log`, `output` | child processes and signals; messages; standard output |
//!
//! Exit status: that of the command for `run` and `qemu`; 0 for success; 1 for a failure while
//! working; 2 for a request that cannot be: one line on standard error says why.
#![forbid(unsafe_code)]

mod args;
mod child;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod demo;
mod doctor;
mod file;
mod host;
mod keeper;
mod log;
#[cfg(target_os = "linux")]
mod namespace;
mod options;
mod output;
mod place;
mod qemu;
#[cfg(target_os = "linux")]
mod run;
mod server;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod state;
mod storm;
mod subnet6;
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
/// First argument of the program when it carries packets for its parent.
#[cfg(target_os = "linux")]
const SERVER: &str = "__server";
/// First argument of the program when it tries whether its confinement holds.
#[cfg(target_os = "linux")]
const ATTEMPTS: &str = "__attempts";
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
        Command::Qemu {
            network,
            vhost_user,
            command,
        } => qemu::qemu(network, vhost_user, command),
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
        Command::NamespaceChild { command } => Ok(namespace::child(&command)),
        #[cfg(target_os = "linux")]
        Command::DemoGuest { arguments } => Ok(demo::guest(&arguments)),
        #[cfg(target_os = "linux")]
        Command::Control { which, asked } => client::control(which, asked),
        #[cfg(target_os = "linux")]
        Command::Clean { which } => client::clean(&which),
        #[cfg(target_os = "linux")]
        Command::Server => Ok(keeper::server()),
        #[cfg(target_os = "linux")]
        Command::Attempts => Ok(keeper::attempts()),
        #[cfg(not(target_os = "linux"))]
        Command::Control { .. } | Command::Clean { .. } => Err(UsageError::new(
            "this command needs Linux: no network of this system can be asked yet",
        )),
        #[cfg(not(target_os = "linux"))]
        Command::Run { .. } | Command::Demo => Err(UsageError::new(
            "this command needs Linux network namespaces; on this system use `up` or `qemu`",
        )),
    }
}
