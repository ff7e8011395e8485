//! The keeper: the process that was started.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net_manager::control::ControlServer;
use net_manager::kernel::{KernelNetwork, ServedTaps, StateDir};
use net_manager::{Choice, Engine, ManagerError, NetworkConfig, NetworkMode};

use super::grant::grant;
use super::permits::Permits;
use super::relay::Relay;
use super::wire::{self, Answer, Gift, News, Setup, Wish};
use crate::child::Signals;
use crate::file::File;
use crate::host::local::Local;
use crate::host::lock;
use crate::options::NetworkOptions;
use crate::place::Place;
use crate::state::State;
use crate::usage::UsageError;

/// How long the server may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the host's resolvers are looked at.
const RESOLVERS: Duration = Duration::from_secs(2);

/// A network that is prepared and not served yet.
pub(crate) struct Keeper {
    options: NetworkOptions,
    name: String,
    choice: Choice,
    state: State,
    signals: Signals,
    /// What is made for places.
    pub(crate) host: Arc<Mutex<Local>>,
}

/// A network that is served.
pub(crate) struct Running {
    server: Child,
    /// Its end is the server's end.
    news: OwnedFd,
    wishes: Option<JoinHandle<()>>,
    control: Option<ControlServer>,
    permits: Arc<Mutex<Permits>>,
    events: mpsc::Receiver<Event>,
    /// The resolvers that the server knows of; `None` where it was given some.
    resolvers: Option<Vec<std::net::SocketAddr>>,
    signals: Option<Signals>,
    sender: mpsc::Sender<Event>,
    state: State,
    pub(crate) host: Arc<Mutex<Local>>,
}

/// What the keeper waits for.
pub(super) enum Event {
    /// A signal to end.
    Signal,
    /// The control socket was told to end the network.
    Stop,
    /// The server has ended, and nobody had told it to.
    ServerGone,
}

impl Keeper {
    /// Takes the network's name, and what else has to be there before anything is served. A network
    /// that is to be `asked` while it runs has a directory, as one with a name has.
    ///
    /// # Errors
    /// In one line, what could not be had.
    pub(crate) fn new(
        options: NetworkOptions,
        default_name: &str,
        asked: bool,
    ) -> Result<Self, UsageError> {
        let signals = Signals::take()?;
        let mut options = options;
        if !asked && options.mode.is_none() && options.engine.is_none() {
            // Its one guest comes by a descriptor: there is nothing for the kernel to carry.
            options.engine = Some(Engine::User);
        }
        let given = options.name.clone();
        let name = given.as_deref().unwrap_or(default_name).to_owned();
        let config = options.config(&name)?;
        let choice = net_manager::choose(&config)?;
        let config = choice.apply(&config);
        let mut host = Local::default();
        let directory = options.state_dir.as_deref();
        let state = if config.mode != NetworkMode::Nat || choice.engine == Engine::Kernel {
            let directory = crate::state::directory(directory)?;
            host.kernel = Some(Arc::new(KernelNetwork::create(&config, &directory)?));
            State::of_kernel(&directory, &name)
        } else if asked && let Some((directory, taps)) = served_taps(&config, given.is_some())? {
            host.taps = Some(taps);
            State::of_kernel(&directory, &name)
        } else if asked || given.is_some() {
            State::take(directory, given.as_deref(), &name)?
        } else {
            State::default()
        };
        host.sockets = state.sockets();
        options.mode = Some(config.mode);
        (options.bridge, options.take_over) = (config.bridge, config.take_over);
        Ok(Self {
            name,
            signals,
            host: Arc::new(Mutex::new(host)),
            options,
            choice,
            state,
        })
    }

    /// Starts the server and waits until it serves every place.
    ///
    /// # Errors
    /// In one line, what could not be had. Nothing is left behind then.
    pub(crate) fn serve(self, places: &[Place], announce: bool) -> Result<Running, UsageError> {
        let resolvers = self
            .options
            .dns
            .is_empty()
            .then(net_manager::host_resolvers);
        let mut settings = self.options.clone();
        let mut gifts = Vec::new();
        let mut no_ipv6 = None;
        if let Some(path) = settings.pcap.take() {
            let capture = std::fs::File::create(&path).map_err(|err| {
                UsageError::new(format!(
                    "cannot write the capture file {}: {err}",
                    path.display()
                ))
            })?;
            gifts.push((Gift::Capture, OwnedFd::from(capture)));
        }
        if let Some(kernel) = &lock(&self.host).kernel {
            let port = kernel.service_port()?;
            gifts.push((Gift::ServicePort, OwnedFd::from(port.into_file())));
            if let Some((router, interface)) = kernel.router_socket()? {
                gifts.push((Gift::Router(interface), router.into()));
            }
            no_ipv6 = kernel.no_ipv6().map(str::to_owned);
        }
        if let Some(device) = &settings.uplink
            && self.choice.engine == Engine::Fast
        {
            let uplink = device.open()?;
            let copy = uplink.fd().try_clone().map_err(UsageError::new)?;
            gifts.push((Gift::Uplink(uplink.mtu()), copy));
        }
        let mut control = None;
        if let Some(listener) = self.state.bind()? {
            let (ours, theirs) = UnixStream::pair().map_err(UsageError::new)?;
            gifts.push((Gift::Control, theirs.into()));
            control = Some((listener, ours));
        }
        let permits = Permits::new(places, &self.options.publish);
        let setup = Setup {
            settings: File::of(&settings),
            name: self.name.clone(),
            engine: self.choice.engine.to_string(),
            why: self.choice.why.clone(),
            no_ipv6,
            pid: std::process::id(),
            resolvers: resolvers.clone().unwrap_or_default(),
            announce,
            confine: true,
            places: places.iter().map(ToString::to_string).collect(),
            given: gifts.iter().map(|(gift, _)| *gift).collect(),
        };
        let failed = |what: &'static str| {
            move |err: std::io::Error| UsageError::new(format!("cannot {what}: {err}"))
        };
        let (asked, asks) = wire::pair().map_err(failed("make a socket pair"))?;
        let (news, told) = wire::pair().map_err(failed("make a socket pair"))?;
        let server = Command::new("/proc/self/exe")
            .arg(crate::SERVER)
            .stdin(Stdio::from(asks))
            .spawn()
            .map_err(failed("start the server"))?;
        let (sender, events) = mpsc::channel();
        let mut running = Running {
            server,
            news,
            wishes: None,
            control: None,
            permits: Arc::new(Mutex::new(permits)),
            events,
            resolvers,
            signals: Some(self.signals),
            sender,
            state: self.state,
            host: self.host,
        };
        let told = [told];
        let descriptors: Vec<_> = told
            .iter()
            .chain(gifts.iter().map(|(_, fd)| fd))
            .map(AsFd::as_fd)
            .collect();
        let begun = wire::send(&asked, &News::Setup(Box::new(setup)), &descriptors)
            .map_err(failed("tell the server what to serve"));
        drop((told, gifts));
        match begun.and_then(|()| running.until_ready(&asked)) {
            Ok(()) => running.answer_from_now_on(asked, control),
            Err(err) => {
                drop(asked);
                running.end();
                Err(err)
            }
        }
    }
}

impl Running {
    /// Does what the server asks for until it is ready.
    fn until_ready(&mut self, asked: &OwnedFd) -> Result<(), UsageError> {
        loop {
            match wire::receive(asked).map_err(UsageError::new)? {
                None => return Err(UsageError::new("the server ended before it was ready")),
                Some((Wish::Ready, _)) => {
                    return wire::send(asked, &Answer::Done, &[]).map_err(UsageError::new);
                }
                Some((Wish::Failed { why }, _)) => return Err(UsageError::new(why)),
                Some((wish, _)) => {
                    grant(&self.host, &self.permits, wish, asked).map_err(UsageError::new)?;
                }
            }
        }
    }

    /// Leaves the server's wishes to a thread, and those of users to another.
    fn answer_from_now_on(
        mut self,
        asked: OwnedFd,
        control: Option<(UnixListener, UnixStream)>,
    ) -> Result<Self, UsageError> {
        let permits = Arc::clone(&self.permits);
        // What was to be had at the start and was not needed is not to be had later.
        lock(&permits).clear();
        let host = Arc::clone(&self.host);
        let events = self.sender.clone();
        let answering = move || {
            // Nobody may be waiting for the event any more.
            while let Ok(Some((wish, _))) = wire::receive(&asked) {
                if let Err(err) = grant(&host, &permits, wish, &asked) {
                    log::debug!("the server: {err}");
                    break;
                }
            }
            let _ = events.send(Event::ServerGone);
        };
        let thread = std::thread::Builder::new().name("wishes".to_owned());
        match thread.spawn(answering) {
            Ok(thread) => self.wishes = Some(thread),
            Err(err) => {
                self.end();
                return Err(UsageError::new(format!("cannot start a thread: {err}")));
            }
        }
        match control
            .map(|control| self.answer_users(control))
            .transpose()
        {
            Ok(control) => {
                self.control = control;
                Ok(self)
            }
            Err(err) => {
                self.end();
                Err(err)
            }
        }
    }

    /// Answers at the control socket.
    fn answer_users(
        &self,
        (listener, server): (UnixListener, UnixStream),
    ) -> Result<ControlServer, UsageError> {
        let relay = Relay::new(server, Arc::clone(&self.permits), self.sender.clone())?;
        ControlServer::start(listener, relay)
            .map_err(|err| UsageError::new(format!("cannot answer at the control socket: {err}")))
    }

    /// The signals, for a child to get them.
    pub(crate) fn signals(&mut self) -> Signals {
        self.signals.take().unwrap_or_default()
    }

    /// Serves until a signal, or until the control socket says so.
    pub(crate) fn wait(mut self) -> ExitCode {
        let sender = self.sender.clone();
        self.signals().each(move |_| {
            // The first one is enough; nobody waits for a second.
            let _ = sender.send(Event::Signal);
        });
        loop {
            let event = if self.resolvers.is_some() {
                self.events.recv_timeout(RESOLVERS)
            } else {
                self.events.recv().map_err(Into::into)
            };
            match event {
                Ok(Event::Signal | Event::Stop) => {
                    self.end();
                    return ExitCode::SUCCESS;
                }
                Ok(Event::ServerGone) => {
                    let status = self.end();
                    eprintln!("arcbox-net: the server has ended by itself: {status}");
                    return ExitCode::FAILURE;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.follow_resolvers(),
                // This side holds a sender as long as it waits.
                Err(mpsc::RecvTimeoutError::Disconnected) => return ExitCode::FAILURE,
            }
        }
    }

    /// Tells the server where questions go, if that has changed.
    fn follow_resolvers(&mut self) {
        let now = net_manager::host_resolvers();
        if let Some(known) = &mut self.resolvers
            && *known != now
        {
            *known = now.clone();
            if let Err(err) = wire::send(&self.news, &News::Resolvers(now), &[]) {
                log::warn!("the server was not told of new resolvers: {err}");
            }
        }
    }

    /// Ends the server, then takes away what was made for it; says how the server ended.
    pub(crate) fn end(self) -> String {
        let Self {
            mut server,
            news,
            wishes,
            control,
            host,
            mut state,
            ..
        } = self;
        drop(news);
        let status = wait_for(&mut server);
        // Behind it, so that nobody who is being answered by it holds this up.
        drop(control);
        if let Some(thread) = wishes
            && thread.join().is_err()
        {
            log::error!("the thread that answers the server panicked");
        }
        // Last of all the socket: whoever waits for the end watches it. The kernel's part takes its
        // directory away, which has to be empty then.
        let (kernel, taps) = {
            let mut host = lock(&host);
            (host.kernel.take(), host.taps.take())
        };
        drop(host);
        if kernel.is_some() || taps.is_some() {
            state.close();
        }
        if let Some(kernel) = kernel {
            destroy(kernel);
        }
        if let Some(taps) = taps {
            tell(taps.destroy());
        }
        status
    }
}

/// What makes TAP devices for a network that the kernel does not carry, where this user may have
/// any. As with [`State::take`], a network without a name of its own can do without.
fn served_taps(
    config: &NetworkConfig,
    named: bool,
) -> Result<Option<(StateDir, ServedTaps)>, UsageError> {
    // A bridge takes the same as a TAP device.
    if net_manager::kernel_can(NetworkMode::Bridge).is_err() {
        return Ok(None);
    }
    let made = StateDir::for_network(config)
        .and_then(|directory| Ok((ServedTaps::create(config, &directory)?, directory)));
    match made {
        Ok((taps, directory)) => Ok(Some((directory, taps))),
        Err(err) if named || config.state_dir.is_some() => Err(err.into()),
        Err(err) => {
            log::info!("the network can make no TAP devices: {err}");
            Ok(None)
        }
    }
}

/// Takes the network out of the kernel. Nobody else can hold it: the thread that did has ended.
fn destroy(kernel: Arc<KernelNetwork>) {
    if let Some(kernel) = Arc::into_inner(kernel) {
        tell(kernel.destroy());
    }
}

fn tell(undone: Result<(), ManagerError>) {
    if let Err(err) = undone {
        eprintln!(
            "arcbox-net: not everything could be undone, `arcbox-net clean` tries again: {err}"
        );
    }
}

/// Waits for the server's end, and brings it about if it takes too long.
fn wait_for(server: &mut Child) -> String {
    let start = Instant::now();
    loop {
        match server.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => {
                log::warn!("the server does not end; it is killed");
                // It may have ended in this moment.
                let _ = server.kill();
                return match server.wait() {
                    Ok(status) => status.to_string(),
                    Err(err) => err.to_string(),
                };
            }
            Err(err) => return err.to_string(),
        }
    }
}
