//! The sockets of the name server: questions to upstream resolvers, and guests that ask over TCP.
//!
//! The engine in `net-dns` decides; this module moves bytes. Every upstream question has a fresh
//! connected socket, so that its source port is the kernel's random choice and datagrams from
//! anybody else never arrive (RFC 5452, section 9.2). A guest's connection arrives as one end of a
//! socket pair whose other end the TCP relay serves. Every socket is non-blocking and has a
//! deadline: a slow or silent peer costs one slot of its own quota and blocks nobody.

mod client;
mod upstream;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Interest, Registry, Token};
use net_dns::{Action, UpstreamQueryId};
use net_gateway::{DnsClient, Gateway, Output};
use net_usernet::ServiceConnection;
use slab::Slab;

use self::client::Client;
use self::upstream::{Upstream, UpstreamEvent};

/// Connections of guests at a time, over all guests.
const MAX_CLIENTS: usize = 256;
/// Messages taken at a time from a resolver that does not answer the question.
const MAX_ANSWERS: usize = 32;

/// One socket.
#[derive(Debug)]
enum Socket {
    Upstream(Upstream),
    Client(Client),
}

/// What a socket's work gives back.
type Work<'a> = (&'a mut Gateway, &'a mut Vec<Output>);

/// All DNS sockets of a network.
#[derive(Debug)]
pub(crate) struct DnsIo {
    registry: Registry,
    token_base: usize,
    sockets: Slab<Socket>,
    by_query: HashMap<UpstreamQueryId, usize>,
    by_connection: HashMap<u64, usize>,
    deadlines: BTreeSet<(Duration, usize)>,
    next_connection: u64,
}

impl DnsIo {
    /// No sockets yet; every token it registers is `token_base` or above.
    pub(crate) fn new(registry: Registry, token_base: usize) -> Self {
        Self {
            registry,
            token_base,
            sockets: Slab::new(),
            by_query: HashMap::new(),
            by_connection: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_connection: 0,
        }
    }

    /// Does what the engine asks for.
    pub(crate) fn execute(&mut self, action: Action<DnsClient>, now: Duration, work: Work<'_>) {
        let (id, opened) = match action {
            Action::QueryUdp {
                id,
                server,
                message,
            } => (id, Upstream::udp(id, server, &message)),
            Action::QueryTcp {
                id,
                server,
                message,
            } => (id, Upstream::tcp(id, server, &message)),
            Action::Cancel { id } => {
                if let Some(key) = self.by_query.get(&id) {
                    self.close(*key);
                }
                return;
            }
            // The gateway answers its clients itself.
            Action::Reply { .. } => return,
        };
        let key = self.sockets.vacant_key();
        let registered = opened.and_then(|mut upstream| {
            upstream.register(&self.registry, self.token(key))?;
            Ok(upstream)
        });
        match registered {
            Ok(upstream) => {
                self.sockets.insert(Socket::Upstream(upstream));
                self.by_query.insert(id, key);
            }
            Err(err) => {
                log::debug!("upstream resolver: {err}");
                work.0.dns_failed(id, now, work.1);
            }
        }
    }

    /// Takes a guest's connection to port 53.
    pub(crate) fn accept(&mut self, connection: ServiceConnection, now: Duration) {
        let port = connection.port;
        let of_port = |socket: &Socket| matches!(socket, Socket::Client(c) if c.port == port);
        let clients = self.by_connection.len();
        let of_this = self
            .sockets
            .iter()
            .filter(|(_, socket)| of_port(socket))
            .count();
        if clients >= MAX_CLIENTS || of_this >= net_dns::tcp::MAX_CONNECTIONS_PER_CLIENT {
            // The one of this guest that has waited longest makes room; a stranger's never does.
            let oldest = self
                .deadlines
                .iter()
                .map(|(_, key)| *key)
                .find(|key| self.sockets.get(*key).is_some_and(of_port));
            match oldest {
                Some(key) => self.close(key),
                None => return,
            }
        }
        let name = self.next_connection;
        self.next_connection += 1;
        let key = self.sockets.vacant_key();
        let opened = Client::new(connection, name, now).and_then(|mut client| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.registry
                .register(&mut client.stream, self.token(key), interest)?;
            Ok(client)
        });
        match opened {
            Ok(client) => {
                self.deadlines.insert((client.deadline, key));
                self.by_connection.insert(name, key);
                self.sockets.insert(Socket::Client(client));
            }
            Err(err) => log::debug!("DNS over TCP: {err}"),
        }
    }

    /// Sends an answer on a guest's connection, if that is still there.
    pub(crate) fn reply(&mut self, connection: u64, message: &[u8], now: Duration, work: Work<'_>) {
        let Some(&key) = self.by_connection.get(&connection) else {
            return;
        };
        self.with_client(key, now, work, |client, now, work| {
            client.reply(message, now, work)
        });
    }

    /// A socket has something to say.
    pub(crate) fn ready(&mut self, event: &Event, now: Duration, work: Work<'_>) {
        let Some(key) = event.token().0.checked_sub(self.token_base) else {
            return;
        };
        match self.sockets.get_mut(key) {
            Some(Socket::Upstream(_)) => self.upstream_ready(key, now, work),
            Some(Socket::Client(_)) => self.with_client(key, now, work, Client::serve),
            None => {}
        }
    }

    fn upstream_ready(&mut self, key: usize, now: Duration, (gateway, out): Work<'_>) {
        for _ in 0..MAX_ANSWERS {
            // The answer may cancel the query, and that closes the socket.
            let Some(Socket::Upstream(upstream)) = self.sockets.get_mut(key) else {
                return;
            };
            let (id, server) = (upstream.id, upstream.server);
            match upstream.advance() {
                UpstreamEvent::Wait => return,
                UpstreamEvent::Message(message) => {
                    gateway.dns_answer(id, server, &message, now, out);
                    if cancels(out, id) {
                        self.close(key);
                        return;
                    }
                }
                UpstreamEvent::Failed => break,
            }
        }
        // Nothing more will come, or more than a resolver that means well would send.
        if let Some(Socket::Upstream(upstream)) = self.sockets.get(key) {
            let id = upstream.id;
            self.close(key);
            gateway.dns_failed(id, now, out);
        }
    }

    /// Lets a client's connection work, and closes it or notes its new deadline.
    fn with_client(
        &mut self,
        key: usize,
        now: Duration,
        mut work: Work<'_>,
        serve: impl FnOnce(&mut Client, Duration, &mut Work<'_>) -> io::Result<()>,
    ) {
        let Some(Socket::Client(client)) = self.sockets.get_mut(key) else {
            return;
        };
        let (before, name) = (client.deadline, client.name);
        let result = serve(client, now, &mut work);
        let (after, finished) = (client.deadline, client.is_finished());
        // Before anything else: an entry that outlives its socket would close the next one in the
        // same slot.
        self.deadlines.remove(&(before, key));
        if result.is_err() || finished {
            self.close(key);
            work.0.dns_connection_closed(name, now, work.1);
        } else {
            self.deadlines.insert((after, key));
        }
    }

    /// When [`DnsIo::on_deadline`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Closes the connections whose time is up.
    pub(crate) fn on_deadline(&mut self, now: Duration, (gateway, out): Work<'_>) {
        while let Some(&(at, key)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(Socket::Client(client)) = self.sockets.get(key) {
                gateway.dns_connection_closed(client.name, now, out);
            }
            self.close(key);
        }
    }

    fn close(&mut self, key: usize) {
        match self.sockets.try_remove(key) {
            Some(Socket::Upstream(mut upstream)) => {
                self.by_query.remove(&upstream.id);
                upstream.deregister(&self.registry);
            }
            Some(Socket::Client(mut client)) => {
                self.by_connection.remove(&client.name);
                self.deadlines.remove(&(client.deadline, key));
                // Closing the descriptor ends the registration too.
                let _ = self.registry.deregister(&mut client.stream);
            }
            None => {}
        }
    }

    fn token(&self, key: usize) -> Token {
        Token(self.token_base + key)
    }
}

/// Whether the engine has just given a query up.
fn cancels(out: &[Output], id: UpstreamQueryId) -> bool {
    out.iter()
        .any(|output| matches!(output, Output::Dns(Action::Cancel { id: it }) if *it == id))
}

#[cfg(test)]
mod tests;
