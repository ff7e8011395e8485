//! A place for a guest, as it is written: `KIND:WHERE[,OPTION=VALUE...]`.
//!
//! The same text is the value of `--attach`, a line of the configuration file, what `attach` sends
//! to a running network, and what the server asks the keeper for.

mod port;
mod vhost_user;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use net_manager::PortOptions;

pub(crate) use self::vhost_user::{VhostUserPlace, child_queues};

use crate::usage::UsageError;
use crate::vmnet::VmnetUplink;

/// A place for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// QEMU's `-netdev stream`, listening here.
    QemuStream(PathBuf),
    /// QEMU's `-netdev dgram`, bound here.
    QemuDgram(PathBuf),
    /// vfkit, libkrun, Virtualization.framework: bound here.
    Vfkit(PathBuf),
    /// bess, listening here.
    Bess(PathBuf),
    /// A VMM that speaks vhost-user, here or there.
    VhostUser(VhostUserPlace),
    /// A socket that was inherited under this number, for Virtualization.framework.
    VzFd(i32),
    /// An interface of vmnet.framework, in place of a gateway.
    Vmnet(VmnetUplink),
    /// A network namespace by name or by the number of a process in it.
    Netns(String),
    /// A TAP device that exists, served by this program.
    ServedTap(String),
    /// A TAP device made for a virtual machine that opens it itself.
    Tap(TapPlace),
    /// A macvtap made for a virtual machine.
    Macvtap(MacvtapPlace),
    /// The command that `run` starts, in a namespace of its own.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "no other system has namespaces")
    )]
    Command,
    /// The QEMU that `qemu` starts, by a socket that it inherits.
    Child,
    /// One of the above that this program serves, and what its switch is to do with it.
    OnPort(Box<Place>, PortOptions),
}

/// A TAP device for a virtual machine, and who may open it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TapPlace {
    pub(crate) name: String,
    pub(crate) queues: Option<u16>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) vlan: Option<u16>,
}

#[cfg(target_os = "linux")]
impl TapPlace {
    /// What the kernel is asked for.
    pub(crate) fn port(&self) -> net_manager::kernel::TapPort {
        net_manager::kernel::TapPort {
            name: self.name.clone(),
            queues: self.queues,
            owner: self.owner,
            group: self.group,
            vlan: self.vlan,
        }
    }
}

/// A macvtap for a virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MacvtapPlace {
    pub(crate) parent: String,
    /// Its own name; one is derived from the attachment's where absent.
    pub(crate) name: Option<String>,
    pub(crate) owner: Option<u32>,
}

impl MacvtapPlace {
    /// The interface's name.
    #[cfg(target_os = "linux")]
    pub(crate) fn interface(&self) -> String {
        let derived = || format!("mv-{}", self.parent).chars().take(15).collect();
        self.name.clone().unwrap_or_else(derived)
    }
}

impl Place {
    /// Whether it can be added to a network that runs already.
    pub(crate) fn can_join_later(&self) -> bool {
        !matches!(
            self.parts().0,
            Self::VzFd(_) | Self::Vmnet(_) | Self::Command | Self::Child
        )
    }

    /// Reads what [`Display`](fmt::Display) has written, the two kinds included that no user writes.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn from_wire(text: &str) -> Result<Self, UsageError> {
        match text {
            "command:" => Ok(Self::Command),
            "child:" => Ok(Self::Child),
            _ => text.parse(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QemuStream(path) => write!(f, "qemu-stream:{}", path.display()),
            Self::QemuDgram(path) => write!(f, "qemu-dgram:{}", path.display()),
            Self::Vfkit(path) => write!(f, "vfkit:{}", path.display()),
            Self::Bess(path) => write!(f, "bess:{}", path.display()),
            Self::VhostUser(vhost) => vhost.fmt(f),
            Self::VzFd(fd) => write!(f, "vz-fd:{fd}"),
            Self::Vmnet(uplink) => write!(f, "vmnet:{uplink}"),
            Self::Netns(name) => write!(f, "netns:{name}"),
            Self::ServedTap(name) => write!(f, "served-tap:{name}"),
            Self::Tap(tap) => {
                write!(f, "tap:{}", tap.name)?;
                option(f, "queues", tap.queues)?;
                option(f, "owner", tap.owner)?;
                option(f, "group", tap.group)?;
                option(f, "vlan", tap.vlan)
            }
            Self::Macvtap(macvtap) => {
                write!(f, "macvtap:{}", macvtap.parent)?;
                option(f, "name", macvtap.name.as_ref())?;
                option(f, "owner", macvtap.owner)
            }
            Self::Command => f.write_str("command:"),
            Self::Child => f.write_str("child:"),
            Self::OnPort(place, options) => {
                place.fmt(f)?;
                port::write(f, options)
            }
        }
    }
}

fn option(f: &mut fmt::Formatter<'_>, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    match value {
        Some(value) => write!(f, ",{name}={value}"),
        None => Ok(()),
    }
}

impl FromStr for Place {
    type Err = UsageError;

    /// Reads what a user may ask for: every kind but the two that belong to a command.
    fn from_str(text: &str) -> Result<Self, UsageError> {
        let bad = || {
            UsageError::new(format!(
                "`{text}` is no place for a guest: expected KIND:WHERE such as tap:vm0,queues=2, \
                 with the kinds qemu-stream, qemu-dgram, vfkit, bess, vhost-user, netns, tap, \
                 served-tap, macvtap"
            ))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        let (rest, port) = match kind {
            "qemu-stream" | "qemu-dgram" | "vfkit" | "bess" | "vhost-user" | "netns"
            | "served-tap" => port::take(kind, rest)?,
            _ => (rest.into(), PortOptions::default()),
        };
        let rest = &*rest;
        if rest.is_empty() {
            return Err(bad());
        }
        let place = match kind {
            "qemu-stream" => Ok(Self::QemuStream(rest.into())),
            "qemu-dgram" => Ok(Self::QemuDgram(rest.into())),
            "vfkit" => Ok(Self::Vfkit(rest.into())),
            "bess" => Ok(Self::Bess(rest.into())),
            "vhost-user" => Ok(Self::VhostUser(vhost_user::parse(rest)?)),
            "vz-fd" => Ok(Self::VzFd(inherited_fd(rest)?)),
            "vmnet" => Ok(Self::Vmnet(rest.parse()?)),
            "netns" => Ok(Self::Netns(rest.to_owned())),
            "served-tap" => Ok(Self::ServedTap(interface(rest)?)),
            "tap" => tap(rest),
            "macvtap" => macvtap(rest),
            _ => Err(bad()),
        };
        Ok(place?.on_port(port))
    }
}

fn tap(text: &str) -> Result<Place, UsageError> {
    let (name, options) = split(text);
    let mut tap = TapPlace {
        name: interface(name)?,
        ..TapPlace::default()
    };
    for (key, value) in options {
        match key {
            "queues" => tap.queues = Some(number(key, value, 1, 256)?),
            "owner" => tap.owner = Some(number(key, value, 0, u32::MAX)?),
            "group" => tap.group = Some(number(key, value, 0, u32::MAX)?),
            "vlan" => tap.vlan = Some(number(key, value, 1, 4094)?),
            _ => return Err(unknown("tap", key, "queues, owner, group, vlan")),
        }
    }
    Ok(Place::Tap(tap))
}

fn macvtap(text: &str) -> Result<Place, UsageError> {
    let (parent, options) = split(text);
    let mut macvtap = MacvtapPlace {
        parent: interface(parent)?,
        ..MacvtapPlace::default()
    };
    for (key, value) in options {
        match key {
            "name" => macvtap.name = Some(interface(value)?),
            "owner" => macvtap.owner = Some(number(key, value, 0, u32::MAX)?),
            _ => return Err(unknown("macvtap", key, "name, owner")),
        }
    }
    Ok(Place::Macvtap(macvtap))
}

/// The first word, and the options behind it.
fn split(text: &str) -> (&str, impl Iterator<Item = (&str, &str)>) {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or("");
    let options = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    (first, options)
}

fn unknown(kind: &str, key: &str, known: &str) -> UsageError {
    UsageError::new(format!("{kind}: unknown option `{key}`: expected {known}"))
}

/// A decimal number of this range.
fn number<T>(key: &str, value: &str, least: T, most: T) -> Result<T, UsageError>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let parsed = value.parse().ok();
    parsed
        .filter(|number| (&least..=&most).contains(&number))
        .ok_or_else(|| {
            UsageError::new(format!(
                "{key}: `{value}` is not a number from {least} to {most}"
            ))
        })
}

/// A name that the kernel takes for an interface.
pub(crate) fn interface(name: &str) -> Result<String, UsageError> {
    let usable = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| "/:,=".contains(c) || c.is_whitespace() || c.is_control());
    if usable {
        return Ok(name.to_owned());
    }
    Err(UsageError::new(format!(
        "`{name}` cannot be the name of an interface: 1 to 15 bytes without blank, `/`, `:` or `,`"
    )))
}

/// The number of an inherited descriptor; the first three have other uses.
pub(crate) fn inherited_fd(text: &str) -> Result<i32, UsageError> {
    let parsed = text.parse().ok().filter(|fd| *fd > 2);
    parsed.ok_or_else(|| {
        UsageError::new(format!(
            "vz-fd: `{text}` is not the number of an inherited descriptor such as 3"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_as_it_is_read() {
        for text in [
            "qemu-stream:/run/a b,c.sock",
            "qemu-dgram:relative",
            "vfkit:/x:y",
            "bess:/b",
            "vhost-user:/b",
            "vhost-user:/b c,queues=128",
            "vz-fd:3",
            "vmnet:bridged=en0",
            "netns:blue",
            "netns:17",
            "served-tap:tap0",
            "tap:vm0",
            "tap:vm0,queues=4,owner=1000,group=0,vlan=4094",
            "macvtap:eth0",
            "macvtap:eth0,name=mv0,owner=65534",
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), text);
        }
        for place in [Place::Command, Place::Child] {
            assert_eq!(Place::from_wire(&place.to_string()).unwrap(), place);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("", "no place"),
            ("tap", "no place"),
            ("tap:", "no place"),
            ("star:x", "`star:x`"),
            ("command:", "no place"),
            ("child:x", "no place"),
            ("vz-fd:2", "`2`"),
            ("tap:a/b", "`a/b`"),
            ("tap:sixteen-byte-nam", "`sixteen-byte-nam`"),
            ("tap:..", "`..`"),
            ("tap:x,queues=0", "`0`"),
            ("tap:x,queues=257", "`257`"),
            ("tap:x,queues", "``"),
            ("tap:x,vlan=4095", "`4095`"),
            ("tap:x,owner=-1", "`-1`"),
            ("tap:x,frob=1", "`frob`"),
            ("macvtap:x,queues=1", "`queues`"),
            ("vmnet:star", "`star`"),
        ] {
            let error = text.parse::<Place>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
