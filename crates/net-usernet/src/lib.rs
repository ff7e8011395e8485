//! NAT without privileges: relays guest flows to host sockets.
//!
//! **What it is for:** giving virtual machines the host's network when the host grants nothing
//! but ordinary sockets. It takes the IP packets that leave a virtual network and gives back the
//! IP packets that answer them. **What it is not:** a router, a switch or a TCP stack of its own;
//! the guest's kernel and the host's kernel both run one, and the relay joins the two.
//!
//! | module | its part |
//! |---|---|
//! | [`tcp`] | TCP flows: sequence numbers and windows mirrored between guest and host |
//! | `udp` | UDP flows, one host socket per guest socket; clients of published UDP ports |
//! | `icmp` | echo through unprivileged ICMP sockets |
//! | `reassembly` | fragments of the guests, bounded in number, bytes and time |
//! | `forward` | published ports |
//! | `address` | which destinations a guest may reach |
//! | `compose`, `deliver`, `errors` | packets towards the guest |
//! | `sys` | the socket calls that the standard library lacks |
//!
//! The caller owns the event loop: it passes packets, readiness events and deadlines in, and gets
//! packets through [`Egress`]. Nothing here blocks, reads a clock or starts a thread.
#![deny(unsafe_code)]

mod address;
mod compose;
mod config;
mod deliver;
mod egress;
mod errors;
mod forward;
mod hash;
mod icmp;
mod listen;
mod order;
mod reassembly;
mod statistics;
mod sys;
mod table;
pub mod tcp;
#[cfg(test)]
mod testing;
mod token;
mod travel;
mod turn;
mod udp;
mod usernet;
mod waiting;

pub use config::{Config, Limits, Subnet, Timeouts};
pub use egress::{Egress, GuestLink, PortId, SendStatus};
pub use forward::{Forward, ForwardId, Protocol, PublishError};
pub use icmp::{PingUnavailable, probe_ping_sockets};
pub use statistics::{
    DropStatistics, PingStatistics, ReassemblyStatistics, Statistics, TcpStatistics, UdpStatistics,
};
pub use tcp::host::ServiceConnection;
pub use usernet::UserNet;
