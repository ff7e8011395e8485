//! vmnet.framework as it behaves, and as it misbehaves, for tests.
//!
//! Completions and events arrive on two threads of their own, as they do from the framework's
//! queues. A read wants each slot to be as long as the longest packet; a write wants sizes that add
//! up. Everything that can go wrong does so on request.

mod interface;
mod queue;
mod script;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use interface::FakeInterface;
pub(crate) use queue::Queue;
pub(crate) use script::{Answer, Script, State, reply};

use crate::framework::{Feature, Framework, Interface, Network, OnStart};
use crate::key::{Dictionary, Key, MacosRelease, Value};
use crate::network::Step;

/// The framework, shared with the test that drives it.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) shared: Arc<Shared>,
}

/// What the fake, its interfaces and the test have in common.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Where completions are told.
    pub(crate) completions: Queue,
    /// Where events are told.
    pub(crate) events: Queue,
    /// Handlers that are never told.
    held: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Fake {
    /// A framework of macOS 26 that does what it is asked.
    pub(crate) fn new() -> Self {
        Self::with(Script::default())
    }

    /// A framework that follows a script.
    pub(crate) fn with(script: Script) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(script)),
                completions: Queue::new(),
                events: Queue::new(),
                held: Mutex::default(),
            }),
        }
    }

    /// As the code under test takes it.
    pub(crate) fn framework(&self) -> Arc<dyn Framework> {
        Arc::new(self.clone())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// A packet for the guest, with the event that announces it.
    pub(crate) fn deliver(&self, packet: &[u8]) {
        let mut state = self.state();
        state.inbound.push_back(packet.to_vec());
        if state.asleep {
            return;
        }
        state.announced += 1;
        if let Some(on_event) = state.on_event.clone() {
            drop(state);
            self.shared.events.run(move || on_event(1));
        }
    }

    /// The next packet that was written.
    pub(crate) fn taken(&self) -> Option<Vec<u8>> {
        self.state().outbound.pop_front()
    }

    /// How many interfaces were stopped, and how many dropped.
    pub(crate) fn ends(&self) -> (u32, u32) {
        let state = self.state();
        (state.stops, state.dropped)
    }

    /// How many reads and writes there were.
    pub(crate) fn calls(&self) -> (u32, usize) {
        let state = self.state();
        (state.reads, state.writes.len())
    }

    /// The interface dies: what it has can be read, and then every call says so.
    pub(crate) fn die(&self) {
        self.state().dead = true;
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed elsewhere must not hide its message behind this one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Box<dyn Fn() + Send>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the answer as the script has it: at once, late, more than once or never.
    pub(crate) fn answer(self: &Arc<Self>, answer: &Answer, tell: impl Fn() + Send + 'static) {
        let answer = *answer;
        match answer {
            // The handler stays where it is for as long as the framework does.
            Answer::Never => self.held().push(Box::new(tell)),
            Answer::Dropped => {}
            Answer::Within => tell(),
            Answer::Times(times) => self.completions.run(move || {
                for _ in 0..times {
                    tell();
                }
            }),
            Answer::After(delay) => self.completions.run(move || {
                std::thread::sleep(delay);
                tell();
            }),
        }
    }
}

/// The network an interface is on, as an object of macOS 26.
struct FakeNetwork {
    shared: Arc<Shared>,
    mode: u32,
    steps: Vec<Step>,
}

fn start(
    shared: &Arc<Shared>,
    request: &Dictionary,
    done: OnStart,
    mode: Option<u32>,
) -> Option<Box<dyn Interface>> {
    let mut state = shared.state();
    state.requests.push(request.clone());
    let status = state.script.start_status;
    let mut reply = state.script.reply.clone();
    let null = state.script.null_interface;
    let answer = state.script.start_answer;
    if status != 1000 {
        reply = Dictionary::default();
    }
    state.started += u32::from(!null);
    state.network_mode = mode;
    let interface = FakeInterface::new(shared, request, &state);
    drop(state);
    shared.answer(&answer, move || done(status, reply.clone()));
    (!null).then(|| Box::new(interface) as _)
}

impl Framework for Fake {
    fn has(&self, feature: Feature) -> bool {
        // By the headers of the SDK, spelled here a second time.
        let since = match feature {
            Feature::Key(Key::EnableVirtioHeader) => MacosRelease(15, 4),
            Feature::Key(Key::ReadMaxPackets | Key::WriteMaxPackets) => MacosRelease(15, 0),
            Feature::Key(Key::EnableChecksumOffload) | Feature::Forwarding => MacosRelease(12, 0),
            Feature::Key(
                Key::EnableTso
                | Key::EnableIsolation
                | Key::NetworkIdentifier
                | Key::HostIpAddress
                | Key::HostSubnetMask
                | Key::HostIpv6Address,
            ) => MacosRelease(11, 0),
            Feature::Networks => MacosRelease(26, 0),
            Feature::Key(_) => MacosRelease(10, 15),
        };
        self.state().script.release >= since
    }

    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>> {
        start(&self.shared, request, done, None)
    }

    fn shared_interfaces(&self) -> Option<Vec<String>> {
        self.state().script.bridgeable.clone()
    }

    fn create_network(&self, mode: u32, steps: &[Step]) -> Result<Box<dyn Network>, u32> {
        let status = self.state().script.network_status;
        if status != 1000 {
            return Err(status);
        }
        self.state().networks += 1;
        Ok(Box::new(FakeNetwork {
            shared: Arc::clone(&self.shared),
            mode,
            steps: steps.to_vec(),
        }))
    }
}

impl Network for FakeNetwork {
    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>> {
        self.shared.state().steps.clone_from(&self.steps);
        start(&self.shared, request, done, Some(self.mode))
    }

    fn ipv4_subnet(&self) -> (Ipv4Addr, Ipv4Addr) {
        ([192, 168, 66, 0].into(), [255, 255, 255, 0].into())
    }

    fn ipv6_prefix(&self) -> (Ipv6Addr, u8) {
        ("fd12:3456::".parse().unwrap(), 64)
    }
}

impl Drop for FakeNetwork {
    fn drop(&mut self) {
        self.shared.state().networks -= 1;
    }
}

/// Whether a request has a flag set.
pub(crate) fn has_flag(request: &Dictionary, flag: Key) -> bool {
    request
        .iter()
        .any(|(key, value)| *key == flag && *value == Value::Flag(true))
}
