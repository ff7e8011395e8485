//! What a server that a guest has taken over would try, tried: for `doctor`, and for the tests.
//!
//! The process confines itself as the server does and then attempts one forbidden thing after the
//! other. A door that is open is told as such.

use std::fs::{File, OpenOptions};
use std::io;
use std::process::{Command, ExitCode};

use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::confine;
use crate::output::say;

/// The word in front of what was refused.
pub(crate) const REFUSED: &str = "refused";

/// One forbidden thing, and the way to do it.
type Attempt = (&'static str, fn() -> io::Result<()>);

const ATTEMPTS: [Attempt; 14] = [
    ("read /etc/shadow", || File::open("/etc/shadow").map(drop)),
    ("read /etc/passwd", || File::open("/etc/passwd").map(drop)),
    ("list /", || std::fs::read_dir("/").map(drop)),
    ("write into /tmp", || {
        let mut options = OpenOptions::new();
        let path = format!("/tmp/arcbox-net-{}", std::process::id());
        options.write(true).create_new(true).open(path).map(drop)
    }),
    ("open /dev/net/tun", || {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map(drop)
    }),
    ("run a program", || {
        Command::new("/proc/self/exe")
            .arg("--version")
            .status()
            .map(drop)
    }),
    ("open a packet socket", || {
        Socket::new(Domain::PACKET, Type::RAW, None).map(drop)
    }),
    ("open a raw socket", || {
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).map(drop)
    }),
    ("open a netlink socket", || {
        let netlink = Domain::from(i32::from(rustix::net::AddressFamily::NETLINK.as_raw()));
        Socket::new(netlink, Type::RAW, None).map(drop)
    }),
    // Services of the host believe whoever has this user.
    ("call a service by a Unix stream", || {
        Socket::new(Domain::UNIX, Type::STREAM, None).map(drop)
    }),
    ("call a service by Unix packets", || {
        Socket::new(Domain::UNIX, Type::SEQPACKET, None).map(drop)
    }),
    ("signal the process that started it", || {
        let parent = rustix::process::getppid();
        let parent = parent.ok_or_else(|| io::Error::other("it has no parent"))?;
        Ok(rustix::process::kill_process(parent, Signal::CONT)?)
    }),
    ("change its root", || Ok(rustix::process::chroot("/")?)),
    ("become another user", || {
        let user = rustix::process::getuid();
        Ok(rustix::thread::set_thread_uid(user)?)
    }),
];

/// Confines this process and attempts everything; success if all was refused.
pub(crate) fn attempts() -> ExitCode {
    let confinement = match confine::confine() {
        Ok(confinement) => confinement,
        Err(err) => {
            eprintln!("arcbox-net: {err}");
            return ExitCode::FAILURE;
        }
    };
    say(format_args!("{confinement}"));
    let mut all = true;
    for (what, attempt) in ATTEMPTS {
        match attempt() {
            Ok(()) => {
                all = false;
                say(format_args!("allowed {what}"));
            }
            Err(err) => say(format_args!("{REFUSED} {what}: {err}")),
        }
    }
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What [`attempts`] finds, in a process of its own: the confinement in words, or what is open.
///
/// # Errors
/// What was not refused, or why the process could not be confined.
pub(crate) fn probe() -> Result<String, String> {
    let output = Command::new("/proc/self/exe")
        .arg(crate::ATTEMPTS)
        .output()
        .map_err(|err| err.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let Some(confinement) = lines.next() else {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    };
    let open: Vec<&str> = lines.filter(|line| !line.starts_with(REFUSED)).collect();
    if open.is_empty() && output.status.success() {
        Ok(confinement.to_owned())
    } else {
        Err(format!("{confinement}; but {}", open.join(", ")))
    }
}
