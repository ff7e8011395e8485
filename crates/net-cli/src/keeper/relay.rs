//! The control socket, answered by the keeper: it notes what a user may have, and lets the server say
//! what comes of it.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};

use net_manager::control::{Client, ControlError, Handler, Reply, Request};

use super::permits::Permits;
use super::process::Event;
use crate::host::lock;
use crate::usage::UsageError;

/// Hands requests to the server, one at a time.
pub(super) struct Relay {
    /// Gone once an answer was missing: the next to come would be that of another question.
    server: Option<Client>,
    permits: Arc<Mutex<Permits>>,
    events: mpsc::Sender<Event>,
}

impl Relay {
    pub(super) fn new(
        server: UnixStream,
        permits: Arc<Mutex<Permits>>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, UsageError> {
        Ok(Self {
            server: Some(Client::over(server).map_err(UsageError::new)?),
            permits,
            events,
        })
    }

    fn ask(&mut self, request: &Request) -> Reply {
        let Some(client) = &mut self.server else {
            return Reply::Error("the serving process does not answer".to_owned());
        };
        match client.ask(request) {
            Ok(reply) => reply,
            Err(ControlError::Refused(why)) => Reply::Error(why),
            Err(err) => {
                self.server = None;
                Reply::Error(format!("the serving process: {err}"))
            }
        }
    }
}

impl Handler for Relay {
    fn handle(&mut self, request: Request) -> Reply {
        if request == Request::Stop {
            // Whoever waits for it may have ended.
            let _ = self.events.send(Event::Stop);
            return Reply::Done;
        }
        lock(&self.permits).for_request(&request);
        let reply = self.ask(&request);
        lock(&self.permits).clear();
        reply
    }
}
