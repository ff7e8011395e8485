//! What the server asks for, done or refused.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use net_manager::Protocol;
use net_manager::kernel::{KernelNetwork, KernelOps};

use super::permits::Permits;
use super::wire::{self, Answer, Wish};
use crate::host::local::Local;
use crate::host::{Host, Opened, lock};
use crate::place::Place;
use crate::usage::UsageError;

/// Does what the server asks for, or says why not.
pub(super) fn grant(
    host: &Mutex<Local>,
    permits: &Mutex<Permits>,
    wish: Wish,
    asked: &OwnedFd,
) -> std::io::Result<()> {
    if !is_permitted(&mut lock(permits), &wish) {
        log::warn!("the server asks for what no user has asked for: {wish:?}");
        let refused = Answer::Refused("no user has asked for that".to_owned());
        return wire::send(asked, &refused, &[]);
    }
    let mut host = lock(host);
    let refused = |err: &dyn std::fmt::Display| Answer::Refused(UsageError::new(err).to_string());
    let answer = match wish {
        Wish::Open { place, guest } => {
            let opened = Place::from_wire(&place).and_then(|place| host.open(&place, &guest));
            match opened {
                Ok(Opened::Served(device, fd)) => {
                    return wire::send(asked, &Answer::Served(device), &[fd.as_fd()]);
                }
                Ok(Opened::Backend(_)) => refused(&"it cannot be handed to another process"),
                Err(err) => refused(&err),
            }
        }
        Wish::Bind { udp, address } => match host.bind(protocol(udp), address) {
            Ok(socket) => return wire::send(asked, &Answer::Bound, &[socket.as_fd()]),
            Err(err) => refused(&err),
        },
        Wish::Close { place } => {
            if let Ok(place) = Place::from_wire(&place) {
                host.close(&place);
            }
            Answer::Done
        }
        Wish::Attach(what) => match in_kernel(&host).and_then(|ops| Ok(ops.attach(&what)?)) {
            Ok(port) => Answer::Port(port),
            Err(err) => refused(&err),
        },
        Wish::Detach { interface } => {
            match in_kernel(&host).and_then(|ops| Ok(ops.detach(&interface)?)) {
                Ok(()) => Answer::Done,
                Err(err) => refused(&err),
            }
        }
        Wish::Forward(forward) => {
            match in_kernel(&host).and_then(|ops| Ok(ops.forward(&forward)?)) {
                Ok(address) => Answer::Forwarded(address),
                Err(err) => refused(&err),
            }
        }
        Wish::Unforward { udp, address } => {
            let unforward = |ops: &KernelNetwork| Ok(ops.unforward(protocol(udp), address)?);
            match in_kernel(&host).and_then(unforward) {
                Ok(()) => Answer::Done,
                Err(err) => refused(&err),
            }
        }
        Wish::Ready | Wish::Failed { .. } => Answer::Done,
    };
    wire::send(asked, &answer, &[])
}

/// Whether a user stands behind a wish, each time once. To take away what is the network's own, or to
/// end, no permission is needed.
fn is_permitted(permits: &mut Permits, wish: &Wish) -> bool {
    match wish {
        Wish::Open { place, .. } => {
            Place::from_wire(place).is_ok_and(|place| permits.place(&place))
        }
        Wish::Bind { udp, address } => permits.port(protocol(*udp), *address),
        Wish::Attach(what) => permits.attachment(what),
        Wish::Forward(forward) => permits.forward(forward),
        Wish::Close { .. }
        | Wish::Detach { .. }
        | Wish::Unforward { .. }
        | Wish::Ready
        | Wish::Failed { .. } => true,
    }
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

fn in_kernel(host: &Local) -> Result<&KernelNetwork, UsageError> {
    let kernel = host.kernel.as_deref();
    kernel.ok_or_else(|| UsageError::new("the network is not in the kernel"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Guest;
    use net_manager::control::Request;

    #[test]
    fn a_wish_that_no_user_has_is_refused_and_nothing_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let place = format!("qemu-stream:{}", path.display());
        let host = Mutex::new(Local::default());
        let permits = Mutex::new(Permits::new(&[], &[]));
        let (near, far) = wire::pair().unwrap();
        let ask = || {
            let guest = Guest::example();
            let wish = Wish::Open {
                place: place.clone(),
                guest,
            };
            grant(&host, &permits, wish, &near).unwrap();
            wire::receive::<Answer>(&far).unwrap().unwrap().0
        };
        assert!(matches!(ask(), Answer::Refused(_)));
        assert!(!path.exists());
        let place = place.clone();
        lock(&permits).for_request(&Request::Attach { place });
        assert!(matches!(ask(), Answer::Served(_)));
        assert!(path.exists());
        assert!(matches!(ask(), Answer::Refused(_)), "once");
        // What is the network's own may go without being asked for.
        let close = Wish::Close {
            place: format!("qemu-stream:{}", path.display()),
        };
        grant(&host, &permits, close, &near).unwrap();
        assert!(!path.exists());
    }
}
