//! The command line: what was asked for, or one line that says what is wrong with it.

mod control;
mod network;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::options::NetworkOptions;
use crate::place::Place;
use crate::usage::UsageError;
pub(crate) use control::{Asked, Which};

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
        /// Over vhost-user, in place of a stream socket.
        vhost_user: bool,
        command: Vec<OsString>,
    },
    /// Serve until a signal.
    Up {
        file: Option<PathBuf>,
        network: NetworkOptions,
        attach: Vec<Place>,
    },
    /// Show everything at work.
    Demo,
    /// Say what this machine can do.
    Doctor,
    /// Ask a running network something.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "no other system has networks to ask")
    )]
    Control { which: Which, asked: Asked },
    /// Undo what dead processes have left behind.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "no other system has networks to ask")
    )]
    Clean { which: Which },
    /// Print the usage, of the program or of one of its commands.
    Help,
    /// Print the version.
    Version,
    /// The program inside a namespace, started by the program itself.
    #[cfg(target_os = "linux")]
    NamespaceChild { command: Vec<OsString> },
    /// The process that carries packets, started by the program itself.
    #[cfg(target_os = "linux")]
    Server,
    /// The process that tries whether its confinement holds, started by the program itself.
    #[cfg(target_os = "linux")]
    Attempts,
    /// The guest of the demo, started by the program itself.
    #[cfg(target_os = "linux")]
    DemoGuest { arguments: Vec<OsString> },
}

/// What can be asked for.
const COMMANDS: &str =
    "run, qemu, up, status, publish, unpublish, attach, detach, stop, clean, demo or doctor";

/// Reads the command line.
pub(crate) fn parse<I>(arguments: I) -> Result<Command, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_iter(arguments);
    let name = match parser.next()? {
        None => {
            return Err(UsageError::new(format!("no command given: {COMMANDS}")));
        }
        Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Short('V') | Long("version")) => return Ok(Command::Version),
        Some(Value(name)) => name,
        Some(other) => return Err(other.unexpected().into()),
    };
    match name.to_str() {
        Some("run") => with_command(parser, None, |network, _, command| {
            polls_shared_memory(&network, false)?;
            Ok(Command::Run { network, command })
        }),
        Some("qemu") => with_command(
            parser,
            Some("vhost-user"),
            |network, vhost_user, command| {
                polls_shared_memory(&network, vhost_user)?;
                Ok(Command::Qemu {
                    network,
                    vhost_user,
                    command,
                })
            },
        ),
        Some("up") => up(parser),
        Some("demo") => nothing_more(parser, Command::Demo),
        Some("doctor") => nothing_more(parser, Command::Doctor),
        Some("help") => Ok(Command::Help),
        Some(name @ ("status" | "publish" | "unpublish" | "attach" | "detach" | "stop")) => {
            control::parse(name, parser)
        }
        Some("clean") => control::clean(parser),
        #[cfg(target_os = "linux")]
        Some(crate::SERVER) => nothing_more(parser, Command::Server),
        #[cfg(target_os = "linux")]
        Some(crate::ATTEMPTS) => nothing_more(parser, Command::Attempts),
        #[cfg(target_os = "linux")]
        Some(crate::NAMESPACE_CHILD) => Ok(Command::NamespaceChild {
            command: parser.raw_args()?.collect(),
        }),
        #[cfg(target_os = "linux")]
        Some(crate::DEMO_GUEST) => Ok(Command::DemoGuest {
            arguments: parser.raw_args()?.collect(),
        }),
        _ => Err(UsageError::new(format!(
            "unknown command `{}`: expected {COMMANDS}",
            name.to_string_lossy()
        ))),
    }
}

/// `[NETWORK OPTIONS] -- CMD [ARG...]`; the `--` may be left out where CMD is no option. One option
/// more, without a value, may be `flag`.
fn with_command(
    mut parser: lexopt::Parser,
    flag: Option<&str>,
    make: impl FnOnce(NetworkOptions, bool, Vec<OsString>) -> Result<Command, UsageError>,
) -> Result<Command, UsageError> {
    let mut network = NetworkOptions::default();
    let mut is_flagged = false;
    let mut command = Vec::new();
    while let Some(argument) = parser.next()? {
        if let Value(first) = argument {
            command.push(first);
            command.extend(parser.raw_args()?);
            break;
        }
        match &argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long(name) if flag == Some(*name) => is_flagged = true,
            _ => {
                let option = spelled(argument)?;
                network::option(&mut network, &option, &mut parser)?;
            }
        }
    }
    if command.is_empty() {
        return Err(UsageError::new("no command to run: put it behind `--`"));
    }
    make(network, is_flagged, command)
}

/// Refuses to poll where there will be no memory to poll.
fn polls_shared_memory(network: &NetworkOptions, is_shared: bool) -> Result<(), UsageError> {
    if (network.poll || network.poll_us.is_some()) && !is_shared {
        return Err(UsageError::new(
            "--poll and --poll-us are for machines whose memory is shared, with --vhost-user",
        ));
    }
    Ok(())
}

fn up(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut network = NetworkOptions::default();
    let mut attach = Vec::new();
    let mut file = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('f') | Long("file") => file = Some(PathBuf::from(parser.value()?)),
            Long(
                kind @ ("qemu-stream" | "qemu-dgram" | "vfkit" | "bess" | "vhost-user" | "vz-fd"
                | "vmnet" | "netns"),
            ) => {
                // Each of these is `--attach` with its kind in front.
                let kind = kind.to_owned();
                let place = text(&mut parser, &format!("--{kind}"))?;
                attach.push(format!("{kind}:{place}").parse()?);
            }
            Long("tap") => {
                let name = text(&mut parser, "--tap")?;
                attach.push(Place::ServedTap(crate::place::interface(&name)?));
            }
            Long("attach") => attach.push(text(&mut parser, "--attach")?.parse()?),
            other => {
                let option = spelled(other)?;
                network::option(&mut network, &option, &mut parser)?;
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
        let line = "qemu --vhost-user --queues 2 --poll-us 20 -- qemu-system-x86_64 --vhost-user";
        let Ok(Command::Qemu {
            network,
            vhost_user,
            command,
        }) = parsed(line)
        else {
            panic!("{line}")
        };
        assert!(vhost_user && network.queues == Some(2) && network.poll_us == Some(20));
        assert_eq!(command, ["qemu-system-x86_64", "--vhost-user"]);
        let line = "up -f net.toml --qemu-stream /a --qemu-stream /b --vfkit /c --netns 17 \
                    --vhost-user /d,queues=2,server=off \
                    --tap tap0 --attach tap:vm0,queues=4 --attach netns:blue";
        let Ok(Command::Up { attach, file, .. }) = parsed(line) else {
            panic!("{line}")
        };
        let attach: Vec<String> = attach.iter().map(ToString::to_string).collect();
        let expected = [
            "qemu-stream:/a",
            "qemu-stream:/b",
            "vfkit:/c",
            "netns:17",
            "vhost-user:/d,server=off,queues=2",
            "served-tap:tap0",
            "tap:vm0,queues=4",
            "netns:blue",
        ];
        assert_eq!(attach, expected);
        assert_eq!(file, Some("net.toml".into()));
        let line = "up --name lab --mode bridge --engine kernel --fallback user --bridge br0 \
                    --take-over eth0 --isolated --queues 4 --poll --reserve web=10.0.2.9 \
                    --uplink tap:out0 --outside 198.51.100.2/24 --via 198.51.100.1 \
                    --state-dir /run/x";
        let Ok(Command::Up { network, .. }) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(network.name.as_deref(), Some("lab"));
        assert_eq!(network.engine, Some(net_manager::Engine::Kernel));
        assert_eq!(network.fallback, Some(net_manager::Engine::User));
        assert_eq!(network.bridge.as_deref(), Some("br0"));
        assert_eq!(network.take_over.as_deref(), Some("eth0"));
        assert_eq!((network.isolated, network.queues), (true, Some(4)));
        assert!(network.poll);
        assert_eq!(network.reserve.len(), 1);
        assert!(network.uplink.is_some() && network.outside.is_some() && network.via.is_some());
        assert_eq!(network.state_dir, Some("/run/x".into()));
    }

    #[test]
    fn a_running_network_is_asked() {
        use net_manager::control::Request;
        let asked = |line: &str| match parsed(line) {
            Ok(Command::Control { which, asked }) => (which.name, asked),
            other => panic!("{line}: {other:?}"),
        };
        let one = |request| Asked::One(request);
        for (line, name, expected) in [
            ("status", None, Asked::Status { json: false }),
            (
                "status lab --json",
                Some("lab"),
                Asked::Status { json: true },
            ),
            (
                "publish 8080:80 --guest web --name lab",
                Some("lab"),
                one(Request::Publish {
                    port: "8080:80".into(),
                    guest: Some("web".into()),
                }),
            ),
            (
                "unpublish 8080/udp",
                None,
                one(Request::Unpublish {
                    port: "8080/udp".into(),
                }),
            ),
            (
                "attach tap:vm0,queues=2",
                None,
                one(Request::Attach {
                    place: "tap:vm0,queues=2".into(),
                }),
            ),
            (
                "detach guest1",
                None,
                one(Request::Detach {
                    name: "guest1".into(),
                }),
            ),
            ("stop lab", Some("lab"), one(Request::Stop)),
        ] {
            let (which, asked) = asked(line);
            assert_eq!((which.as_deref(), asked), (name, expected), "{line}");
        }
        // The network's process has another directory.
        let (_, Asked::One(Request::Attach { place })) = asked("attach vfkit:a.sock") else {
            panic!("not attach")
        };
        assert!(
            place.starts_with("vfkit:/") && place.ends_with("/a.sock"),
            "{place}"
        );
        assert!(matches!(parsed("clean"), Ok(Command::Clean { .. })));
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
            ("run --vhost-user -- true", "--vhost-user"),
            ("run --poll -- true", "--poll"),
            ("qemu --poll-us 9 -- true", "--vhost-user"),
            ("up --poll-us soon", "`soon`"),
            ("up --poll-us 1001", "1001"),
            ("qemu --vhost-user=/x -- true", "--vhost-user"),
            ("up --vhost-user /x,server=maybe", "`maybe`"),
            ("up --vz-fd two", "`two`"),
            ("up --vz-fd 2", "`2`"),
            ("up --vmnet star", "`star`"),
            ("up --attach tap", "`tap`"),
            ("up --tap a/b", "`a/b`"),
            ("up --engine warp", "warp"),
            ("up --queues 0", "`0`"),
            ("up --via here", "`here`"),
            ("status a b", "`b`"),
            ("publish", "missing"),
            ("publish 1:1 2:2", "`2:2`"),
            ("unpublish 1 --guest web", "--guest"),
            ("attach star:x", "`star:x`"),
            ("stop --json", "--json"),
            ("clean a b", "`b`"),
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert!(error.contains(says), "{line}: {error}");
            assert_eq!(error.lines().count(), 1, "{line}");
        }
    }
}
