//! `arcbox-net up`: serves a network until a signal.

use std::path::Path;
use std::process::ExitCode;

use crate::keeper::Keeper;
use crate::options::NetworkOptions;
use crate::place::Place;
use crate::usage::UsageError;

/// Starts the network, attaches what was asked for, says so, and serves.
pub(crate) fn up(
    file: Option<&Path>,
    network: NetworkOptions,
    places: Vec<Place>,
) -> Result<ExitCode, UsageError> {
    let (network, places) = match file {
        Some(path) => {
            let (from_file, mut from_places) = crate::file::read_file(path)?;
            from_places.extend(places);
            (network.over(from_file), from_places)
        }
        None => (network, places),
    };
    if places.is_empty() && network.name.is_none() {
        return Err(UsageError::new(
            "nothing to attach: give --attach, --qemu-stream, --qemu-dgram, --vfkit, --vz-fd, \
             --bess, --vhost-user, --netns or --tap, or a --name by which to attach later",
        ));
    }
    crate::vmnet::check(&network, &places)?;
    let keeper = Keeper::new(network, "default", true)?;
    Ok(keeper.serve(&places, true)?.wait())
}
