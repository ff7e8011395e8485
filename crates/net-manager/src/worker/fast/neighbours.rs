//! Who answers to an address of the outside network: the table behind ARP and neighbour discovery.
//!
//! An entry begins with a question to everybody, asked again each second and given up after three.
//! It is trusted for a minute; whoever uses it later has its owner asked, it alone, and the entry goes
//! when three such questions stay without an answer. What nobody asked for is not taken in, so that
//! only a guest's traffic makes entries, within its port's share of the open questions.

use std::collections::BTreeMap;
use std::time::Duration;

use net_wire::MacAddr;

use super::PortId;

/// How long an entry is used without a question.
const TRUSTED: Duration = Duration::from_secs(60);
/// Between two questions about the same address.
const INTERVAL: Duration = Duration::from_secs(1);
/// Questions until an address is given up.
const QUESTIONS: u8 = 3;
/// Entries at a time; past that the one confirmed longest ago goes.
const MAX_ENTRIES: usize = 1024;
/// Addresses asked for at a time, of all ports together and of one.
const MAX_ASKED: usize = 256;
const MAX_ASKED_BY_PORT: usize = 32;

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Its hardware address.
    Mac(MacAddr),
    /// It has been asked for.
    Asked,
    /// It has been asked for in vain just now, or too many others are.
    Refused,
}

/// What is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question<A> {
    /// Whose hardware address.
    pub(super) target: A,
    /// The station that had it; everybody where none is known.
    pub(super) at: Option<MacAddr>,
}

/// How much an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The owner hears us: the entry is trusted.
    Confirmed,
    /// The owner was heard, and may not hear us: used, and asked at once when it is.
    Heard,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// `None` while nobody has answered yet.
    mac: Option<MacAddr>,
    /// When it was last confirmed, or first asked for; `None` where it was only heard of since.
    confirmed: Option<Duration>,
    /// Questions since then, and when the next one is due.
    asked: u8,
    next: Duration,
    /// Whose packet it was asked for.
    port: PortId,
}

/// The table.
#[derive(Debug)]
pub(super) struct Neighbours<A> {
    entries: BTreeMap<A, Entry>,
    /// Entries without an answer.
    open: usize,
    /// Not after the earliest `next` of an entry with a question.
    deadline: Option<Duration>,
    questions: Vec<Question<A>>,
    /// Addresses that were given up.
    lost: Vec<A>,
}

impl<A: Copy + Ord> Neighbours<A> {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            open: 0,
            deadline: None,
            questions: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Who answers to `ip`, for a packet of the guest at `port`.
    pub(super) fn find(&mut self, ip: A, port: PortId, now: Duration) -> Found {
        if let Some(entry) = self.entries.get_mut(&ip) {
            let Some(mac) = entry.mac else {
                return Found::Asked;
            };
            let is_trusted = entry
                .confirmed
                .is_some_and(|at| now.saturating_sub(at) < TRUSTED);
            if entry.asked == 0 && !is_trusted {
                entry.asked = 1;
                entry.next = now + INTERVAL;
                self.wake(now + INTERVAL);
                self.questions.push(Question {
                    target: ip,
                    at: Some(mac),
                });
            }
            return Found::Mac(mac);
        }
        let of_port = |entry: &&Entry| entry.mac.is_none() && entry.port == port;
        if self.open >= MAX_ASKED
            || self.entries.values().filter(of_port).count() >= MAX_ASKED_BY_PORT
        {
            return Found::Refused;
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.forget_oldest();
        }
        let next = now + INTERVAL;
        self.entries.insert(
            ip,
            Entry {
                mac: None,
                confirmed: Some(now),
                asked: 1,
                next,
                port,
            },
        );
        self.open += 1;
        self.wake(next);
        self.questions.push(Question {
            target: ip,
            at: None,
        });
        Found::Asked
    }

    /// Who answers to `ip`, as far as is known.
    pub(super) fn known(&self, ip: A) -> Option<MacAddr> {
        self.entries.get(&ip)?.mac
    }

    /// Whether `ip` is in the table, answered for or not.
    pub(super) fn has(&self, ip: A) -> bool {
        self.entries.contains_key(&ip)
    }

    /// `mac` answers to `ip`, if that was asked for; true where it was not known before.
    pub(super) fn learn(&mut self, ip: A, mac: MacAddr, word: Word, now: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&ip) else {
            return false;
        };
        let before = entry.mac.replace(mac);
        match word {
            Word::Confirmed => entry.confirmed = Some(now),
            // What is known already is not news.
            Word::Heard if before == Some(mac) => return false,
            Word::Heard => entry.confirmed = None,
        }
        self.open -= usize::from(before.is_none());
        entry.asked = 0;
        before.is_none()
    }

    /// The entry of `ip` is to be asked for before it is trusted again.
    pub(super) fn doubt(&mut self, ip: A) {
        if let Some(entry) = self.entries.get_mut(&ip)
            && entry.mac.is_some()
        {
            entry.confirmed = None;
        }
    }

    /// Forgets everybody: the link was cut, and may lead elsewhere now.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.questions.clear();
        self.open = 0;
        self.deadline = None;
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Asks again, and gives up those who never answered.
    pub(super) fn on_deadline(&mut self, now: Duration) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        let (questions, lost) = (&mut self.questions, &mut self.lost);
        self.entries.retain(|ip, entry| {
            if entry.asked == 0 || entry.next > now {
                return true;
            }
            if entry.asked >= QUESTIONS {
                self.open -= usize::from(entry.mac.is_none());
                lost.push(*ip);
                return false;
            }
            entry.asked += 1;
            entry.next = now + INTERVAL;
            questions.push(Question {
                target: *ip,
                at: entry.mac,
            });
            true
        });
        let asked = self.entries.values().filter(|entry| entry.asked > 0);
        self.deadline = asked.map(|entry| entry.next).min();
    }

    /// What is to be asked.
    pub(super) fn next_question(&mut self) -> Option<Question<A>> {
        self.questions.pop()
    }

    /// The addresses that nobody answered to since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<A> {
        std::mem::take(&mut self.lost)
    }

    fn wake(&mut self, at: Duration) {
        self.deadline = Some(self.deadline.map_or(at, |old| old.min(at)));
    }

    /// A cache loses nothing but a question when it forgets.
    fn forget_oldest(&mut self) {
        let known = self.entries.iter().filter(|(_, entry)| entry.mac.is_some());
        let oldest = known.min_by_key(|(_, entry)| entry.confirmed);
        if let Some(ip) = oldest.map(|(ip, _)| *ip) {
            self.entries.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn drain(table: &mut Neighbours<u32>) -> Vec<Question<u32>> {
        std::iter::from_fn(|| table.next_question()).collect()
    }

    #[test]
    fn who_never_answers_is_given_up_and_who_stops_answering_too() {
        let mut table = Neighbours::new();
        table.find(1, 1, seconds(0));
        for second in 1..3 {
            assert_eq!(table.next_deadline(), Some(seconds(second)));
            table.on_deadline(seconds(second));
        }
        assert_eq!(drain(&mut table).len(), 3);
        assert!(table.take_lost().is_empty());
        table.on_deadline(seconds(3));
        assert_eq!(table.take_lost(), [1]);
        assert_eq!((table.open, table.next_deadline()), (0, None));

        table.find(1, 1, seconds(10));
        table.learn(1, MAC, Word::Confirmed, seconds(10));
        assert_eq!(table.find(1, 1, seconds(80)), Found::Mac(MAC));
        for second in 81..84 {
            table.on_deadline(seconds(second));
        }
        assert_eq!(table.take_lost(), [1]);
        assert_eq!(table.find(1, 1, seconds(84)), Found::Asked);
    }

    #[test]
    fn who_was_only_heard_is_asked_when_it_is_used() {
        let mut table = Neighbours::new();
        assert!(!table.learn(1, MAC, Word::Heard, seconds(0)), "unasked");
        assert!(!table.has(1));
        table.find(1, 1, seconds(0));
        drain(&mut table);
        assert!(table.learn(1, MAC, Word::Heard, seconds(0)));
        assert_eq!(table.find(1, 1, seconds(1)), Found::Mac(MAC));
        let (target, at) = (1, Some(MAC));
        assert_eq!(drain(&mut table), [Question { target, at }]);
        // The same again is no answer to that question.
        table.learn(1, MAC, Word::Heard, seconds(1));
        table.on_deadline(seconds(2));
        assert_eq!(drain(&mut table).len(), 1);
        table.learn(1, MAC, Word::Confirmed, seconds(2));
        table.find(1, 1, seconds(3));
        assert!(drain(&mut table).is_empty());
        // Another station begins anew, and so does one that is doubted.
        table.learn(1, OTHER, Word::Heard, seconds(3));
        assert_eq!(table.find(1, 1, seconds(3)), Found::Mac(OTHER));
        table.learn(1, OTHER, Word::Confirmed, seconds(3));
        table.doubt(1);
        drain(&mut table);
        table.find(1, 1, seconds(3));
        assert_eq!(drain(&mut table).len(), 1);
    }

    #[test]
    fn one_guest_cannot_ask_for_everybody() {
        let mut table = Neighbours::new();
        let found: Vec<Found> = (0..100).map(|ip| table.find(ip, 1, seconds(0))).collect();
        let asked = found.iter().filter(|found| **found == Found::Asked).count();
        assert_eq!(asked, MAX_ASKED_BY_PORT);
        assert_eq!(table.find(1000, 2, seconds(0)), Found::Asked);
        for port in 3..100 {
            for n in 0..100 {
                table.find(port * 100 + n, port, seconds(0));
            }
        }
        assert_eq!(table.open, MAX_ASKED);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Neighbours::new();
        for ip in 0..2 * MAX_ENTRIES as u32 {
            let now = seconds(u64::from(ip));
            assert_eq!(table.find(ip, 1, now), Found::Asked, "{ip}");
            table.learn(ip, MAC, Word::Confirmed, now);
        }
        assert_eq!(table.entries.len(), MAX_ENTRIES);
        assert_eq!(table.find(0, 1, seconds(9999)), Found::Asked);
    }
}
