//! The commands that ask a running network: the other end of its control socket.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use net_manager::control::{
    Client, ControlError, NetworkReport, Reply, Request, SwitchReport, UplinkReport,
};
use net_manager::kernel::{KernelNetwork, StateDir};

use crate::args::{Asked, Which};
use crate::output::say;
use crate::state;
use crate::usage::UsageError;

/// How long a network may take to end once it has said that it will.
const ENDING: Duration = Duration::from_secs(15);

/// Asks what was asked for, and prints the answer.
pub(crate) fn control(which: Which, asked: Asked) -> Result<ExitCode, UsageError> {
    let state = state::directory(which.state_dir.as_deref())?;
    match asked {
        Asked::Status { json } => status(&state, which.name.as_deref(), json),
        Asked::One(request) => one(&state, which.name.as_deref(), &request),
    }
}

fn status(state: &StateDir, name: Option<&str>, json: bool) -> Result<ExitCode, UsageError> {
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => alive(state)?,
    };
    if names.is_empty() {
        say(format_args!("no network runs"));
    }
    for name in names {
        let reply = ask(&state::control_socket(state, &name), &Request::Status)?;
        match reply {
            Reply::Status(_) if json => {
                let line = reply.to_line();
                say(format_args!(
                    "{}",
                    String::from_utf8_lossy(&line).trim_end()
                ));
            }
            Reply::Status(report) => print(&report),
            _ => return Err(UsageError::new("the network answered something else")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(state: &StateDir, name: Option<&str>, request: &Request) -> Result<ExitCode, UsageError> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => the_only_one(alive(state)?)?,
    };
    let socket = state::control_socket(state, &name);
    match ask(&socket, request)? {
        Reply::Done => {}
        Reply::Published(port) => {
            say(format_args!(
                "published {}/{} to {}",
                port.address, port.protocol, port.guest
            ));
        }
        Reply::Attached(place) => say(format_args!("ready {place}")),
        Reply::Status(report) => print(&report),
        Reply::Error(why) => return Err(UsageError::new(why)),
    }
    if *request == Request::Stop {
        gone(&socket)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(socket: &Path, request: &Request) -> Result<Reply, UsageError> {
    Client::connect(socket)
        .and_then(|mut client| client.ask(request))
        .map_err(UsageError::new)
}

/// The networks that answer.
fn alive(state: &StateDir) -> Result<Vec<String>, UsageError> {
    let names = state.networks()?;
    let answers = |name: &String| {
        !matches!(
            Client::connect(&state::control_socket(state, name)),
            Err(ControlError::NotThere { .. })
        )
    };
    Ok(names.into_iter().filter(answers).collect())
}

fn the_only_one(names: Vec<String>) -> Result<String, UsageError> {
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) if names.is_empty() => Err(UsageError::new("no network runs")),
        Err(names) => Err(UsageError::new(format!(
            "several networks run: say which by --name: {}",
            names.join(", ")
        ))),
    }
}

/// Waits until a network that is ending has ended: its socket goes last.
fn gone(socket: &Path) -> Result<(), UsageError> {
    let start = Instant::now();
    while socket.exists() {
        if start.elapsed() > ENDING {
            return Err(UsageError::new("the network has not ended yet"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The uplink in a line.
fn described(uplink: &UplinkReport) -> String {
    let mut text = format!("uplink {}, outside {}", uplink.device, uplink.outside);
    if let Some(outside6) = uplink.outside6 {
        text.push_str(&format!(" and {outside6}"));
        match uplink.router6 {
            Some(router) => text.push_str(&format!(", IPv6 by {router}")),
            None => text.push_str(", no IPv6 router known"),
        }
    }
    if !uplink.connected {
        text.push_str("; it is away");
    }
    text
}

fn print(report: &NetworkReport) {
    let NetworkReport {
        name,
        pid,
        mode,
        engine,
        why,
        subnet,
        subnet6,
        no_ipv6,
        uplink,
        gateway,
        mtu,
        confinement,
        attachments,
        published,
        guests,
        switch,
    } = report;
    say(format_args!("network {name} (process {pid})"));
    say(format_args!("  mode {mode}, engine {engine}: {why}"));
    match gateway {
        Some(gateway) => say(format_args!("  {subnet}, gateway {gateway}, MTU {mtu}")),
        None => say(format_args!("  addresses from outside, MTU {mtu}")),
    }
    match (subnet6, no_ipv6) {
        (Some(subnet6), None) => say(format_args!("  {subnet6}")),
        (Some(subnet6), Some(why)) => say(format_args!("  {subnet6}, {why}")),
        (None, Some(why)) => say(format_args!("  no IPv6 of its own: {why}")),
        (None, None) => {}
    }
    if let Some(uplink) = uplink {
        say(format_args!("  {}", described(uplink)));
    }
    say(format_args!("  the serving process has {confinement}"));
    for place in attachments {
        let connected = if place.connected {
            "connected"
        } else {
            "waiting"
        };
        say(format_args!("  {connected:<12} {place}"));
    }
    for port in published {
        say(format_args!(
            "  published    {}/{} to {}",
            port.address, port.protocol, port.guest
        ));
    }
    for guest in guests {
        say(format_args!(
            "  {:<12} sent {} frames, {} bytes; got {} frames, {} bytes; lost {}",
            guest.name,
            guest.sent_frames,
            guest.sent_bytes,
            guest.received_frames,
            guest.received_bytes,
            guest.dropped_frames
        ));
    }
    say(format_args!("  {}", switching(switch)));
}

fn switching(switch: &SwitchReport) -> String {
    let (unicast, flooded) = (switch.unicast, switch.flooded);
    let mut text = format!("the switch sent {unicast} frames to one port, flooded {flooded}");
    for (why, count) in &switch.drops {
        text.push_str(&format!(", dropped {count} {why}"));
    }
    text
}

/// `arcbox-net clean`: undoes what dead processes have left, and says what that was.
pub(crate) fn clean(which: &Which) -> Result<ExitCode, UsageError> {
    let state = state::directory(which.state_dir.as_deref())?;
    for recovered in KernelNetwork::recover(&state)? {
        let (network, pid, acts) = (recovered.network, recovered.pid, recovered.acts);
        say(format_args!(
            "network {network} of process {pid}: {acts} things undone"
        ));
    }
    for name in state::clean(&state, which.name.as_deref())? {
        say(format_args!("network {name}: its directory removed"));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_says_why_it_dropped_frames() {
        let report = SwitchReport {
            unicast: 7,
            flooded: 2,
            drops: [("spoofed".to_owned(), 3), ("tagged".to_owned(), 1)].into(),
        };
        assert_eq!(
            switching(&report),
            "the switch sent 7 frames to one port, flooded 2, dropped 3 spoofed, dropped 1 tagged"
        );
    }

    #[test]
    fn one_network_is_meant_and_several_are_named() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(the_only_one(names(&["a"])).unwrap(), "a");
        let none = the_only_one(Vec::new()).unwrap_err().to_string();
        assert!(none.contains("no network"), "{none}");
        let error = the_only_one(names(&["a", "b"])).unwrap_err().to_string();
        assert!(error.contains("a, b"), "{error}");
    }
}
