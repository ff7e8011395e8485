//! The command line: what was asked for, or one line that says what is wrong with it.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use lexopt::prelude::*;
use net_manager::{NetworkMode, PublishedPort};

use crate::usage::UsageError;
use crate::vmnet::VmnetUplink;

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run a command on a network of its own.
    // Read on every system, so that mistakes are told alike; carried out on Linux only.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Run {
        network: NetworkOptions,
        command: Vec<OsString>,
    },
    /// Run a QEMU with a NIC on a network of its own.
    Qemu {
        network: NetworkOptions,
        command: Vec<OsString>,
    },
    /// Serve until a signal.
    Up {
        file: Option<PathBuf>,
        network: NetworkOptions,
        attach: Vec<AttachOption>,
    },
    /// Show everything at work.
    Demo,
    /// Say what this machine can do.
    Doctor,
    /// Print the usage, of the program or of one of its commands.
    Help,
    /// Print the version.
    Version,
    /// The program inside a namespace, started by the program itself.
    #[cfg(target_os = "linux")]
    NamespaceChild { command: Vec<OsString> },
    /// The guest of the demo, started by the program itself.
    #[cfg(target_os = "linux")]
    DemoGuest { arguments: Vec<OsString> },
}

/// The options every network takes; `None` is "not given".
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct NetworkOptions {
    pub(crate) mode: Option<NetworkMode>,
    pub(crate) subnet: Option<ipnetwork::Ipv4Network>,
    pub(crate) mtu: Option<u16>,
    pub(crate) publish: Vec<PublishedPort>,
    pub(crate) dns: Vec<SocketAddr>,
    pub(crate) domain: Option<String>,
    pub(crate) host_loopback: bool,
    pub(crate) pcap: Option<PathBuf>,
}

/// A place for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttachOption {
    /// QEMU's `-netdev stream`, listening here.
    QemuStream(PathBuf),
    /// QEMU's `-netdev dgram`, bound here.
    QemuDgram(PathBuf),
    /// vfkit, libkrun, Virtualization.framework: bound here.
    Vfkit(PathBuf),
    /// bess, listening here.
    Bess(PathBuf),
    /// A socket that was inherited under this number, for Virtualization.framework.
    VzFd(i32),
    /// An interface of vmnet.framework, in place of a gateway.
    Vmnet(VmnetUplink),
    /// A network namespace by name or by the number of a process in it.
    Netns(String),
}

impl std::fmt::Display for AttachOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::QemuStream(path) => write!(f, "qemu-stream {}", path.display()),
            Self::QemuDgram(path) => write!(f, "qemu-dgram {}", path.display()),
            Self::Vfkit(path) => write!(f, "vfkit {}", path.display()),
            Self::Bess(path) => write!(f, "bess {}", path.display()),
            Self::VzFd(fd) => write!(f, "vz-fd {fd}"),
            Self::Vmnet(uplink) => write!(f, "vmnet {uplink}"),
            Self::Netns(name) => write!(f, "netns {name}"),
        }
    }
}

/// Reads the command line.
pub(crate) fn parse<I>(arguments: I) -> Result<Command, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_iter(arguments);
    let name = match parser.next()? {
        None => {
            return Err(UsageError::new(
                "no command given: run, qemu, up, demo or doctor",
            ));
        }
        Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Short('V') | Long("version")) => return Ok(Command::Version),
        Some(Value(name)) => name,
        Some(other) => return Err(other.unexpected().into()),
    };
    match name.to_str() {
        Some("run") => with_command(parser, |network, command| Command::Run { network, command }),
        Some("qemu") => with_command(parser, |network, command| Command::Qemu {
            network,
            command,
        }),
        Some("up") => up(parser),
        Some("demo") => nothing_more(parser, Command::Demo),
        Some("doctor") => nothing_more(parser, Command::Doctor),
        Some("help") => Ok(Command::Help),
        #[cfg(target_os = "linux")]
        Some(crate::NAMESPACE_CHILD) => Ok(Command::NamespaceChild {
            command: parser.raw_args()?.collect(),
        }),
        #[cfg(target_os = "linux")]
        Some(crate::DEMO_GUEST) => Ok(Command::DemoGuest {
            arguments: parser.raw_args()?.collect(),
        }),
        _ => Err(UsageError::new(format!(
            "unknown command `{}`: expected run, qemu, up, demo or doctor",
            name.to_string_lossy()
        ))),
    }
}

/// `[NETWORK OPTIONS] -- CMD [ARG...]`; the `--` may be left out where CMD is no option.
fn with_command(
    mut parser: lexopt::Parser,
    make: impl FnOnce(NetworkOptions, Vec<OsString>) -> Command,
) -> Result<Command, UsageError> {
    let mut network = NetworkOptions::default();
    let mut command = Vec::new();
    while let Some(argument) = parser.next()? {
        if let Value(first) = argument {
            command.push(first);
            command.extend(parser.raw_args()?);
            break;
        }
        match &argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            _ => {
                let option = spelled(argument)?;
                network.option(&option, &mut parser)?;
            }
        }
    }
    if command.is_empty() {
        return Err(UsageError::new("no command to run: put it behind `--`"));
    }
    Ok(make(network, command))
}

fn up(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut network = NetworkOptions::default();
    let mut attach = Vec::new();
    let mut file = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('f') | Long("file") => file = Some(PathBuf::from(parser.value()?)),
            Long("qemu-stream") => attach.push(AttachOption::QemuStream(parser.value()?.into())),
            Long("qemu-dgram") => attach.push(AttachOption::QemuDgram(parser.value()?.into())),
            Long("vfkit") => attach.push(AttachOption::Vfkit(parser.value()?.into())),
            Long("bess") => attach.push(AttachOption::Bess(parser.value()?.into())),
            Long("vz-fd") => {
                let fd = parser.value()?.string()?;
                attach.push(AttachOption::VzFd(vz_fd(&fd)?));
            }
            Long("vmnet") => {
                attach.push(AttachOption::Vmnet(parser.value()?.string()?.parse()?));
            }
            Long("netns") => attach.push(AttachOption::Netns(parser.value()?.string()?)),
            other => {
                let option = spelled(other)?;
                network.option(&option, &mut parser)?;
            }
        }
    }
    Ok(Command::Up {
        file,
        network,
        attach,
    })
}

fn nothing_more(mut parser: lexopt::Parser, command: Command) -> Result<Command, UsageError> {
    match parser.next()? {
        None => Ok(command),
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(other) => Err(other.unexpected().into()),
    }
}

/// An option as it was written, without its value.
fn spelled(argument: lexopt::Arg<'_>) -> Result<String, UsageError> {
    match argument {
        Long(name) => Ok(format!("--{name}")),
        Short(name) => Ok(format!("-{name}")),
        value @ Value(_) => Err(value.unexpected().into()),
    }
}

impl NetworkOptions {
    /// Takes one network option.
    fn option(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), UsageError> {
        match option {
            "--mode" => self.mode = Some(text(parser, option)?.parse().map_err(UsageError::new)?),
            "--subnet" => self.subnet = Some(subnet(&text(parser, option)?)?),
            "--mtu" => {
                let value = text(parser, option)?;
                let mtu = value.parse().map_err(|_| {
                    UsageError::new(format!("--mtu: `{value}` is not between 576 and 65520"))
                })?;
                self.mtu = Some(mtu);
            }
            "-p" | "--publish" => {
                self.publish
                    .push(text(parser, option)?.parse().map_err(UsageError::new)?);
            }
            "--dns" => {
                self.dns.push(resolver(&text(parser, option)?)?);
                // `--dns ADDR...`: as many addresses as follow.
                while let Some(more) = parser.try_raw_args().and_then(|mut raw| {
                    raw.next_if(|next| next.to_str().is_some_and(|next| resolver(next).is_ok()))
                }) {
                    self.dns.push(resolver(&more.to_string_lossy())?);
                }
            }
            "--domain" => self.domain = Some(text(parser, option)?),
            "--host-loopback" => self.host_loopback = true,
            "--pcap" => self.pcap = Some(parser.value()?.into()),
            _ => return Err(UsageError::new(format!("unknown option `{option}`"))),
        }
        Ok(())
    }
}

/// The value of an option, as text.
fn text(parser: &mut lexopt::Parser, option: &str) -> Result<String, UsageError> {
    let value = parser.value()?;
    value.into_string().map_err(|value| {
        UsageError::new(format!(
            "{option}: `{}` is not text",
            value.to_string_lossy()
        ))
    })
}

/// The number of an inherited descriptor; the first three have other uses.
pub(crate) fn vz_fd(text: &str) -> Result<i32, UsageError> {
    let parsed = text.parse().ok().filter(|fd| *fd > 2);
    parsed.ok_or_else(|| {
        UsageError::new(format!(
            "--vz-fd: `{text}` is not the number of an inherited descriptor such as 3"
        ))
    })
}

/// An IPv4 network with its prefix.
pub(crate) fn subnet(text: &str) -> Result<ipnetwork::Ipv4Network, UsageError> {
    let parsed = text.contains('/').then(|| text.parse().ok()).flatten();
    parsed.ok_or_else(|| {
        UsageError::new(format!(
            "subnet `{text}` is not an IPv4 network such as 10.0.2.0/24"
        ))
    })
}

/// A resolver: an address, or an address and a port.
pub(crate) fn resolver(text: &str) -> Result<SocketAddr, UsageError> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse::<SocketAddr>())
        .map_err(|_| {
            UsageError::new(format!(
                "DNS server `{text}` is not an address such as 192.0.2.53"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(std::iter::once("arcbox-net").chain(line.split_whitespace()))
    }

    #[test]
    fn every_option_is_taken() {
        let line = "run --mode nat --subnet 10.9.0.0/24 --mtu 9000 -p 8080:80 -p 53:53/udp \
                    --dns 192.0.2.1 192.0.2.2 --dns [2001:db8::1]:5353 --domain example \
                    --host-loopback --pcap /tmp/x -- sh -c true --mtu 1";
        let Ok(Command::Run { network, command }) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(network.mtu, Some(9000));
        assert_eq!(network.publish.len(), 2);
        assert_eq!(network.dns.len(), 3);
        assert!(network.host_loopback);
        assert_eq!(command, ["sh", "-c", "true", "--mtu", "1"]);
        let line = "up -f net.toml --qemu-stream /a --qemu-stream /b --vfkit /c --netns 17";
        let Ok(Command::Up { attach, file, .. }) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(attach.len(), 4);
        assert_eq!(file, Some("net.toml".into()));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (line, says) in [
            ("", "no command given"),
            ("walk", "unknown command `walk`"),
            ("up --frob", "--frob"),
            ("run --mtu 99999 -- true", "99999"),
            ("run --mtu", "--mtu"),
            ("run -p 80 -- true", "`80`"),
            ("run --subnet 10.0.0.0 -- true", "10.0.0.0"),
            ("run --mode star -- true", "star"),
            ("run --dns here -- true", "here"),
            ("run", "no command to run"),
            ("demo now", "now"),
            ("up --vz-fd two", "`two`"),
            ("up --vz-fd 2", "`2`"),
            ("up --vmnet star", "`star`"),
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert!(error.contains(says), "{line}: {error}");
            assert_eq!(error.lines().count(), 1, "{line}");
        }
    }
}
