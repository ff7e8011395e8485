//! One network: starts its worker, asks it for things, stops it.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use mio::Waker;
use net_backend::NetworkBackend;
use net_backend_socket::qemu_dgram::QemuDgram;
use net_backend_socket::qemu_stream::QemuStreamListener;
use net_backend_socket::unixgram::Unixgram;

use crate::config::{NetworkConfig, PublishedPort};
use crate::engine::{Choice, choose};
use crate::error::ManagerError;
use crate::worker::{
    Attach, AttachOptions, AttachmentId, AttachmentInfo, Command, ForwardId, Listener, PublishedAs,
    Reply, Status, Worker,
};

/// One network: made, started, asked and stopped through this handle, from any thread.
///
/// Dropping it stops the network.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    running: Mutex<Option<Running>>,
}

/// What carries a network's frames, besides the worker.
#[derive(Debug, Default)]
pub(crate) struct Carrier {
    /// The way to whoever holds the privileges, of a network in the kernel.
    #[cfg(target_os = "linux")]
    pub(crate) kernel: Option<crate::in_kernel::InKernel>,
}

/// What a started network holds on to.
#[derive(Debug)]
pub(crate) struct Running {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    thread: JoinHandle<()>,
    published: Vec<PublishedAs>,
    choice: Choice,
    /// Goes after the thread: the worker has a port of it open.
    pub(crate) carrier: Carrier,
}

impl Running {
    /// Starts a worker's thread.
    pub(crate) fn begin(
        name: &str,
        choice: Choice,
        (worker, waker, commands): (Worker, Waker, mpsc::Sender<Command>),
        carrier: Carrier,
    ) -> Result<Self, ManagerError> {
        let thread = std::thread::Builder::new()
            .name(format!("net-{name}"))
            .spawn(move || worker.run())
            .map_err(ManagerError::host("start the network's thread"))?;
        Ok(Self {
            commands,
            waker,
            thread,
            published: Vec::new(),
            choice,
            carrier,
        })
    }
}

impl Network {
    /// A network that is not running yet. Takes a [`crate::NetConfig`] or a [`NetworkConfig`];
    /// [`Network::start`] says what in it cannot work.
    pub fn new(config: impl Into<NetworkConfig>) -> Self {
        Self {
            config: config.into(),
            running: Mutex::new(None),
        }
    }

    /// The settings.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Starts the network. Its configured ports are published once the first guest is attached.
    ///
    /// A network in the kernel first undoes what a dead process has left under the same name.
    ///
    /// # Errors
    /// [`ManagerError::CannotHave`] for a mode or an engine that this process cannot have, unless
    /// there is a [`NetworkConfig::fallback`]; [`ManagerError::InUse`] if another process runs a
    /// network in the kernel of this name; [`ManagerError::Config`] for settings that cannot work;
    /// [`ManagerError::AlreadyRunning`].
    pub fn start(&self) -> Result<(), ManagerError> {
        let mut running = self.lock();
        if running.is_some() {
            return Err(ManagerError::AlreadyRunning);
        }
        let choice = choose(&self.config)?;
        let config = choice.apply(&self.config);
        #[cfg(target_os = "linux")]
        if config.is_in_kernel() {
            *running = Some(crate::in_kernel::start(&config, choice)?);
            return Ok(());
        }
        let (commands, receiver) = mpsc::channel();
        let (worker, waker) = Worker::new(&config, receiver)?;
        *running = Some(Running::begin(
            &config.name,
            choice,
            (worker, waker, commands),
            Carrier::default(),
        )?);
        Ok(())
    }

    /// Whether the network runs.
    pub fn is_running(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|running| !running.thread.is_finished())
    }

    /// Stops the network: sockets are closed, devices detached. Stopping twice is no error.
    pub fn stop(&self) {
        let Some(running) = self.lock().take() else {
            return;
        };
        // A worker that has already ended cannot be told; joining it is all that is left.
        let _ = running.commands.send(Command::Stop);
        let _ = running.waker.wake();
        if running.thread.join().is_err() {
            log::error!("the thread of network {} panicked", self.config.name);
        }
        drop(running.carrier);
    }

    /// Keeps an address for a guest that configures itself; no other guest gets it.
    ///
    /// # Errors
    /// [`ManagerError::PoolEmpty`], [`ManagerError::NotRunning`].
    pub fn allocate_ip(&self) -> Result<IpAddr, ManagerError> {
        self.ask(|reply| Command::AllocateIp { reply })
            .map(IpAddr::V4)
    }

    /// Gives an address of [`Network::allocate_ip`] back.
    ///
    /// # Errors
    /// [`ManagerError::NotRunning`].
    pub fn release_ip(&self, ip: Ipv4Addr) -> Result<(), ManagerError> {
        self.tell(Command::ReleaseIp { ip })
    }

    /// The router's address: that of the gateway, or of the host where the network is in the kernel.
    ///
    /// # Errors
    /// [`ManagerError::Config`] for a subnet that cannot work.
    pub fn gateway(&self) -> Result<Ipv4Addr, ManagerError> {
        Ok(net_gateway::Config::new(self.config.subnet)?.ip)
    }

    /// Attaches a device that is already open.
    ///
    /// # Errors
    /// [`ManagerError::PoolEmpty`], [`ManagerError::Backend`], [`ManagerError::NotRunning`].
    pub fn attach(
        &self,
        backend: Box<dyn NetworkBackend>,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        self.attach_any(Attach::Backend(backend), options)
    }

    /// Listens on `path` for QEMU's `-netdev stream`; each connection is a guest.
    ///
    /// # Errors
    /// [`ManagerError::Backend`] where the path exists, is too long or cannot be made.
    pub fn attach_qemu_stream(&self, path: &Path) -> Result<AttachmentInfo, ManagerError> {
        let listener = Listener::QemuStream(QemuStreamListener::bind(path)?);
        self.attach_any(Attach::Listener(listener), AttachOptions::default())
    }

    /// Binds `path` for QEMU's `-netdev dgram`.
    ///
    /// # Errors
    /// As [`Network::attach_qemu_stream`].
    pub fn attach_qemu_dgram(&self, path: &Path) -> Result<AttachmentInfo, ManagerError> {
        self.attach(Box::new(QemuDgram::bind(path)?), AttachOptions::default())
    }

    /// Binds `path` for vfkit, libkrun and Virtualization.framework.
    ///
    /// # Errors
    /// As [`Network::attach_qemu_stream`].
    pub fn attach_vfkit(&self, path: &Path) -> Result<AttachmentInfo, ManagerError> {
        self.attach(Box::new(Unixgram::bind(path)?), AttachOptions::default())
    }

    /// Listens on `path` for bess (`SOCK_SEQPACKET`).
    ///
    /// # Errors
    /// As [`Network::attach_qemu_stream`].
    #[cfg(target_os = "linux")]
    pub fn attach_bess(&self, path: &Path) -> Result<AttachmentInfo, ManagerError> {
        let listener = Listener::Bess(net_backend_socket::bess::BessListener::bind(path)?);
        self.attach_any(Attach::Listener(listener), AttachOptions::default())
    }

    /// Takes the other end of the socket pair that Virtualization.framework has as its file handle,
    /// inherited by this process under the number `fd`.
    ///
    /// # Errors
    /// [`ManagerError::Backend`] if it is no datagram socket of the Unix domain.
    pub fn attach_inherited(&self, fd: RawFd) -> Result<AttachmentInfo, ManagerError> {
        let port = Unixgram::from_inherited(fd)?;
        self.attach(Box::new(port), AttachOptions::default())
    }

    /// Takes an attachment away; its guests lose their link.
    ///
    /// # Errors
    /// [`ManagerError::NotRunning`].
    pub fn detach(&self, id: AttachmentId) -> Result<(), ManagerError> {
        #[cfg(target_os = "linux")]
        self.detach_from_kernel(id)?;
        self.ask(|reply| Command::Detach { id, reply })
    }

    /// Publishes a port of the host.
    ///
    /// # Errors
    /// [`ManagerError::Publish`] where the host refuses, [`ManagerError::NoGuest`].
    pub fn publish(&self, port: PublishedPort) -> Result<PublishedAs, ManagerError> {
        #[cfg(target_os = "linux")]
        if let Some(published) = self.publish_in_kernel(&port)? {
            return Ok(published);
        }
        self.ask(|reply| Command::Publish {
            port,
            socket: None,
            reply,
        })
    }

    /// Takes a published port back. What came in by it ends: whoever is connected loses the connection.
    ///
    /// # Errors
    /// [`ManagerError::NotRunning`].
    pub fn unpublish(&self, id: ForwardId) -> Result<(), ManagerError> {
        #[cfg(target_os = "linux")]
        if self.unpublish_in_kernel(id)? {
            return Ok(());
        }
        self.tell(Command::Unpublish { id })
    }

    /// The ports of [`NetworkConfig::publish`], once they are published.
    pub fn published(&self) -> Vec<PublishedAs> {
        self.lock()
            .as_ref()
            .map(|running| running.published.clone())
            .unwrap_or_default()
    }

    /// What is attached and how much it has carried.
    ///
    /// # Errors
    /// [`ManagerError::NotRunning`].
    pub fn status(&self) -> Result<Status, ManagerError> {
        let mut status = self.ask(|reply| Command::Status { reply })?;
        if let Some(running) = self.lock().as_ref() {
            status.engine = running.choice.engine;
            status.why.clone_from(&running.choice.why);
        }
        Ok(status)
    }

    pub(crate) fn attach_any(
        &self,
        what: Attach,
        options: AttachOptions,
    ) -> Result<AttachmentInfo, ManagerError> {
        let info = self.ask(|reply| Command::Attach {
            what,
            options,
            reply,
        })?;
        self.publish_configured()?;
        Ok(info)
    }

    /// Publishes the configured ports the first time there is a guest for them.
    pub(crate) fn publish_configured(&self) -> Result<(), ManagerError> {
        if self.config.publish.is_empty() || !self.published().is_empty() {
            return Ok(());
        }
        let published: Result<Vec<_>, _> = self
            .config
            .publish
            .iter()
            .map(|port| self.publish(port.clone()))
            .collect();
        if let Some(running) = self.lock().as_mut() {
            running.published = published?;
        }
        Ok(())
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, ManagerError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.tell(command(reply))?;
        answer.recv().map_err(|_| ManagerError::NotRunning)?
    }

    pub(crate) fn tell(&self, command: Command) -> Result<(), ManagerError> {
        let running = self.lock();
        let running = running.as_ref().ok_or(ManagerError::NotRunning)?;
        running
            .commands
            .send(command)
            .map_err(|_| ManagerError::NotRunning)?;
        running
            .waker
            .wake()
            .map_err(ManagerError::host("wake the network's thread"))
    }

    /// The lock guards a few pointers; a panic while it is held cannot leave them half made.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop();
    }
}
