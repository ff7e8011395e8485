//! The life of an interface: started, watched, stopped, each step with a bound on its time.
//!
//! A completion is a one-place channel: the first answer counts, a second one finds the place taken,
//! one that is late finds nobody there. Nothing a handler holds refers to the interface, so that no
//! handler ever drops one, and an interface may be dropped on any thread, a handler's among them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use crate::forwarding::RawRule;
use crate::framework::{Feature, Framework, Interface, OnDone, OnStart, PACKETS_AVAILABLE};
use crate::key::Dictionary;
use crate::network::VmnetNetwork;
use crate::platform::needs;
use crate::request::request;
use crate::wake::Wake;
use crate::{Status, VmnetConfig, VmnetError, VmnetMode};

/// How long the framework may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Patience {
    /// For an interface to start. The first one in shared mode starts DHCP and NAT as well.
    pub(crate) start: Duration,
    /// For a reason, after a start that brought no interface.
    pub(crate) reason: Duration,
    /// For everything else.
    pub(crate) other: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            reason: Duration::from_secs(1),
            other: Duration::from_secs(10),
        }
    }
}

/// An interface that has been started and is stopped on drop.
pub(crate) struct Session {
    framework: Arc<dyn Framework>,
    interface: Box<dyn Interface>,
    wake: Arc<Wake>,
    patience: Patience,
    stopped: bool,
}

impl Session {
    /// Starts an interface, waits for the answer, and has `wake` woken when packets are there.
    pub(crate) fn start(
        framework: Arc<dyn Framework>,
        network: Option<&VmnetNetwork>,
        config: &VmnetConfig,
        wake: Arc<Wake>,
        patience: Patience,
    ) -> Result<(Self, Dictionary), VmnetError> {
        const WHAT: &str = "start an interface";
        let request = request(config);
        for (key, _) in request.iter() {
            needs(&*framework, Feature::Key(*key))?;
        }
        check_bridge(&*framework, config)?;

        let (sender, answer) = sync_channel(1);
        let done: OnStart = Arc::new(move |status, reply| {
            let _ = sender.try_send((status, reply));
        });
        let interface = match network {
            Some(network) => network.network.start(&request, done),
            None => framework.start(&request, done),
        };
        let Some(interface) = interface else {
            // It may still say why.
            let reason = answer.recv_timeout(patience.reason).ok();
            if let Some((status, _)) = reason {
                VmnetError::check(WHAT, status)?;
            }
            return Err(VmnetError::NoInterface);
        };
        // From here on whatever goes wrong stops the interface again.
        let mut session = Self {
            framework,
            interface,
            wake,
            patience,
            stopped: false,
        };
        let (status, reply) = answer
            .recv_timeout(patience.start)
            .map_err(|why| VmnetError::unanswered(WHAT, patience.start, why))?;
        VmnetError::check(WHAT, status)?;
        VmnetError::check("ask for events", session.watch())?;
        for rule in &config.forwards {
            session.add_rule(&rule.raw())?;
        }
        // Packets from before the callback was set are announced by nobody.
        session.wake.wake();
        Ok((session, reply))
    }

    /// Asks for events, or asks again: a system that has slept may have forgotten.
    pub(crate) fn watch(&mut self) -> u32 {
        let wake = Arc::clone(&self.wake);
        let on_event = Arc::new(move |_| wake.wake());
        self.interface.set_events(PACKETS_AVAILABLE, Some(on_event))
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The interface, as long as it has not been stopped.
    pub(crate) fn interface(&mut self) -> Option<&mut dyn Interface> {
        (!self.stopped).then_some(&mut *self.interface)
    }

    pub(crate) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops the interface and waits until it has; at once if it was stopped before.
    pub(crate) fn stop(&mut self) -> Result<(), VmnetError> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        // An event that is under way holds its own reference to the wake-up; whether the callback
        // could be taken back changes nothing.
        let _ = self.interface.set_events(PACKETS_AVAILABLE, None);
        let (done, answer) = completion();
        let status = self.interface.stop(done);
        self.wait("stop the interface", status, &answer)
    }

    pub(crate) fn add_rule(&mut self, rule: &RawRule) -> Result<(), VmnetError> {
        self.can_forward()?;
        let (done, answer) = completion();
        let status = self.interface.add_rule(rule, done);
        self.wait("add a forwarding rule", status, &answer)
    }

    pub(crate) fn remove_rule(
        &mut self,
        protocol: u8,
        external_port: u16,
        family: u8,
    ) -> Result<(), VmnetError> {
        self.can_forward()?;
        let (done, answer) = completion();
        let status = self
            .interface
            .remove_rule(protocol, external_port, family, done);
        self.wait("remove a forwarding rule", status, &answer)
    }

    pub(crate) fn rules(&mut self, family: u8) -> Result<Vec<RawRule>, VmnetError> {
        const WHAT: &str = "list the forwarding rules";
        self.can_forward()?;
        let (sender, answer) = sync_channel(1);
        let done = Arc::new(move |rules| {
            let _ = sender.try_send(rules);
        });
        let status = self.interface.rules(family, done);
        let rules = self.answer(WHAT, status, &answer)?;
        rules.map_err(|code| VmnetError::Refused {
            what: WHAT,
            status: Status::check(code).err().unwrap_or(Status::Failure),
        })
    }

    fn can_forward(&self) -> Result<(), VmnetError> {
        if self.stopped {
            return Err(VmnetError::NotRunning);
        }
        needs(&*self.framework, Feature::Forwarding)
    }

    /// The status of a completion, if there will be one.
    fn wait(
        &self,
        what: &'static str,
        asked: u32,
        answer: &Receiver<u32>,
    ) -> Result<(), VmnetError> {
        let status = self.answer(what, asked, answer)?;
        VmnetError::check(what, status)
    }

    fn answer<T>(
        &self,
        what: &'static str,
        asked: u32,
        answer: &Receiver<T>,
    ) -> Result<T, VmnetError> {
        VmnetError::check(what, asked)?;
        let after = self.patience.other;
        answer
            .recv_timeout(after)
            .map_err(|why| VmnetError::unanswered(what, after, why))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::warn!("{error}");
        }
    }
}

/// Where a status goes, and where it arrives.
fn completion() -> (OnDone, Receiver<u32>) {
    let (sender, answer) = sync_channel(1);
    let done = Arc::new(move |status| {
        let _ = sender.try_send(status);
    });
    (done, answer)
}

/// Finds a name that cannot be bridged before the framework does, which does not say what is wrong.
fn check_bridge(framework: &dyn Framework, config: &VmnetConfig) -> Result<(), VmnetError> {
    let VmnetMode::Bridged { interface } = &config.mode else {
        return Ok(());
    };
    match framework.shared_interfaces() {
        Some(available) if !available.contains(interface) => Err(VmnetError::NotBridgeable {
            name: interface.clone(),
            available,
        }),
        _ => Ok(()),
    }
}
