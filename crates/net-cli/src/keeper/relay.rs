//! The control socket, answered by the keeper: it notes what a user may have, and lets the server say
//! what comes of it.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use net_manager::control::{Client, ControlError, Handler, Reply, Request};

use super::permits::Permits;
use super::process::Event;
use crate::host::lock;
use crate::usage::UsageError;

/// How long the server may work on a request. Nobody else is answered meanwhile: it is less than what a
/// client has, who can then still end the network.
const PATIENCE: Duration = Duration::from_secs(20);

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
        let server = Client::over(server).map_err(UsageError::new)?;
        Ok(Self {
            server: Some(server.with_patience(PATIENCE)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> (Relay, UnixStream, mpsc::Receiver<Event>) {
        let (near, far) = UnixStream::pair().unwrap();
        let (sender, events) = mpsc::channel();
        let permits = Arc::new(Mutex::new(Permits::new(&[], &[])));
        (Relay::new(near, permits, sender).unwrap(), far, events)
    }

    fn says(reply: &Reply, what: &str) -> bool {
        matches!(reply, Reply::Error(why) if why.contains(what))
    }

    /// Its next answer would be that to this question.
    #[test]
    fn a_server_that_has_not_answered_is_asked_nothing_more() {
        let (mut relay, _far, events) = relay();
        let client = relay.server.take().unwrap();
        relay.server = Some(client.with_patience(Duration::from_millis(50)));
        let attach = Request::Attach {
            place: "tap:vm0".to_owned(),
        };
        let reply = relay.handle(attach);
        assert!(says(&reply, "no answer within 50ms"), "{reply:?}");
        let place = "tap:vm0".parse().unwrap();
        assert!(!lock(&relay.permits).place(&place), "the user has left");
        let reply = relay.handle(Request::Status);
        assert!(says(&reply, "does not answer"), "{reply:?}");
        assert_eq!(relay.handle(Request::Stop), Reply::Done);
        assert!(matches!(events.try_recv(), Ok(Event::Stop)));
    }
}
