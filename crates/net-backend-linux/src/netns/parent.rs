//! The parent's side: starting the helper, taking the interface, minding the process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use net_backend::NetworkBackend;
use socket2::{Domain, Socket, Type};

use super::spec::{NamespaceSpec, Target};
use super::wire::{self, Answer, DeviceKind};
use crate::error::Context;
use crate::packet_socket::PacketSocket;
use crate::tap::{Tap, TapOptions};
use crate::{LinuxError, Result, sys};

/// The environment variable in which the helper finds the number of its socket.
pub const SOCKET_VARIABLE: &str = "ARCBOX_NET_NETNS_SOCKET";
/// How long the helper may take for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the interface of a namespace hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceName {
    /// A TAP device.
    Tap,
    /// A virtual Ethernet pair with a packet socket, because `/dev/net/tun` cannot be opened.
    PacketSocket,
}

impl DeviceName {
    /// Serves the interface behind `fd`, which [`prepare`] gave, in this process or in one that the
    /// descriptor was handed to.
    ///
    /// # Errors
    /// [`LinuxError::Host`] and [`LinuxError::Invalid`] where `fd` is not such a descriptor.
    pub fn open(self, fd: OwnedFd, options: TapOptions) -> Result<Box<dyn NetworkBackend>> {
        Ok(match self {
            Self::Tap => Box::new(Tap::from_fd(fd, options)?),
            Self::PacketSocket => Box::new(PacketSocket::from_fd(fd, options.mtu, options.mac)?),
        })
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tap => "TAP device",
            Self::PacketSocket => "packet socket",
        })
    }
}

/// A namespace whose interface is ours.
///
/// The descriptor of a TAP device keeps its namespace alive: that the command has ended is told by
/// [`NamespaceChild::pidfd`], not by the interface. What the interface tells is that it was
/// deleted.
#[non_exhaustive]
pub struct Attachment {
    /// The interface, a guest like every other.
    pub backend: Box<dyn NetworkBackend>,
    /// What it is.
    pub device: DeviceName,
    /// The helper, waiting to become the command; `None` where an existing namespace was joined,
    /// because then its work is done.
    pub child: Option<NamespaceChild>,
}

/// Starts `command` as the helper for `spec` and takes the interface it makes.
///
/// `command` is the calling program itself with arguments that make it call
/// [`child_setup`](super::child_setup); its standard streams are those of the user's command
/// later. It has no namespace privileges to give: what it may do is what the caller may.
///
/// The helper is killed when the *thread* that calls this ends (`PR_SET_PDEATHSIG`): call it from
/// one that lives as long as the network.
///
/// # Errors
/// [`LinuxError::Invalid`] for a specification that cannot be; [`LinuxError::Host`] as the helper
/// met it, with what to do; [`LinuxError::Helper`] if it ended or was silent for 10 seconds.
pub fn spawn(command: Command, spec: &NamespaceSpec) -> Result<Attachment> {
    let Prepared { device, fd, child } = prepare(command, spec)?;
    let options = TapOptions {
        mtu: spec.mtu,
        mac: spec.mac,
    };
    Ok(Attachment {
        backend: device.open(fd, options)?,
        device,
        child,
    })
}

/// An interface in a namespace that nobody serves yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// What it is; [`DeviceName::open`] serves it.
    pub device: DeviceName,
    /// Our end of it.
    pub fd: OwnedFd,
    /// As [`Attachment::child`].
    pub child: Option<NamespaceChild>,
}

/// As [`spawn`], for an interface that another process is to serve.
///
/// # Errors
/// As [`spawn`].
pub fn prepare(mut command: Command, spec: &NamespaceSpec) -> Result<Prepared> {
    spec.validate()?;
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)
        .context("make a socket pair for the namespace helper")?;
    ours.set_read_timeout(Some(PATIENCE))
        .context("set the time limit of the namespace helper")?;
    let theirs = OwnedFd::from(theirs);
    sys::inherit(&mut command, theirs.as_fd());
    command.env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string());
    let child = command.spawn().context(format!(
        "start the namespace helper {}",
        command.get_program().to_string_lossy()
    ))?;
    // The helper's end is open in the helper alone, so that its death is heard.
    drop(theirs);
    let pidfd = sys::pidfd_open(child.id()).ok();
    let mut child = NamespaceChild {
        child,
        pidfd,
        socket: Some(ours.into()),
    };
    let (device, fd) = child.set_up(spec)?;
    let child = match spec.target {
        Target::New => Some(child),
        Target::Name(_) | Target::Pid(_) => {
            // Its last words have been heard; from here on it only exits.
            child.socket = None;
            child.wait().context("wait for the namespace helper")?;
            None
        }
    };
    Ok(Prepared { device, fd, child })
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("device", &self.device)
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

/// The helper, and after [`Self::go`] the command it has become.
#[derive(Debug)]
pub struct NamespaceChild {
    child: Child,
    pidfd: Option<OwnedFd>,
    /// There until the helper has become the command.
    socket: Option<OwnedFd>,
}

impl NamespaceChild {
    fn set_up(&mut self, spec: &NamespaceSpec) -> Result<(DeviceName, OwnedFd)> {
        let socket = self.socket()?;
        wire::send(socket, &spec.to_text(), None)?;
        let Answer::Device(kind, fd) = wire::receive_answer(socket)? else {
            return Err(LinuxError::Helper("ready without an interface"));
        };
        let made = match kind {
            DeviceKind::Tap => (DeviceName::Tap, fd),
            DeviceKind::Packet => (DeviceName::PacketSocket, fd),
        };
        match wire::receive_answer(socket)? {
            Answer::Ready => Ok(made),
            Answer::Device(..) => Err(LinuxError::Helper("a second interface")),
        }
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket
            .as_ref()
            .ok_or(LinuxError::Helper("has been let go"))
    }

    /// Lets the helper become the user's command: the interface is set up and somebody serves it.
    ///
    /// # Errors
    /// [`LinuxError::Host`] if the helper is gone, [`LinuxError::Helper`] the second time.
    pub fn go(&mut self) -> Result<()> {
        wire::send(self.socket()?, "go", None)?;
        self.socket = None;
        Ok(())
    }

    /// Process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A descriptor that becomes readable when the process ends, for an event loop; `None` before
    /// Linux 5.3.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// The standard streams, where the command asked for pipes.
    pub fn streams(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal, such as one that this process got and is to pass on.
    ///
    /// # Errors
    /// ESRCH if the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => sys::pidfd_send_signal(pidfd.as_fd(), signal),
            None => sys::kill(&self.child, signal),
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// As [`Child::try_wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for NamespaceChild {
    fn drop(&mut self) {
        // A helper that has not been let go has nothing to lose, and must not stay a zombie.
        // A command that runs is the caller's to end.
        if self.socket.take().is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
