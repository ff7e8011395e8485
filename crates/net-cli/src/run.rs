//! `arcbox-net run`, and every other use of a network namespace as a guest.
//!
//! The namespace is made by this program itself, started once more (`child` below): leaving one's
//! namespaces needs a process with a single thread. The interface's descriptor comes back to the
//! parent, which serves it; then the helper becomes the user's command.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use ipnetwork::IpNetwork;
use net_backend_linux::netns::{
    self, NamespaceChild, NamespaceSpec, Outcome, SOCKET_VARIABLE, Target, child_setup,
};
use net_backend_linux::{LinuxError, netlink::Netlink, probe};
use net_manager::{AttachOptions, AttachmentInfo, NetworkManager, mac_for};
use net_wire::MacAddr;

use crate::args::NetworkOptions;
use crate::child::{Signals, exit_code, spawn_failure};
use crate::usage::UsageError;

/// The interface's name inside a namespace.
const INTERFACE: &str = "eth0";

/// Starts the network and the command, and ends with the command's exit status.
pub(crate) fn run(network: NetworkOptions, command: Vec<OsString>) -> Result<ExitCode, UsageError> {
    let manager = network.start("run")?;
    let signals = Signals::take()?;
    let spec = namespace_spec(&manager, Target::New, "guest1")?;
    let (mut child, _) = spawn(&manager, helper(&command), &spec, "guest1")?;
    child.go().map_err(UsageError::new)?;
    let status = signals.wait_for(&mut child);
    manager.stop();
    Ok(exit_code(status.map_err(|err| {
        UsageError::new(format!("wait for the command: {err}"))
    })?))
}

/// Puts an interface into an existing namespace.
pub(crate) fn attach_namespace(
    manager: &NetworkManager,
    target: &str,
) -> Result<AttachmentInfo, UsageError> {
    let failed = |err: LinuxError| UsageError::new(format!("netns {target}: {err}"));
    let parsed = target.parse::<Target>().map_err(failed)?;
    let spec = namespace_spec(manager, parsed, target)?;
    let address = spec_address(&spec);
    let attachment = netns::spawn(helper(&[]), &spec).map_err(failed)?;
    let options = AttachOptions {
        name: None,
        mac: spec.mac.map(|mac| mac.0),
        address,
    };
    Ok(manager.attach(attachment.backend, options)?)
}

/// An interface with an address of this network, its route and its name server.
fn namespace_spec(
    manager: &NetworkManager,
    target: Target,
    name: &str,
) -> Result<NamespaceSpec, UsageError> {
    let config = manager.config();
    let IpAddr::V4(address) = manager.allocate_ip()? else {
        return Err(UsageError::new(
            "the network has no IPv4 address for the interface",
        ));
    };
    let gateway = manager.gateway()?;
    let network = IpNetwork::new(address.into(), config.subnet.prefix())
        .map_err(|err| UsageError::new(format!("{address}: {err}")))?;
    Ok(NamespaceSpec {
        target,
        interface: INTERFACE.to_owned(),
        mac: Some(mac_for(&config.name, name)),
        mtu: config.mtu,
        addresses: vec![network],
        gateways: vec![gateway.into()],
        resolv_conf: Some(format!("nameserver {gateway}\nsearch {}\n", config.domain)),
    })
}

fn spec_address(spec: &NamespaceSpec) -> Option<Ipv4Addr> {
    spec.addresses.iter().find_map(|network| match network {
        IpNetwork::V4(network) => Some(network.ip()),
        IpNetwork::V6(_) => None,
    })
}

/// This program again, to become `command` once its namespace is there.
fn helper(command: &[OsString]) -> Command {
    let mut helper = Command::new("/proc/self/exe");
    helper.arg(crate::NAMESPACE_CHILD).args(command);
    helper
}

fn spawn(
    manager: &NetworkManager,
    command: Command,
    spec: &NamespaceSpec,
    name: &str,
) -> Result<(NamespaceChild, AttachmentInfo), UsageError> {
    let attachment = netns::spawn(command, spec).map_err(UsageError::new)?;
    let child = attachment
        .child
        .ok_or_else(|| UsageError::new("the namespace has no process"))?;
    let options = AttachOptions {
        name: Some(name.to_owned()),
        mac: spec.mac.map(|mac| mac.0),
        address: spec_address(spec),
    };
    let info = manager.attach(attachment.backend, options)?;
    Ok((child, info))
}

/// The helper's work: makes the namespace and becomes the command.
pub(crate) fn namespace_child(command: &[OsString]) -> ExitCode {
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
    let mut spec = namespace_spec(manager, Target::New, "guest1").map_err(|err| err.to_string())?;
    let address = spec_address(&spec);
    spec.mac = Some(mac);
    spec.addresses.clear();
    spec.gateways.clear();
    let mut command = helper(&["/proc/self/exe".into(), crate::DEMO_GUEST.into()]);
    command.args(arguments).stdout(output);
    let attachment = netns::spawn(command, &spec).map_err(|err| err.to_string())?;
    let mut child = attachment.child.ok_or("the namespace has no process")?;
    let options = AttachOptions {
        name: None,
        mac: None,
        address,
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
