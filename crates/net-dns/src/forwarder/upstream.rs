//! The upstream half of the engine: sending a question on, and judging what comes back.
//!
//! An answer is accepted only for a query that is open, from the server it was sent to, with its
//! id and its question (RFC 5452 section 9.1). Anything else is counted and changes nothing, so
//! that a forged answer cannot keep the genuine one out. A question under way ends when
//!
//! - an answer arrives: any code but SERVFAIL, REFUSED and NOTIMP;
//! - every server has failed or given one of those three codes, the last of which is passed on;
//! - its time is up.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Action, Forwarder, MAX_ATTEMPTS, UpstreamQueryId};
use crate::cache::{Body, Key, full_rcode};
use crate::flights::{Attempt, Flight, Waiter};
use crate::message::{HEADER, Header, Layout, flag, put, rcode};
use crate::reply;

/// Answers that do not match before an attempt is taken to be under attack and the question is
/// asked over TCP, where nobody can guess (RFC 5452 section 9.3 speaks of such a reaction).
const MAX_MISMATCHES: u8 = 32;

/// What the header and question of an answer say.
enum Match {
    /// It is not an answer to this query.
    No,
    /// Header only, with an error: servers that could not read the question answer so.
    Bare(u16),
    Yes(Header),
}

impl<T: Clone + PartialEq> Forwarder<T> {
    /// Takes a message that arrived on the socket of `id`, sent by `from`.
    pub fn upstream_answer(
        &mut self,
        id: UpstreamQueryId,
        from: SocketAddr,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        let Some((key, attempt)) = self.flights.find_attempt(id) else {
            self.stats.upstream_unsolicited += 1;
            return;
        };
        let Some(flight) = self.flights.get(&key) else {
            return;
        };
        let matched = match same_server(from, attempt.server) {
            true => compare(message, flight, &attempt),
            false => Match::No,
        };
        let header = match matched {
            Match::No => return self.mismatch(&key, &attempt, now, out),
            Match::Bare(code) => {
                self.stats.upstream_errors += 1;
                let error = bare_error(flight, code);
                return self.attempt_over(&key, attempt.server, Some(error), now, out);
            }
            Match::Yes(header) => header,
        };
        self.upstreams.promote(attempt.server);
        let question_end = flight.question_end;
        let layout = Layout::read(message, &header, question_end);
        if header.flags & flag::TC != 0 && !attempt.tcp {
            return self.truncated(&key, &attempt, message, layout.ok(), now, out);
        }
        let layout = match layout {
            Ok(layout) if header.flags & flag::TC == 0 => layout,
            _ => {
                self.stats.upstream_malformed += 1;
                return self.attempt_over(&key, attempt.server, None, now, out);
            }
        };
        let code = full_rcode(&header, layout.opt.as_ref());
        if matches!(code, rcode::SERVFAIL | rcode::REFUSED | rcode::NOTIMP) {
            self.stats.upstream_errors += 1;
            return self.attempt_over(&key, attempt.server, Some(message.to_vec()), now, out);
        }
        self.stats.upstream_answers += 1;
        let Some(flight) = self.flights.finish(&key, out) else {
            return;
        };
        if let Some(cache_key) = flight.cache_key {
            let limits = self.cache.limits();
            let body = Body::of(
                message,
                &header,
                question_end,
                flight.qtype,
                &layout,
                limits,
            );
            if let Some(body) = body {
                self.stats.cache_stored += 1;
                self.cache.insert(cache_key, flight.owner, body, now);
            }
        }
        self.deliver(flight.waiters, message, &layout, out);
    }

    /// Takes the news that the query `id` cannot be answered any more: the server's port is
    /// closed, the connection failed or ended, no socket could be had. Its socket is closed.
    pub fn upstream_failed(
        &mut self,
        id: UpstreamQueryId,
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        let Some((key, attempt)) = self.flights.find_attempt(id) else {
            self.stats.upstream_unsolicited += 1;
            return;
        };
        self.stats.upstream_failures += 1;
        self.upstreams.demote(attempt.server, now);
        self.flights.forget_attempt(id);
        self.next_or_fail(&key, now, out);
    }

    /// Sends the question to a server: `prefer`, or the one asked least so far, in order.
    pub(super) fn launch(
        &mut self,
        key: &Key,
        prefer: Option<SocketAddr>,
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) -> bool {
        let Some(flight) = self.flights.get(key) else {
            return false;
        };
        if flight.tried.len() >= MAX_ATTEMPTS {
            return false;
        }
        let asked = |server: &SocketAddr| flight.tried.iter().filter(|t| *t == server).count();
        let order = || self.upstreams.order(&flight.name, now);
        let Some(server) = prefer.or_else(|| order().into_iter().min_by_key(asked)) else {
            return false;
        };
        let mut message = flight.message.clone();
        let dns_id = self.ids.next_id();
        put(&mut message, 0, &dns_id.to_be_bytes());
        let timer = now + self.bounds.attempt_timeout;
        let Some(attempt) = self.flights.attempt(key, server, dns_id, timer) else {
            return false;
        };
        let id = attempt.id;
        out.push(match attempt.tcp {
            true => {
                self.stats.upstream_tcp += 1;
                Action::QueryTcp {
                    id,
                    server,
                    message,
                }
            }
            false => {
                self.stats.upstream_udp += 1;
                Action::QueryUdp {
                    id,
                    server,
                    message,
                }
            }
        });
        true
    }

    /// Ends a question without an answer: the last error of a server, or SERVFAIL.
    pub(super) fn fail(&mut self, key: &Key, out: &mut Vec<Action<T>>) {
        let Some(flight) = self.flights.finish(key, out) else {
            return;
        };
        let known = flight.error.as_ref().and_then(|message| {
            let header = Header::read(message)?;
            Some((
                message,
                Layout::read(message, &header, flight.question_end).ok()?,
            ))
        });
        match known {
            Some((message, layout)) => self.deliver(flight.waiters, message, &layout, out),
            None => {
                self.stats.servfail += 1;
                for waiter in flight.waiters {
                    let reply = reply::empty(&waiter.asker, 0, rcode::SERVFAIL);
                    self.send(&waiter.client, waiter.to, &waiter.asker, reply, out);
                }
            }
        }
    }

    /// `server` has said its last word, and it was no answer.
    fn attempt_over(
        &mut self,
        key: &Key,
        server: SocketAddr,
        error: Option<Vec<u8>>,
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        self.flights
            .end_attempts(key, |attempt| attempt.server == server, out);
        if let (Some(flight), Some(error)) = (self.flights.get_mut(key), error) {
            flight.error = Some(error);
        }
        self.next_or_fail(key, now, out);
    }

    /// Asks a server that has not been asked; without one, waits for those that are still to
    /// answer; without those, fails.
    fn next_or_fail(&mut self, key: &Key, now: Duration, out: &mut Vec<Action<T>>) {
        let Some(flight) = self.flights.get(key) else {
            return;
        };
        let waits = !flight.attempts.is_empty();
        let order = self.upstreams.order(&flight.name, now);
        let fresh = order
            .into_iter()
            .find(|server| !flight.tried.contains(server));
        if fresh.is_some() && self.launch(key, fresh, now, out) {
            return;
        }
        if !waits {
            self.fail(key, out);
        }
    }

    fn mismatch(&mut self, key: &Key, attempt: &Attempt, now: Duration, out: &mut Vec<Action<T>>) {
        self.stats.upstream_mismatched += 1;
        let Some(flight) = self.flights.get_mut(key) else {
            return;
        };
        let open = flight
            .attempts
            .iter_mut()
            .find(|open| open.id == attempt.id);
        let Some(open) = open else { return };
        open.mismatches = open.mismatches.saturating_add(1);
        if open.mismatches < MAX_MISMATCHES {
            return;
        }
        if attempt.tcp {
            return self.attempt_over(key, attempt.server, None, now, out);
        }
        self.over_tcp(key, attempt.server, now, out);
    }

    /// A truncated answer: UDP clients get it and ask again over TCP if they want; for clients
    /// that came over TCP the question is asked again over TCP.
    fn truncated(
        &mut self,
        key: &Key,
        attempt: &Attempt,
        message: &[u8],
        layout: Option<Layout>,
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        self.stats.upstream_truncated += 1;
        let waiters = self.flights.take_waiters(key, |waiter| !waiter.tcp);
        match layout {
            Some(layout) => self.deliver(waiters, message, &layout, out),
            // Cut in the middle of a record.
            None => {
                for waiter in waiters {
                    let reply = reply::empty(&waiter.asker, flag::TC, rcode::NOERROR);
                    self.send(&waiter.client, waiter.to, &waiter.asker, reply, out);
                }
            }
        }
        if self
            .flights
            .get(key)
            .is_some_and(|flight| flight.waiters.is_empty())
        {
            self.flights.finish(key, out);
            return;
        }
        self.over_tcp(key, attempt.server, now, out);
    }

    fn over_tcp(&mut self, key: &Key, server: SocketAddr, now: Duration, out: &mut Vec<Action<T>>) {
        self.flights.end_attempts(key, |_| true, out);
        if let Some(flight) = self.flights.get_mut(key) {
            flight.tcp = true;
        }
        if !self.launch(key, Some(server), now, out) {
            self.fail(key, out);
        }
    }

    fn deliver(
        &mut self,
        waiters: Vec<Waiter<T>>,
        message: &[u8],
        layout: &Layout,
        out: &mut Vec<Action<T>>,
    ) {
        for waiter in waiters {
            let reply = reply::pass_on(message, layout, &waiter.asker);
            self.send(&waiter.client, waiter.to, &waiter.asker, reply, out);
        }
    }
}

/// Same address and port; the flow label and, where one side has none, the scope do not matter.
fn same_server(a: SocketAddr, b: SocketAddr) -> bool {
    let scope = |address: SocketAddr| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    a.ip().to_canonical() == b.ip().to_canonical()
        && a.port() == b.port()
        && (scope(a) == scope(b) || scope(a) == 0 || scope(b) == 0)
}

/// Holds an answer against the query it should answer.
///
/// The question is compared byte by byte without regard to case. Length bytes are below 64 and
/// so are no letters; type and class are compared exactly.
fn compare<T>(message: &[u8], flight: &Flight<T>, attempt: &Attempt) -> Match {
    let Some(header) = Header::read(message) else {
        return Match::No;
    };
    let is_answer = header.flags & flag::QR != 0 && header.opcode() == 0;
    if !is_answer || header.id != attempt.dns_id {
        return Match::No;
    }
    let code = header.flags & flag::RCODE;
    if header.counts == [0; 4] && !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) {
        return Match::Bare(code);
    }
    let name_end = flight.question_end - 4;
    let same = |theirs: Option<&[u8]>, ours: Option<&[u8]>| match (theirs, ours) {
        (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
        _ => false,
    };
    let fixed = name_end..flight.question_end;
    let matches = header.counts[0] == 1
        && same(
            message.get(HEADER..name_end),
            flight.message.get(HEADER..name_end),
        )
        && message
            .get(fixed.clone())
            .is_some_and(|theirs| Some(theirs) == flight.message.get(fixed));
    if matches {
        Match::Yes(header)
    } else {
        Match::No
    }
}

/// A header-only error, with the question put back.
fn bare_error<T>(flight: &Flight<T>, code: u16) -> Vec<u8> {
    let flags = Header::read(&flight.message).map_or(0, |header| header.flags);
    let kept = flags & (flag::RD | flag::CD);
    let header = Header {
        id: 0,
        flags: flag::QR | flag::RA | kept | code,
        counts: [1, 0, 0, 0],
    };
    let mut message = header.to_bytes().to_vec();
    message.extend_from_slice(
        flight
            .message
            .get(HEADER..flight.question_end)
            .unwrap_or_default(),
    );
    message
}
