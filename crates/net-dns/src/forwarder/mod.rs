//! The engine. This file has its surface: configuration, queries from clients, and time.
//! `upstream` has what happens to answers, `types` what goes in and out.

#[cfg(test)]
mod tests;
mod types;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use types::{Action, ClientId, Origin, Transport, UpstreamQueryId};

use crate::cache::{Cache, Key, Limits};
use crate::config::{Config, ConfigError};
use crate::flights::{Flights, Plan, Waiter};
use crate::local::{HostError, LocalNames};
use crate::message::{Header, flag, rcode};
use crate::name::{Name, NameError};
use crate::query::{Asker, Query, Verdict, judge};
use crate::reply;
use crate::rng::Ids;
use crate::stats::Stats;
use crate::upstreams::Upstreams;

/// Upstream queries sent at most for one question.
pub const MAX_ATTEMPTS: usize = 6;
/// No question waits longer than this, whatever the configuration says.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Shorter attempts would be a flood.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
struct Bounds {
    in_flight: usize,
    waiting: usize,
    waiting_per_client: usize,
    attempt_timeout: Duration,
    query_timeout: Duration,
}

/// The DNS forwarder of one network. See the [crate documentation](crate).
///
/// `T` is what the I/O layer needs to send a reply: an address, a connection, an index. It comes
/// in with a query and goes out with its reply.
#[derive(Debug)]
pub struct Forwarder<T = u64> {
    bounds: Bounds,
    local: LocalNames,
    cache: Cache,
    upstreams: Upstreams,
    flights: Flights<T>,
    ids: Ids,
    stats: Stats,
    /// Makes the keys of queries that are not shared distinct.
    verbatim: u64,
}

impl<T: Clone + PartialEq> Forwarder<T> {
    /// A forwarder with nothing in its cache.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the setting.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let domain = match config.domain {
            Some(name) => match Name::parse(&name) {
                // Everything would be local.
                Ok(domain) if domain == Name::root() => {
                    return Err(ConfigError::Domain {
                        name,
                        cause: NameError::EmptyLabel,
                    });
                }
                Ok(domain) => Some(domain),
                Err(cause) => return Err(ConfigError::Domain { name, cause }),
            },
            None => None,
        };
        for &(address, length) in &config.local_prefixes {
            if length > if address.is_ipv4() { 32 } else { 128 } {
                return Err(ConfigError::Prefix(address, length));
            }
        }
        let local = LocalNames::new(
            domain,
            config.local_prefixes,
            config.max_hosts,
            config.local_ttl,
            config.forward_single_labels,
        );
        Ok(Self {
            bounds: Bounds {
                in_flight: config.in_flight,
                waiting: config.waiting,
                waiting_per_client: config.waiting_per_client,
                attempt_timeout: config.attempt_timeout.max(SHORTEST_ATTEMPT),
                query_timeout: config.query_timeout.min(LONGEST_WAIT),
            },
            local: local.map_err(|cause| ConfigError::Domain {
                name: String::new(),
                cause,
            })?,
            cache: Cache::new(Limits {
                entries: config.cache_entries,
                bytes: config.cache_bytes,
                max_ttl: config.max_ttl.min(i32::MAX as u32),
                max_negative_ttl: config.max_negative_ttl,
            }),
            upstreams: Upstreams::new(config.upstreams, parse_split(config.split)?),
            flights: Flights::new(),
            ids: Ids::new(&config.seed),
            stats: Stats::default(),
            verbatim: 0,
        })
    }

    /// Replaces the servers. What was cached came from the old ones and is forgotten; questions
    /// under way keep the queries already sent and ask the new servers next.
    pub fn set_upstreams(&mut self, servers: Vec<SocketAddr>) {
        if self.upstreams.set_default(servers) {
            self.forget_answers();
        }
    }

    /// Replaces the split suffixes, like [`set_upstreams`](Self::set_upstreams).
    ///
    /// # Errors
    /// [`ConfigError::Suffix`]; then nothing has changed.
    pub fn set_split(&mut self, split: Vec<(String, Vec<SocketAddr>)>) -> Result<(), ConfigError> {
        if self.upstreams.set_split(parse_split(split)?) {
            self.forget_answers();
        }
        Ok(())
    }

    /// What the former servers said, and are still to say, may not hold any more.
    fn forget_answers(&mut self) {
        self.cache.clear();
        self.flights.forget_cache_keys();
    }

    /// Sets the addresses of `gateway` in the local domain. They also answer in reverse.
    ///
    /// # Errors
    /// [`HostError::Full`] when the table of local names has no place.
    pub fn set_gateway(&mut self, addresses: &[IpAddr]) -> Result<(), HostError> {
        self.local.set_gateway(addresses)
    }

    /// Gives a name to addresses, replacing what the name stood for. A single label is a name in
    /// the local domain and answers with and without it; names of several labels, or with a dot
    /// at the end, are taken as they are. At most [`MAX_ADDRESSES`](crate::MAX_ADDRESSES) addresses are kept.
    ///
    /// Whether one guest may take a name that another one has is for the caller to decide.
    ///
    /// # Errors
    /// A [`HostError`]; then nothing has changed.
    pub fn set_host(&mut self, name: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        self.local.set_host(name, addresses)
    }

    /// Forgets a name; says whether it was there.
    pub fn remove_host(&mut self, name: &str) -> bool {
        self.local.remove_host(name)
    }

    /// Takes a message from a client and appends what is to be done to `out`: at most one reply
    /// to this message, now or from a later call.
    ///
    /// `now` is the time since any fixed moment; it never goes back.
    pub fn query(
        &mut self,
        origin: Origin<T>,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        self.stats.queries += 1;
        let (udp, limit) = match origin.transport {
            Transport::Udp { max_payload } => (true, usize::from(max_payload)),
            Transport::Tcp => (false, usize::from(u16::MAX)),
        };
        match judge(message, udp, limit) {
            Verdict::TooShort => self.stats.query_too_short += 1,
            Verdict::Response => self.stats.query_is_response += 1,
            Verdict::Refuse(asker, code) => {
                match code {
                    rcode::NOTIMP => self.stats.query_opcode += 1,
                    rcode::BADVERS => self.stats.query_edns_version += 1,
                    rcode::REFUSED => self.stats.query_refused += 1,
                    _ => self.stats.query_malformed += 1,
                }
                self.refuse(origin, asker, code, out);
            }
            Verdict::Query(query) => self.answer(origin, query, message, now, out),
        }
    }

    fn answer(
        &mut self,
        origin: Origin<T>,
        query: Query,
        message: &[u8],
        now: Duration,
        out: &mut Vec<Action<T>>,
    ) {
        let split = self.upstreams.split_of(&query.question.name);
        if let Some(local) = self.local.answer(&query.question, split) {
            self.stats.local += 1;
            let reply = self.local.message(&local, &query.asker);
            self.send(&origin.client, origin.to, &query.asker, reply, out);
            return;
        }
        let cache_key = query.plain.then(|| cache_key(&query));
        if let Some(key) = &cache_key {
            if let Some(mut hit) = self.cache.get(key, now) {
                match hit.negative {
                    true => self.stats.cache_negative_hits += 1,
                    false => self.stats.cache_hits += 1,
                }
                reply::address(&mut hit.message, &query.asker);
                reply::add_opt(&mut hit.message, query.asker.edns, 0);
                self.send(&origin.client, origin.to, &query.asker, hit.message, out);
                return;
            }
            self.stats.cache_misses += 1;
        }
        let key = self.flight_key(cache_key.as_ref(), &query);
        if let Some(flight) = self.flights.get(&key) {
            let again = |w: &Waiter<T>| {
                w.client == origin.client && w.to == origin.to && w.asker.id == query.asker.id
            };
            if flight.waiters.iter().any(again) {
                self.stats.query_repeated += 1;
                return;
            }
        }
        if let Some(reason) = self.no_room(origin.client, &key) {
            *reason += 1;
            return self.refuse(origin, query.asker, rcode::SERVFAIL, out);
        }
        let tcp = origin.transport == Transport::Tcp;
        let Origin { client, to, .. } = origin;
        if self.flights.get(&key).is_some() {
            self.stats.coalesced += 1;
            self.flights.join(
                &key,
                Waiter {
                    client,
                    to,
                    tcp,
                    asker: query.asker,
                },
            );
            return;
        }
        if self.upstreams.order(&query.question.name, now).is_empty() {
            self.stats.no_upstream += 1;
            let reply = reply::empty(&query.asker, 0, rcode::SERVFAIL);
            return self.send(&client, to, &query.asker, reply, out);
        }
        let plan = Plan {
            message: match query.plain {
                true => plain_message(&query.asker),
                false => message.get(..query.end).unwrap_or_default().to_vec(),
            },
            name: query.question.name,
            qtype: query.question.qtype,
            cache_key,
            question_end: query.question.end,
            give_up_at: now + self.bounds.query_timeout,
        };
        self.flights.start(
            key.clone(),
            plan,
            Waiter {
                client,
                to,
                tcp,
                asker: query.asker,
            },
        );
        if !self.launch(&key, None, now, out) {
            self.fail(&key, out);
        }
    }

    /// The counter to raise when there is no room for one more waiting query.
    fn no_room(&mut self, client: ClientId, key: &Key) -> Option<&mut u64> {
        if self.flights.waiting_of(client) >= self.bounds.waiting_per_client {
            return Some(&mut self.stats.client_quota);
        }
        let new = self.flights.get(key).is_none();
        let full = self.flights.waiting() >= self.bounds.waiting
            || (new && self.flights.len() >= self.bounds.in_flight);
        full.then_some(&mut self.stats.full)
    }

    fn flight_key(&mut self, cache_key: Option<&Key>, query: &Query) -> Key {
        match cache_key {
            // An answer fetched without EDNS may be shorter than one fetched with it.
            Some(key) => {
                let edns = u8::from(query.asker.edns.is_some());
                key.iter().copied().chain([edns]).collect()
            }
            None => {
                self.verbatim += 1;
                let serial = self.verbatim.to_be_bytes();
                cache_key_bytes(query).chain([0xff]).chain(serial).collect()
            }
        }
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do; `None` while nothing is under
    /// way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.flights.next_timer()
    }

    /// Does what is due: asks the next server where one was silent, answers SERVFAIL where time
    /// is up.
    pub fn on_deadline(&mut self, now: Duration, out: &mut Vec<Action<T>>) {
        while let Some(key) = self.flights.due(now) {
            let Some(flight) = self.flights.get(&key) else {
                return;
            };
            let give_up_at = flight.give_up_at;
            if let Some(last) = flight.attempts.last() {
                self.stats.upstream_timeouts += 1;
                self.upstreams.demote(last.server, now);
            }
            if give_up_at <= now {
                self.fail(&key, out);
            } else if !self.launch(&key, None, now, out) {
                // Earlier queries may still be answered.
                self.flights.set_timer(&key, give_up_at);
            }
        }
    }

    /// Forgets the queries of a client that has gone (a guest that disconnected).
    pub fn client_gone(&mut self, client: ClientId, out: &mut Vec<Action<T>>) {
        self.abandon(|waiter| waiter.client == client, out);
    }

    /// Forgets the queries whose replies would go to `to` (a TCP connection that was closed).
    pub fn connection_closed(&mut self, to: &T, out: &mut Vec<Action<T>>) {
        self.abandon(|waiter| waiter.to == *to, out);
    }

    fn abandon(&mut self, leaves: impl Fn(&Waiter<T>) -> bool, out: &mut Vec<Action<T>>) {
        let before = self.flights.waiting();
        self.flights.drop_waiters(leaves, out);
        self.stats.abandoned += (before - self.flights.waiting()) as u64;
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The local domain, if there is one.
    #[must_use]
    pub fn domain(&self) -> Option<&Name> {
        self.local.domain()
    }

    /// Questions under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Queries waiting for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.flights.waiting()
    }

    /// Answers in the cache, and the bytes they are charged with.
    #[must_use]
    pub fn cache_use(&self) -> (usize, usize) {
        (self.cache.len(), self.cache.bytes())
    }

    /// Answers that left the cache before their time, to make room.
    #[must_use]
    pub fn cache_evicted(&self) -> u64 {
        self.cache.evicted
    }

    /// Local names known.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.local.len()
    }

    fn refuse(&mut self, origin: Origin<T>, asker: Asker, code: u16, out: &mut Vec<Action<T>>) {
        let reply = reply::empty(&asker, 0, code);
        self.send(&origin.client, origin.to, &asker, reply, out);
    }

    /// Sends a reply, cut to what its asker can take.
    fn send(
        &mut self,
        client: &ClientId,
        to: T,
        asker: &Asker,
        reply: Vec<u8>,
        out: &mut Vec<Action<T>>,
    ) {
        match reply::fit(reply, asker) {
            Some((message, cut)) => {
                self.stats.replies += 1;
                self.stats.truncated += u64::from(cut);
                out.push(Action::Reply {
                    client: *client,
                    to,
                    message,
                });
            }
            None => self.stats.reply_unsendable += 1,
        }
    }
}

fn parse_split(
    split: Vec<(String, Vec<SocketAddr>)>,
) -> Result<Vec<(Name, Vec<SocketAddr>)>, ConfigError> {
    let parse = |(name, servers): (String, _)| {
        // A leading dot is how some configurations write a suffix.
        let bare = name
            .strip_prefix('.')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&name);
        match Name::parse(bare) {
            Ok(suffix) => Ok((suffix, servers)),
            Err(cause) => Err(ConfigError::Suffix { name, cause }),
        }
    };
    split.into_iter().map(parse).collect()
}

/// The bytes that tell questions with different answers apart: name, type, class, and of the
/// flags RD, AD, CD and DO.
fn cache_key_bytes(query: &Query) -> impl Iterator<Item = u8> + '_ {
    let dnssec_ok = query.asker.edns.is_some_and(|edns| edns.dnssec_ok);
    let known = query.asker.flags & (flag::RD | flag::AD | flag::CD);
    let flags = (known | u16::from(dnssec_ok)).to_be_bytes();
    let question = &query.question;
    let name = question.name.as_wire().iter().copied();
    name.chain(question.qtype.to_be_bytes())
        .chain(question.qclass.to_be_bytes())
        .chain(flags)
}

fn cache_key(query: &Query) -> Key {
    cache_key_bytes(query).collect()
}

/// The upstream message of a plain query: its question in its spelling, its flags, its EDNS
/// payload size and DO flag, and nothing else. The id is put in for each attempt.
fn plain_message(asker: &Asker) -> Vec<u8> {
    let header = Header {
        id: 0,
        flags: asker.flags & (flag::RD | flag::AD | flag::CD),
        counts: [1, 0, 0, u16::from(asker.edns.is_some())],
    };
    let mut message = header.to_bytes().to_vec();
    message.extend_from_slice(&asker.question);
    if let Some(edns) = asker.edns {
        message.extend_from_slice(&reply::opt_record(edns.payload, 0, edns.dnssec_ok));
    }
    message
}

#[cfg(test)]
impl<T: Clone + PartialEq> Forwarder<T> {
    pub(crate) fn check(&self) {
        self.flights.check();
        assert!(self.flights.len() <= self.bounds.in_flight);
        assert!(self.flights.waiting() <= self.bounds.waiting);
    }
}
