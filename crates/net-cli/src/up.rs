//! `arcbox-net up`: serves a network until a signal.

use std::path::Path;
use std::process::ExitCode;

use crate::args::{AttachOption, NetworkOptions};
use crate::child::Signals;
use crate::network::attach;
use crate::output::say;
use crate::usage::UsageError;

/// Starts the network, attaches what was asked for, says so, and serves.
pub(crate) fn up(
    file: Option<&Path>,
    network: NetworkOptions,
    options: Vec<AttachOption>,
) -> Result<ExitCode, UsageError> {
    let (network, options) = match file {
        Some(path) => {
            let (from_file, mut places) = crate::file::read(path)?;
            places.extend(options);
            (network.over(from_file), places)
        }
        None => (network, options),
    };
    if options.is_empty() {
        return Err(UsageError::new(
            "nothing to attach: give --qemu-stream, --qemu-dgram, --vfkit, --vz-fd, --bess or --netns",
        ));
    }
    let own_gateway = crate::vmnet::check(&network, &options)?;
    let signals = Signals::take()?;
    let manager = network.start_with("default", own_gateway)?;
    for option in &options {
        let info = attach(&manager, option)?;
        if own_gateway {
            let (address, name) = (info.address, info.name);
            say(format_args!("ready {option} address {address} name {name}"));
        } else {
            say(format_args!("ready {option} address by macOS"));
        }
    }
    for port in manager.published() {
        say(format_args!("published {} to {}", port.address, port.guest));
    }
    signals.wait();
    manager.stop();
    Ok(ExitCode::SUCCESS)
}
