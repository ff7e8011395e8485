//! The helper's side: a fresh process with one thread makes the namespace what it is to be.

use std::fs;
use std::os::fd::OwnedFd;

use super::parent::SOCKET_VARIABLE;
use super::spec::{NamespaceSpec, Target};
use super::wire::{self, DeviceKind};
use super::{join, mounts, user};
use crate::error::Context;
use crate::netlink::Netlink;
use crate::{LinuxError, Result, ioctl, packet_socket, sys, tap};

/// What the helper is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Become the user's command, by `exec`, without [`SOCKET_VARIABLE`] in its environment.
    Run,
    /// Exit with status 0: the parent has what it wanted.
    Done,
}

/// Does the helper's work, in a process that [`spawn`](super::spawn) started.
///
/// To be called before any thread is started. An error has already been told to the parent, which
/// reports it; the helper only has to exit.
///
/// # Errors
/// [`LinuxError::Invalid`] where the process was not started by [`spawn`](super::spawn);
/// [`LinuxError::Host`] for what the kernel refused; [`LinuxError::Helper`] if the parent is gone.
pub fn child_setup() -> Result<Outcome> {
    let number = std::env::var(SOCKET_VARIABLE).ok();
    let socket = number
        .and_then(|number| number.parse().ok())
        .and_then(|number| sys::take_socket(number).ok())
        .ok_or_else(|| LinuxError::Invalid(format!("{SOCKET_VARIABLE} names no socket")))?;
    // Before anything that lasts: a parent that dies now takes the helper with it, and one that
    // is dead already is found out by the socket.
    sys::set_parent_death_signal(libc::SIGKILL).context("ask to die with the parent")?;
    serve(&socket).inspect_err(|error| wire::send_error(&socket, error))
}

fn serve(socket: &OwnedFd) -> Result<Outcome> {
    let gone = || LinuxError::Helper("the parent is gone");
    let (text, _) = wire::receive(socket)?.ok_or_else(gone)?;
    let spec = NamespaceSpec::from_text(&text)?;
    spec.validate()?;
    let is_new = spec.target == Target::New;
    let user = match &spec.target {
        Target::New => Some(user::enter()?),
        Target::Name(name) => join::by_name(name).map(|()| None)?,
        Target::Pid(pid) => join::by_pid(*pid).map(|()| None)?,
    };
    if is_new {
        mounts::make_private()?;
    }
    let (kind, device) = make_device(&spec)?;
    configure(&spec, is_new)?;
    wire::send(socket, kind.announcement(), Some(&device))?;
    // The parent has its own copy; ours must not keep the interface alive in the command.
    drop(device);
    if let Some(user) = user {
        if let Some(text) = &spec.resolv_conf {
            mounts::resolv_conf(text)?;
        }
        mounts::sysfs();
        allow_ping(user);
        // Making a user namespace may have cleared it.
        sys::set_parent_death_signal(libc::SIGKILL).context("ask to die with the parent")?;
    }
    wire::send(socket, "ready", None)?;
    if !is_new {
        return Ok(Outcome::Done);
    }
    match wire::receive(socket)?.ok_or_else(gone)? {
        (text, _) if text == "go" => Ok(Outcome::Run),
        _ => Err(LinuxError::Helper("an unknown message")),
    }
}

/// A TAP device; where `/dev/net/tun` is out of reach, a virtual Ethernet pair.
fn make_device(spec: &NamespaceSpec) -> Result<(DeviceKind, OwnedFd)> {
    let flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR;
    let refusal = match tap::attach(&spec.interface, flags) {
        Ok((fd, _)) => return Ok((DeviceKind::Tap, fd)),
        Err(error) => error,
    };
    let out_of_reach = [
        libc::EACCES,
        libc::EPERM,
        libc::ENOENT,
        libc::ENODEV,
        libc::ENXIO,
    ];
    if !refusal
        .errno()
        .is_some_and(|errno| out_of_reach.contains(&errno))
    {
        return Err(refusal);
    }
    match packet_socket::make_pair(&spec.interface, spec.mtu) {
        Ok(fd) => Ok((DeviceKind::Packet, fd)),
        Err(second) if second.errno() == Some(libc::EEXIST) => {
            Err(second.with_advice("the namespace has an interface of that name already"))
        }
        // The way that is usual is the one to mend; why the other failed is worth a word.
        Err(second) => Err(match refusal {
            LinuxError::Host {
                what,
                errno,
                advice,
            } => LinuxError::Host {
                what,
                errno,
                advice: format!("{advice}; nor can a virtual Ethernet pair be had: {second}")
                    .into(),
            },
            other => other,
        }),
    }
}

fn configure(spec: &NamespaceSpec, is_new: bool) -> Result<()> {
    let netlink = Netlink::new()?;
    if is_new {
        netlink.set_up(netlink.link("lo")?.index)?;
    }
    let index = netlink.link(&spec.interface)?.index;
    if let Some(mac) = spec.mac {
        netlink.set_mac(index, mac)?;
    }
    netlink.set_mtu(index, spec.mtu)?;
    netlink.set_up(index)?;
    for address in &spec.addresses {
        netlink.add_address(index, *address)?;
    }
    for gateway in &spec.gateways {
        netlink.add_default_route(index, *gateway)?;
    }
    Ok(())
}

/// Lets `ping` use its unprivileged kind of socket. Without it `ping` needs CAP_NET_RAW, which the
/// command has unless it drops its privileges.
fn allow_ping(user: user::User) {
    let groups = match user {
        user::User::Same => "0 2147483647",
        user::User::Mapped => "0 0",
    };
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", groups);
}
