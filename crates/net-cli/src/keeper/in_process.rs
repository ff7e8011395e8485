//! The whole network in one process, on systems where there are no doors to close.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use crate::child::Signals;
use crate::host::local::Local;
use crate::options::NetworkOptions;
use crate::place::Place;
use crate::server::{About, Server};
use crate::usage::UsageError;

/// A network that is prepared and not served yet.
pub(crate) struct Keeper {
    options: NetworkOptions,
    name: &'static str,
    signals: Signals,
    /// What is made for places.
    pub(crate) host: Arc<Mutex<Local>>,
}

/// A network that is served.
pub(crate) struct Running {
    server: Server,
    signals: Option<Signals>,
    pub(crate) host: Arc<Mutex<Local>>,
}

impl Keeper {
    /// Prepares the network.
    ///
    /// # Errors
    /// In one line, what could not be had.
    pub(crate) fn new(
        options: NetworkOptions,
        name: &'static str,
        _asked: bool,
    ) -> Result<Self, UsageError> {
        Ok(Self {
            options,
            name,
            signals: Signals::take()?,
            host: Arc::default(),
        })
    }

    /// Serves every place.
    ///
    /// # Errors
    /// In one line, what could not be had. Nothing is left behind then.
    pub(crate) fn serve(self, places: &[Place], announce: bool) -> Result<Running, UsageError> {
        let mut config = self.options.config(self.name)?;
        config.engine = net_manager::Engine::User;
        config.gateway = crate::vmnet::check(&self.options, places)?;
        let about = About {
            engine: "user".to_owned(),
            why: "this system has no other".to_owned(),
            confinement: "every privilege of its user".to_owned(),
            pid: std::process::id(),
            announce,
        };
        let host = Box::new(Arc::clone(&self.host));
        let mut server = Server::new(config, about, host);
        server.start()?;
        server.open_places(places)?;
        Ok(Running {
            server,
            signals: Some(self.signals),
            host: self.host,
        })
    }
}

impl Running {
    /// The signals, for a child to get them.
    pub(crate) fn signals(&mut self) -> Signals {
        self.signals.take().unwrap_or_default()
    }

    /// Serves until a signal.
    pub(crate) fn wait(mut self) -> ExitCode {
        self.signals().wait();
        self.end();
        ExitCode::SUCCESS
    }

    /// Ends the network.
    pub(crate) fn end(self) {
        self.server.network().stop();
    }
}
