//! `arcbox-net run`: a command on a network of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::child::exit_code;
use crate::host::lock;
use crate::keeper::Keeper;
use crate::options::NetworkOptions;
use crate::place::Place;
use crate::usage::UsageError;

/// Starts the network and the command, and ends with the command's exit status.
pub(crate) fn run(network: NetworkOptions, command: Vec<OsString>) -> Result<ExitCode, UsageError> {
    let keeper = Keeper::new(network, "run", false)?;
    lock(&keeper.host).command = command;
    let mut running = keeper.serve(&[Place::Command], false)?;
    let child = lock(&running.host).namespace.take();
    let mut child = child.ok_or_else(|| UsageError::new("the command's namespace is gone"))?;
    child.go().map_err(UsageError::new)?;
    let status = running.signals().wait_for(&mut child);
    running.end();
    Ok(exit_code(status.map_err(|err| {
        UsageError::new(format!("wait for the command: {err}"))
    })?))
}
