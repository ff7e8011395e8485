//! Where multicast routers are, and when their hosts have been heard.
//!
//! A switch may keep a group's frames from a port only if the port's hosts would have said that they
//! listen, and they say so only when somebody asks. So there is a *span* for each domain and family
//! in which memberships are believed: it begins when every host has had the time to answer a general
//! query, and ends before a membership that nobody renewed would. Outside of it everything is
//! flooded, as without snooping.

use core::time::Duration;

use crate::table::Slot;
use crate::vlan::Domain;

use super::message::Query;

/// Hosts are given this long to answer, even if the query gives them less.
const LEAST_RESPONSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Span {
    domain: Domain,
    ipv6: bool,
    from: Duration,
    until: Duration,
}

impl Span {
    fn key(&self) -> (Domain, bool) {
        (self.domain, self.ipv6)
    }
}

/// Spans and router ports.
#[derive(Debug, Default)]
pub(super) struct Routers {
    /// At most two for each domain that a port is in, in order of both: they are looked up for each
    /// port that a frame may go to.
    spans: Vec<Span>,
    /// By slot, the ports that a router was heard on until then: IPv4, IPv6.
    heard: Vec<[Duration; 2]>,
}

impl Routers {
    /// Notes a query. `membership` is how long a membership lasts.
    pub(super) fn asked(
        &mut self,
        (slot, domains): (Slot, &[Domain]),
        query: Query,
        membership: Duration,
        now: Duration,
    ) {
        if query.router {
            let at = slot as usize;
            if at >= self.heard.len() {
                self.heard.resize(at + 1, [Duration::ZERO; 2]);
            }
            if let Some(heard) = self.heard.get_mut(at) {
                heard[usize::from(query.ipv6)] = now.saturating_add(membership);
            }
        }
        if !query.general {
            return;
        }
        let response = query.response.max(LEAST_RESPONSE);
        // Every host has answered by then; and who answered at once is a member until then.
        let from = now.saturating_add(response);
        let until = now.saturating_add(membership);
        for domain in domains {
            let new = Span {
                domain: *domain,
                ipv6: query.ipv6,
                from,
                until,
            };
            let found = self.spans.binary_search_by_key(&new.key(), Span::key);
            match found.map(|at| self.spans.get_mut(at)) {
                Err(at) => self.spans.insert(at, new),
                // What was known before holds until this query has been answered.
                Ok(Some(span)) if from <= span.until => span.until = span.until.max(until),
                Ok(Some(span)) => *span = new,
                Ok(None) => {}
            }
        }
    }

    /// Whether what is known about the listeners of a domain is complete.
    pub(super) fn is_complete(&self, domain: Domain, ipv6: bool, now: Duration) -> bool {
        let found = self.spans.binary_search_by_key(&(domain, ipv6), Span::key);
        let span = found.ok().and_then(|at| self.spans.get(at));
        span.is_some_and(|span| (span.from..span.until).contains(&now))
    }

    /// Whether a router of this family was heard on a port.
    pub(super) fn is_router(&self, slot: Slot, ipv6: bool, now: Duration) -> bool {
        let heard = self.heard.get(slot as usize);
        heard.is_some_and(|heard| now < heard[usize::from(ipv6)])
    }

    /// Forgets what was heard on a port.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(heard) = self.heard.get_mut(slot as usize) {
            *heard = [Duration::ZERO; 2];
        }
    }

    /// Forgets the domains that no port is in any more.
    pub(super) fn keep(&mut self, there: impl Fn(Domain) -> bool) {
        self.spans.retain(|span| there(span.domain));
    }
}
