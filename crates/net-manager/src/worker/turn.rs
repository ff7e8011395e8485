//! The worker's turns: everything that is ready, or guests in shared memory alone.

use std::time::Duration;

use mio::Events;

use super::Worker;
use super::spin::Step;
use super::token::{self, Owner};

/// How often readers of the capture see it where the worker never sleeps.
const FLUSH: Duration = Duration::from_millis(100);

impl Worker {
    /// Serves until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let now = self.epoch.elapsed();
            let going = match self.spin.step(now) {
                Step::Wait => {
                    let timeout = self.timeout(now);
                    if timeout != Some(Duration::ZERO) {
                        self.core.ports.before_sleep();
                    }
                    self.turn(&mut events, timeout)
                }
                Step::All => {
                    if now.saturating_sub(self.flushed) >= FLUSH {
                        self.flushed = now;
                        self.core.ports.before_sleep();
                    }
                    self.turn(&mut events, Some(Duration::ZERO))
                }
                step => {
                    self.rings(step, now);
                    true
                }
            };
            if !going {
                return;
            }
        }
    }

    /// Serves everything that is ready now, or once something is; whether to go on.
    fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> bool {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => return true,
            Err(err) => {
                log::error!("the network stops: waiting for events failed: {err}");
                return false;
            }
        }
        let now = self.epoch.elapsed();
        let mut stop = false;
        for event in &*events {
            match token::owner(event.token()) {
                Owner::Waker => stop |= self.commands(now),
                Owner::Router =>
                {
                    #[cfg(target_os = "linux")]
                    if let Some(router) = &mut self.host_router {
                        router.ready(now);
                    }
                }
                Owner::Port(id) => {
                    if event.is_writable() {
                        self.core.ports.mark_dirty(id);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.want_read(id);
                        // A guest in shared memory tells of room by the same bell.
                        self.core.ports.mark_blocked(id);
                    }
                }
                Owner::Listener(id) => self.accept(id, now),
                Owner::Dns => {
                    let work = (&mut self.core.gateway, &mut self.core.outputs);
                    self.dns.ready(event, now, work);
                }
                Owner::Usernet => {
                    self.core
                        .with_uplink(now, |uplink, links| uplink.ready(event, now, links));
                }
            }
        }
        if stop {
            self.core.gateway.farewell(&mut self.core.outputs);
            #[cfg(target_os = "linux")]
            if let Some(router) = &mut self.host_router {
                router.farewell();
            }
            self.settle(now);
            return false;
        }
        let spinning = self.spin.is_spinning();
        if spinning {
            self.want_rings(true);
        }
        self.read_ports(now);
        self.follow_resolvers(now);
        self.deadlines(now);
        self.follow_routes(now);
        self.settle(now);
        // Guests come and go by messages, of which the worker is told as of everything else.
        let peers = self.core.ports.set_polling(spinning);
        self.spin.set_peers(peers);
        true
    }

    /// Asks the guests whose memory is at hand, and serves whoever had more than its turn allowed.
    fn rings(&mut self, step: Step, now: Duration) {
        let ends = step == Step::End;
        if ends || step == Step::Begin {
            self.core.ports.set_polling(!ends);
        }
        // Who has to tell of room from now on is asked for it once more, too.
        self.want_rings(ends);
        let found = self.read_ports(now);
        if found || self.core.ports.has_dirty() {
            self.settle(now);
        } else if self.has_one_processor {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }

    /// Has every guest whose memory is at hand asked for frames, and perhaps for room.
    fn want_rings(&mut self, room: bool) {
        for n in 0..self.core.ports.rings().len() {
            let Some(id) = self.core.ports.rings().get(n).copied() else {
                return;
            };
            self.want_read(id);
            if room {
                self.core.ports.mark_blocked(id);
            }
        }
    }
}
