//! Sessions as the outside of the engine sees them.

use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use crate::address::Endpoint;
use crate::event::{Event, SessionView};
use crate::family::Family;
use crate::fragment::FragmentCounters;
use crate::session::Session;
use crate::statistics::Usage;

impl<F: Family> Nat<F> {
    fn view(session: &Session<F::Addr>, tick: u32) -> SessionView {
        let end = |e: Endpoint<F::Addr>| Endpoint::<IpAddr>::new(e.addr.into(), e.port);
        SessionView {
            protocol: session.protocol,
            inside: end(session.inside()),
            outside: end(session.outside()),
            remote: end(session.remote()),
            opened_by: session.opener(),
            expires_in: Duration::from_secs(session.expires.saturating_sub(tick).into()),
            tcp: (session.protocol == ip_proto::TCP).then(|| session.tcp.state()),
        }
    }

    /// Tells the observer what happened to a session.
    #[cold]
    pub(super) fn report(&self, common: &mut Common, number: u32, event: fn(SessionView) -> Event) {
        if let Some(session) = self.sessions.get(number)
            && let Some(observer) = &mut common.observer
        {
            observer(&event(Self::view(session, common.tick)));
        }
    }

    /// All sessions that are alive.
    pub(crate) fn sessions(&self, tick: u32) -> impl Iterator<Item = SessionView> {
        let touched = self.sessions.touched() as usize;
        let records = self.sessions.records().iter().take(touched);
        records
            .filter(move |s| s.protocol != 0 && s.expires >= tick)
            .map(move |s| Self::view(s, tick))
    }

    /// Ends the sessions of which `which` says so, and returns how many those were.
    pub(crate) fn close_where(
        &mut self,
        common: &mut Common,
        mut which: impl FnMut(&SessionView) -> bool,
    ) -> usize {
        let mut closed = 0;
        for number in 0..self.sessions.touched() {
            let session = self.sessions.get(number).filter(|s| s.protocol != 0);
            if session.is_some_and(|s| which(&Self::view(s, common.tick))) {
                self.close(common, number);
                closed += 1;
            }
        }
        closed
    }

    pub(crate) fn fragment_counters(&self) -> &FragmentCounters {
        self.fragments.counters()
    }

    /// Where all tables lie that do not move.
    pub(crate) fn memory(&mut self) -> impl Iterator<Item = Range<*const u8>> {
        let contacts = self.contacts.as_ref().map(|contacts| contacts.memory());
        let indexes = [
            self.index.memory(),
            self.shared.memory(),
            self.hosts.memory(),
        ];
        [self.sessions.memory()]
            .into_iter()
            .chain(indexes)
            .chain(self.mappings.memory())
            .chain(contacts.into_iter().flatten())
            .chain(self.externals.memory())
    }

    pub(crate) fn usage(&self, usage: &mut Usage) {
        usage.sessions += self.sessions.len();
        usage.sessions_max += self.sessions.capacity();
        usage.mappings += self.mappings.slab.len();
        usage.mappings_max += self.mappings.slab.capacity();
        usage.hosts += self.hosts.len();
        usage.fragmented += self.fragments.load().0;
        usage.bytes += self.sessions.bytes()
            + self.index.bytes()
            + self.shared.bytes()
            + self.mappings.bytes()
            + self.externals.bytes()
            + self.hosts.bytes()
            + self.contacts.as_ref().map_or(0, |c| c.bytes());
    }
}
