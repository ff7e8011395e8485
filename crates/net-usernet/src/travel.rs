//! How a guest's packet is to travel on, as options of the host's socket.

use socket2::Socket;

use crate::sys;

/// What the host's network is to do with a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Travel {
    /// Time to live that is left.
    pub(crate) ttl: u8,
    /// Whether the guest forbids fragmenting it.
    pub(crate) dont_fragment: bool,
}

/// The options a socket has; most packets need no change.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TravelOptions {
    ttl: Option<u8>,
    dont_fragment: Option<bool>,
}

impl TravelOptions {
    /// Gives `socket` the options that the next packet needs. Where the host refuses one, the
    /// packet goes with what the socket has.
    pub(crate) fn prepare(&mut self, socket: &Socket, v6: bool, travel: Travel) {
        if self.ttl != Some(travel.ttl) && sys::set_ttl(socket, v6, travel.ttl).is_ok() {
            self.ttl = Some(travel.ttl);
        }
        if self.dont_fragment != Some(travel.dont_fragment) {
            sys::set_dont_fragment(socket, v6, travel.dont_fragment);
            self.dont_fragment = Some(travel.dont_fragment);
        }
    }
}
