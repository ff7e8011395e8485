//! Questions under way: who waits, which upstream queries are open, when to act next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cache::Key;
use crate::name::Name;
use crate::query::Asker;
use crate::{Action, ClientId, UpstreamQueryId};

/// A client that waits for an answer.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    pub(crate) client: ClientId,
    pub(crate) to: T,
    pub(crate) tcp: bool,
    pub(crate) asker: Asker,
}

/// One query sent to one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) id: UpstreamQueryId,
    pub(crate) server: SocketAddr,
    pub(crate) tcp: bool,
    /// The id in the message.
    pub(crate) dns_id: u16,
    /// Answers that did not match: guesses of a third party, or leftovers.
    pub(crate) mismatches: u8,
}

/// A question under way.
#[derive(Debug)]
pub(crate) struct Flight<T> {
    pub(crate) name: Name,
    pub(crate) qtype: u16,
    /// Whether the answer may be shared and cached, and under which key.
    pub(crate) cache_key: Option<Key>,
    /// Whose query began it, and pays for the cache entry.
    pub(crate) owner: ClientId,
    /// The message for upstream, except for its id.
    pub(crate) message: Vec<u8>,
    /// Offset after the question in `message`.
    pub(crate) question_end: usize,
    pub(crate) waiters: Vec<Waiter<T>>,
    pub(crate) attempts: Vec<Attempt>,
    /// Servers asked so far, in order, with repetitions.
    pub(crate) tried: Vec<SocketAddr>,
    /// Attempts go over TCP from now on.
    pub(crate) tcp: bool,
    pub(crate) give_up_at: Duration,
    timer: Duration,
    /// The last answer that was an error: passed on when nobody gives a better one.
    pub(crate) error: Option<Vec<u8>>,
}

/// What is needed to begin a flight.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    pub(crate) qtype: u16,
    pub(crate) cache_key: Option<Key>,
    pub(crate) message: Vec<u8>,
    pub(crate) question_end: usize,
    pub(crate) give_up_at: Duration,
}

/// All flights. The tables agree with each other at all times: every attempt is in the index,
/// every flight has one timer, and the counts are the sums of the waiters.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    map: BTreeMap<Key, Flight<T>>,
    by_attempt: BTreeMap<UpstreamQueryId, Key>,
    timers: BTreeSet<(Duration, Key)>,
    per_client: BTreeMap<ClientId, usize>,
    waiting: usize,
    last_id: u64,
}

impl<T: Clone + PartialEq> Flights<T> {
    pub(crate) fn new() -> Self {
        Self {
            map: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            timers: BTreeSet::new(),
            per_client: BTreeMap::new(),
            waiting: 0,
            last_id: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn waiting_of(&self, client: ClientId) -> usize {
        self.per_client.get(&client).copied().unwrap_or(0)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Flight<T>> {
        self.map.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Flight<T>> {
        self.map.get_mut(key)
    }

    /// Keeps the answers to everything under way out of the cache.
    pub(crate) fn forget_cache_keys(&mut self) {
        self.map
            .values_mut()
            .for_each(|flight| flight.cache_key = None);
    }

    pub(crate) fn find_attempt(&self, id: UpstreamQueryId) -> Option<(Key, Attempt)> {
        let key = self.by_attempt.get(&id)?;
        let attempt = self
            .map
            .get(key)?
            .attempts
            .iter()
            .find(|attempt| attempt.id == id)?;
        Some((key.clone(), *attempt))
    }

    pub(crate) fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The key of a flight whose timer has run out.
    pub(crate) fn due(&self, now: Duration) -> Option<Key> {
        self.timers
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| key.clone())
    }

    pub(crate) fn start(&mut self, key: Key, plan: Plan, waiter: Waiter<T>) {
        let flight = Flight {
            name: plan.name,
            qtype: plan.qtype,
            cache_key: plan.cache_key,
            owner: waiter.client,
            message: plan.message,
            question_end: plan.question_end,
            waiters: Vec::new(),
            attempts: Vec::new(),
            tried: Vec::new(),
            tcp: false,
            give_up_at: plan.give_up_at,
            timer: plan.give_up_at,
            error: None,
        };
        self.timers.insert((flight.timer, key.clone()));
        self.map.insert(key.clone(), flight);
        self.join(&key, waiter);
    }

    /// Adds a waiter to a flight that exists.
    pub(crate) fn join(&mut self, key: &Key, waiter: Waiter<T>) {
        let Some(flight) = self.map.get_mut(key) else {
            return;
        };
        *self.per_client.entry(waiter.client).or_default() += 1;
        self.waiting += 1;
        flight.waiters.push(waiter);
    }

    /// Records an attempt and sets the flight's timer; the caller sends the message.
    pub(crate) fn attempt(
        &mut self,
        key: &Key,
        server: SocketAddr,
        dns_id: u16,
        timer: Duration,
    ) -> Option<Attempt> {
        let flight = self.map.get_mut(key)?;
        self.last_id += 1;
        let id = UpstreamQueryId(self.last_id);
        let attempt = Attempt {
            id,
            server,
            tcp: flight.tcp,
            dns_id,
            mismatches: 0,
        };
        flight.attempts.push(attempt);
        flight.tried.push(server);
        self.by_attempt.insert(id, key.clone());
        self.set_timer(key, timer);
        Some(attempt)
    }

    pub(crate) fn set_timer(&mut self, key: &Key, at: Duration) {
        let Some(flight) = self.map.get_mut(key) else {
            return;
        };
        self.timers.remove(&(flight.timer, key.clone()));
        flight.timer = at.min(flight.give_up_at);
        self.timers.insert((flight.timer, key.clone()));
    }

    /// Ends the attempts that `over` picks, telling the I/O layer.
    pub(crate) fn end_attempts(
        &mut self,
        key: &Key,
        over: impl Fn(&Attempt) -> bool,
        out: &mut Vec<Action<T>>,
    ) {
        let Some(flight) = self.map.get_mut(key) else {
            return;
        };
        flight.attempts.retain(|attempt| {
            let ends = over(attempt);
            if ends {
                self.by_attempt.remove(&attempt.id);
                out.push(Action::Cancel { id: attempt.id });
            }
            !ends
        });
    }

    /// Forgets an attempt that the I/O layer has already given up.
    pub(crate) fn forget_attempt(&mut self, id: UpstreamQueryId) {
        let Some(key) = self.by_attempt.remove(&id) else {
            return;
        };
        if let Some(flight) = self.map.get_mut(&key) {
            flight.attempts.retain(|attempt| attempt.id != id);
        }
    }

    /// Takes the waiters that `leaves` picks out of a flight.
    pub(crate) fn take_waiters(
        &mut self,
        key: &Key,
        leaves: impl Fn(&Waiter<T>) -> bool,
    ) -> Vec<Waiter<T>> {
        let Some(flight) = self.map.get_mut(key) else {
            return Vec::new();
        };
        let (gone, stay) = std::mem::take(&mut flight.waiters)
            .into_iter()
            .partition(|w| leaves(w));
        flight.waiters = stay;
        self.release(&gone);
        gone
    }

    /// Takes the waiters that `leaves` picks out of every flight and ends the flights that
    /// nobody waits for any more.
    pub(crate) fn drop_waiters(
        &mut self,
        leaves: impl Fn(&Waiter<T>) -> bool,
        out: &mut Vec<Action<T>>,
    ) {
        let concerned = self
            .map
            .iter()
            .filter(|(_, flight)| flight.waiters.iter().any(&leaves));
        let keys: Vec<Key> = concerned.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.take_waiters(&key, &leaves);
            if self
                .map
                .get(&key)
                .is_some_and(|flight| flight.waiters.is_empty())
            {
                self.finish(&key, out);
            }
        }
    }

    /// Ends a flight: its attempts are cancelled, its waiters are the caller's to answer.
    pub(crate) fn finish(&mut self, key: &Key, out: &mut Vec<Action<T>>) -> Option<Flight<T>> {
        self.end_attempts(key, |_| true, out);
        let flight = self.map.remove(key)?;
        self.timers.remove(&(flight.timer, key.clone()));
        self.release(&flight.waiters);
        Some(flight)
    }

    fn release(&mut self, waiters: &[Waiter<T>]) {
        self.waiting -= waiters.len();
        for waiter in waiters {
            if let Some(count) = self.per_client.get_mut(&waiter.client) {
                *count -= 1;
                if *count == 0 {
                    self.per_client.remove(&waiter.client);
                }
            }
        }
    }

    /// Checks the promise in the type's documentation.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let sum: usize = self.map.values().map(|flight| flight.waiters.len()).sum();
        assert_eq!(sum, self.waiting);
        assert_eq!(self.per_client.values().sum::<usize>(), self.waiting);
        assert!(self.per_client.values().all(|count| *count > 0));
        assert_eq!(self.timers.len(), self.map.len());
        let attempts: usize = self.map.values().map(|flight| flight.attempts.len()).sum();
        assert_eq!(attempts, self.by_attempt.len());
        for (key, flight) in &self.map {
            assert!(self.timers.contains(&(flight.timer, key.clone())));
            assert!(!flight.waiters.is_empty());
        }
    }
}
