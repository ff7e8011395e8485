//! The host at the other end of a socket: the server's way to its keeper.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use net_manager::kernel::{KernelAttach, KernelForward, KernelOps, KernelPort};
use net_manager::{ManagerError, Protocol};

use super::wire::{self, Answer, Wish};
use crate::host::{Guest, Host, Opened, lock};
use crate::place::Place;
use crate::usage::UsageError;

/// Asks the keeper, and waits for what it says. Copies share the socket, one question at a time.
#[derive(Clone)]
pub(super) struct Remote {
    socket: Arc<Mutex<OwnedFd>>,
}

impl Remote {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(Mutex::new(socket)),
        }
    }

    fn ask(&self, wish: &Wish) -> Result<(Answer, Option<OwnedFd>), UsageError> {
        let gone = || UsageError::new("the keeper has ended");
        let socket = lock(&self.socket);
        wire::send(&*socket, wish, &[]).map_err(|_| gone())?;
        let (answer, descriptors) = wire::receive(&*socket)
            .map_err(|err| UsageError::new(format!("the keeper: {err}")))?
            .ok_or_else(gone)?;
        match answer {
            Answer::Refused(why) => Err(UsageError::new(why)),
            answer => Ok((answer, descriptors.into_iter().next())),
        }
    }

    pub(super) fn tell(&self, wish: &Wish) {
        if let Err(err) = self.ask(wish) {
            log::debug!("{err}");
        }
    }
}

impl Host for Remote {
    fn open(&mut self, place: &Place, guest: &Guest) -> Result<Opened, UsageError> {
        let wish = Wish::Open {
            place: place.to_string(),
            guest: guest.clone(),
        };
        match self.ask(&wish)? {
            (Answer::Served(device), Some(fd)) => Ok(Opened::Served(device, fd)),
            _ => Err(unexpected()),
        }
    }

    fn close(&mut self, place: &Place) {
        self.tell(&Wish::Close {
            place: place.to_string(),
        });
    }

    fn bind(&mut self, protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, UsageError> {
        let wish = Wish::Bind {
            udp: protocol == Protocol::Udp,
            address,
        };
        match self.ask(&wish)? {
            (Answer::Bound, Some(fd)) => Ok(fd),
            _ => Err(unexpected()),
        }
    }

    fn ready(&mut self) {
        self.tell(&Wish::Ready);
    }
}

/// A network in the kernel, which the keeper has made there.
impl KernelOps for Remote {
    fn attach(&self, what: &KernelAttach) -> Result<KernelPort, ManagerError> {
        match self.ask(&Wish::Attach(what.clone())).map_err(refused)? {
            (Answer::Port(port), _) => Ok(port),
            _ => Err(refused(unexpected())),
        }
    }

    fn detach(&self, interface: &str) -> Result<(), ManagerError> {
        let interface = interface.to_owned();
        self.ask(&Wish::Detach { interface }).map_err(refused)?;
        Ok(())
    }

    fn forward(&self, forward: &KernelForward) -> Result<SocketAddr, ManagerError> {
        match self.ask(&Wish::Forward(*forward)).map_err(refused)? {
            (Answer::Forwarded(address), _) => Ok(address),
            _ => Err(refused(unexpected())),
        }
    }

    fn unforward(&self, protocol: Protocol, address: SocketAddr) -> Result<(), ManagerError> {
        let udp = protocol == Protocol::Udp;
        self.ask(&Wish::Unforward { udp, address })
            .map_err(refused)?;
        Ok(())
    }
}

/// The keeper's own words.
fn refused(err: UsageError) -> ManagerError {
    ManagerError::Invalid(err.to_string())
}

fn unexpected() -> UsageError {
    UsageError::new("the keeper answered something else")
}
