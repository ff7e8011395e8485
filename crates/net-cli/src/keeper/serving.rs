//! The server's process, from its first message to its last.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use net_manager::{OpenUplink, control};

use super::confine;
use super::remote::Remote;
use super::wire::{self, Gift, News, Setup, Wish};
use crate::child::Signals;
use crate::place::Place;
use crate::server::{About, Server};
use crate::usage::UsageError;

/// What [`crate::SERVER`] is for: serves what the keeper says, until it says no more.
pub(crate) fn server() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // The keeper could not be told.
            eprintln!("arcbox-net: the server: {err}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // What ends the keeper's terminal or session is the keeper's to hear; it ends this process.
    let _signals = Signals::take().map_err(|err| io::Error::other(err.to_string()))?;
    let asks = io::stdin().as_fd().try_clone_to_owned()?;
    let gone = || io::Error::other("the keeper is gone");
    let (first, descriptors) = wire::receive(&asks)?.ok_or_else(gone)?;
    let News::Setup(setup) = first else {
        return Err(io::Error::other("the keeper began with something else"));
    };
    let mut descriptors = descriptors.into_iter();
    let news = descriptors.next().ok_or_else(gone)?;
    let gifts = setup.given.clone().into_iter().zip(descriptors).collect();
    let remote = Remote::new(asks);
    let running = match start(*setup, gifts, remote.clone()) {
        Ok(running) => running,
        Err(err) => {
            remote.tell(&Wish::Failed {
                why: err.to_string(),
            });
            return Ok(());
        }
    };
    while let Some((News::Resolvers(servers), _)) = wire::receive(&news)? {
        if let Err(err) = running.network.set_resolvers(servers) {
            log::warn!("{err}");
        }
    }
    running.stop();
    Ok(())
}

/// What runs until the keeper says no more.
struct Running {
    network: Arc<net_manager::Network>,
    /// The server itself, where nobody asks it anything.
    _server: Option<Server>,
}

impl Running {
    fn stop(self) {
        self.network.stop();
    }
}

fn start(setup: Setup, gifts: Vec<(Gift, OwnedFd)>, remote: Remote) -> Result<Running, UsageError> {
    let (mut options, _) = setup.settings.settings()?;
    options.name = Some(setup.name);
    if options.dns.is_empty() {
        options.dns = setup.resolvers;
    }
    let mut config = options.config("default")?;
    config.engine = setup.engine.parse()?;
    let places: Result<Vec<Place>, _> = setup
        .places
        .iter()
        .map(|place| Place::from_wire(place))
        .collect();
    let mut control = None;
    let (mut service, mut router) = (None, Err(setup.no_ipv6.unwrap_or_default()));
    for (gift, fd) in gifts {
        match gift {
            Gift::Control => control = Some(UnixStream::from(fd)),
            Gift::ServicePort => service = Some(fd),
            Gift::Router(interface) => {
                let socket = net_backend_linux::ra_socket::RaSocket::from_fd(fd, interface)
                    .map_err(UsageError::new)?;
                router = Ok(socket);
            }
            Gift::Uplink(mtu) => {
                if let Some(uplink) = &mut config.uplink {
                    uplink.opened = Some(OpenUplink::new(fd, mtu));
                }
            }
            Gift::Capture => config.capture = Some(Arc::new(fd.into())),
        }
    }
    // The prefix follows from a file that is out of reach from here on, and is the keeper's, too.
    let prefix6 = config.prefix6();
    log::debug!("the network's IPv6 prefix: {prefix6:?}");
    // Every thread that starts from here on is born behind the doors that close now.
    let confinement = if setup.confine {
        confine::confine()?
    } else {
        "none".to_owned()
    };
    let about = About {
        engine: setup.engine,
        why: setup.why,
        confinement,
        pid: setup.pid,
        announce: setup.announce,
    };
    let mut server = Server::new(config, about, Box::new(remote.clone()));
    match service {
        Some(fd) => server.start_in_kernel(fd, router, Arc::new(remote))?,
        None => server.start()?,
    }
    server.open_places(&places?)?;
    let network = server.network();
    let server = match control {
        Some(stream) => {
            answer_from_now_on(stream, server)?;
            None
        }
        None => Some(server),
    };
    Ok(Running {
        network,
        _server: server,
    })
}

/// Leaves what users ask to a thread, which ends with the keeper or with this process.
fn answer_from_now_on(stream: UnixStream, mut server: Server) -> Result<(), UsageError> {
    let answering = move || {
        if let Err(err) = control::answer(stream, &mut server) {
            log::error!("the keeper's questions: {err}");
        }
    };
    let thread = std::thread::Builder::new().name("control".to_owned());
    thread
        .spawn(answering)
        .map_err(|err| UsageError::new(format!("cannot start a thread: {err}")))?;
    Ok(())
}
