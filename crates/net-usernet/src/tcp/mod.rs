//! The TCP relay: the guest and the host each run a full TCP, the relay mirrors one to the other.
//!
//! # Theory of operation
//!
//! A guest's connection ends at the relay, and a socket of the host continues it. The relay keeps
//! no byte of either direction; it keeps sequence numbers.
//!
//! **Host to guest.** Data is *peeked* from the host socket, straight into the packet that carries
//! it, as far as the guest's window reaches. It stays in the kernel's receive queue until the guest
//! acknowledges it, and only then is it *consumed*: the receive queue is the retransmission
//! buffer. A guest that reads slowly closes its window, the queue fills, the host kernel closes
//! the window of the far end. Nothing in between can overflow.
//!
//! **Guest to host.** Data in order is written to the host socket straight from the packet, and
//! what the socket took, and nothing else, is acknowledged. The advertised window is the free
//! space of the socket's send buffer. Data out of order is dropped with a duplicate ACK: between
//! a guest and its host there is no reordering worth a buffer.
//!
//! **Opening.** A SYN of the guest starts a connect on the host, and is answered when that has
//! ended: with a SYN-ACK, a RST or an ICMP error, as the host was. A host that does not answer is
//! not answered for. Connections to published ports run the other way round: the host's
//! connection exists, and the guest is asked with a SYN that carries the client's address.
//!
//! **Work.** Calls only note what is to be done for which flow; [`TcpRelay::flush`] does it, once
//! per flow and batch: one ACK, one window look-up, one consume for many segments. While such work is left,
//! [`TcpRelay::next_deadline`] is [`Duration::ZERO`](core::time::Duration::ZERO), and
//! [`TcpRelay::on_deadline`] continues it. A flow that can neither send nor receive is not
//! looked at until an event, an ACK or its timer says otherwise.
//!
//! # Parts
//!
//! | module | its part |
//! |---|---|
//! | `relay` | [`TcpRelay`]: calls from outside, flows that have work, timers that fire |
//! | `open` | connections being opened, by the guest or by a client of a published port |
//! | `receive` | a segment of the guest on a known flow |
//! | `transmit` | data and acknowledgments towards the guest |
//! | `retransmit` | what a flow's timer does |
//! | `flow`, `table`, `timers`, `rtt`, `isn` | the state: one flow, all flows, their deadlines |
//! | `emit` | packets on their way to the guest |
//! | `socket` | [`TcpHost`]: what the relay asks of the host's sockets |
//! | [`host`] | [`host::MioTcpHost`]: real sockets |
//!
//! # What is not here
//!
//! - SACK and timestamps are never offered: the relay holds no out-of-order data it could report,
//!   and its round-trip times are those of one machine.
//! - The urgent pointer is ignored; urgent bytes are delivered in their place in the stream
//!   (RFC 6093 advises applications not to rely on it).
//! - There is no congestion control towards the guest beyond a restart after a time-out: the
//!   guest's window and the readiness of its queue limit what is in flight.
//! - Simultaneous open towards a guest: such a SYN is ignored, the guest's SYN-ACK decides.

mod config;
mod emit;
mod flow;
pub mod host;
mod isn;
mod open;
mod receive;
mod relay;
mod reorder;
mod retransmit;
mod rtt;
mod socket;
mod sys;
mod table;
mod timers;
mod transmit;

pub use config::RelayConfig;
pub use relay::TcpRelay;
pub use socket::{ConnectError, HostSocket, Readiness, SendSpace, TcpHost, Unreachable};
