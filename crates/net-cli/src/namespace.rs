//! Network namespaces as guests, from the keeper's side.
//!
//! A namespace is made, or entered, by this program itself, started once more (`child` below):
//! leaving one's namespaces needs a process with a single thread. The interface's descriptor comes
//! back, to be served; then the helper becomes the user's command.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use ipnetwork::IpNetwork;
use net_backend_linux::netns::{
    self, DeviceName, NamespaceChild, NamespaceSpec, Outcome, Prepared, SOCKET_VARIABLE, Target,
    child_setup,
};
use net_backend_linux::{LinuxError, netlink::Netlink, probe};
use net_manager::{AttachOptions, NetworkManager};
use net_wire::MacAddr;

use crate::child::spawn_failure;
use crate::host::{Device, Guest, Opened};
use crate::usage::UsageError;

/// The interface's name inside a namespace.
pub(crate) const INTERFACE: &str = "eth0";

/// Puts an interface into an existing namespace.
pub(crate) fn join(target: &str, guest: &Guest) -> Result<Opened, UsageError> {
    let spec = spec(target.parse().map_err(UsageError::new)?, guest);
    let prepared = netns::prepare(helper(&[]), &spec).map_err(UsageError::new)?;
    Ok(opened(prepared).0)
}

/// Makes a namespace in which `command` runs once it is let go.
pub(crate) fn new(
    command: &[OsString],
    guest: &Guest,
) -> Result<(Opened, NamespaceChild), UsageError> {
    let spec = spec(Target::New, guest);
    let prepared = netns::prepare(helper(command), &spec).map_err(UsageError::new)?;
    let (opened, child) = opened(prepared);
    let child = child.ok_or_else(|| UsageError::new("the namespace has no process"))?;
    Ok((opened, child))
}

fn opened(prepared: Prepared) -> (Opened, Option<NamespaceChild>) {
    let device = match prepared.device {
        DeviceName::PacketSocket => Device::PacketSocket,
        _ => Device::Tap,
    };
    (Opened::Served(device, prepared.fd), prepared.child)
}

/// An interface with the guest's address, its route and its name server.
fn spec(target: Target, guest: &Guest) -> NamespaceSpec {
    let domain = &guest.domain;
    NamespaceSpec {
        target,
        interface: INTERFACE.to_owned(),
        mac: Some(MacAddr(guest.mac)),
        mtu: guest.mtu,
        addresses: [
            guest.address.map(IpNetwork::V4),
            guest.address6.map(IpNetwork::V6),
        ]
        .into_iter()
        .flatten()
        .collect(),
        gateways: guest.gateway.map(Into::into).into_iter().collect(),
        resolv_conf: guest
            .gateway
            .map(|gateway| format!("nameserver {gateway}\nsearch {domain}\n")),
    }
}

/// This program again, to become `command` once its namespace is there.
fn helper(command: &[OsString]) -> Command {
    let mut helper = Command::new("/proc/self/exe");
    helper.arg(crate::NAMESPACE_CHILD).args(command);
    helper
}

/// The helper's work: makes the namespace and becomes the command.
pub(crate) fn child(command: &[OsString]) -> ExitCode {
    match child_setup() {
        Ok(Outcome::Run) => {}
        Ok(_) => return ExitCode::SUCCESS,
        // The parent has been told, and says it.
        Err(_) => return ExitCode::FAILURE,
    }
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::FAILURE;
    };
    let err = Command::new(program)
        .args(arguments)
        .env_remove(SOCKET_VARIABLE)
        .exec();
    spawn_failure(program, &err)
}

/// Starts the demo's guest on an interface that has no address yet.
pub(crate) fn spawn_demo_guest(
    manager: &NetworkManager,
    mac: MacAddr,
    arguments: &[String],
    output: Stdio,
) -> Result<NamespaceChild, String> {
    let text = |err: net_manager::ManagerError| err.to_string();
    let IpAddr::V4(address) = manager.allocate_ip().map_err(text)? else {
        return Err("the network has no IPv4 address for the guest".to_owned());
    };
    let config = manager.config();
    let mut spec = spec(
        Target::New,
        &Guest {
            name: "guest1".to_owned(),
            mac: mac.0,
            address: None,
            address6: None,
            gateway: Some(manager.gateway().map_err(text)?),
            domain: config.domain.clone(),
            mtu: config.mtu,
        },
    );
    spec.gateways.clear();
    let mut command = helper(&["/proc/self/exe".into(), crate::DEMO_GUEST.into()]);
    command.args(arguments).stdout(output);
    let attachment = netns::spawn(command, &spec).map_err(|err| err.to_string())?;
    let mut child = attachment.child.ok_or("the namespace has no process")?;
    let options = AttachOptions {
        address: Some(address),
        ..AttachOptions::default()
    };
    manager
        .attach(attachment.backend, options)
        .map_err(|err| err.to_string())?;
    child.go().map_err(|err| err.to_string())?;
    Ok(child)
}

/// Gives the interface the address that DHCP brought.
pub(crate) fn configure(
    ip: Ipv4Addr,
    prefix: u8,
    router: Option<Ipv4Addr>,
) -> Result<(), LinuxError> {
    let network = IpNetwork::new(ip.into(), prefix)
        .map_err(|err| LinuxError::Invalid(format!("{ip}/{prefix}: {err}")))?;
    let netlink = Netlink::new()?;
    let index = netlink.link(INTERFACE)?.index;
    netlink.add_address(index, network)?;
    match router {
        Some(router) => netlink.add_default_route(index, router.into()),
        None => Ok(()),
    }
}

/// Why this machine refuses a namespace of one's own, if it does.
pub(crate) fn probe() -> Result<(), String> {
    let finding = probe::namespaces();
    if finding.works {
        Ok(())
    } else {
        Err(finding.detail)
    }
}

/// What `doctor` says about namespaces and TAPs.
pub(crate) fn probes() -> Vec<(&'static str, Result<String, String>)> {
    let told = |finding: probe::Finding| {
        let result = if finding.works {
            Ok(finding.detail)
        } else {
            Err(finding.detail)
        };
        (finding.what, result)
    };
    probe::all().into_iter().map(told).collect()
}
