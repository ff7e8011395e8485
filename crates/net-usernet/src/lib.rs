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
//!
//! # What a guest can reach
//!
//! What an ordinary program of the same user on the host can reach, the host's own addresses
//! included, **except**: the host's loopback (127.0.0.0/8, ::1, whatever stands for it, such as
//! 0.0.0.0 and ::ffff:127.0.0.1), link-local addresses with the clouds' metadata services
//! (169.254.0.0/16, fe80::/10, fd00:ec2::254), 240.0.0.0/4, multicast and broadcast. With
//! [`Config::host_loopback`] the gateway's address leads to the host's loopback; without it, the
//! gateway's ports are closed. No packet to a guest carries an address of the host that the guest
//! did not itself write to. The same holds for IPv6, where the network has it
//! ([`Config::gateway6`]): flows, fragments, echo and errors are relayed as those of IPv4 are, each
//! to a socket of its own family; one family is never translated to the other.
//!
//! # What is not here
//!
//! - ICMP other than echo, and IP protocols other than TCP, UDP and ICMP: there is no socket for
//!   them. They are refused and counted.
//! - DSCP and ECN of UDP datagrams do not cross the relay, and a reply's time to live is 64.
//! - Errors of the network come back to the guest on Linux only; other systems do not tell which
//!   datagram an error is about.
//! - Application gateways: nothing looks into a payload, or rewrites one.
//!
//! # Example
//!
//! A guest asks a closed port of the gateway and is told so.
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use std::time::Duration;
//!
//! use net_datapath::{PacketBuf, PacketPool, PoolConfig, VirtioNetHdr, ZeroCopyPacket};
//! use net_usernet::{Config, Egress, GuestLink, SendStatus, Subnet, UserNet};
//!
//! /// One guest at port 1 of the switch.
//! struct Wire(PacketPool, Vec<Vec<u8>>);
//!
//! impl Egress for Wire {
//!     fn link(&self, _guest: IpAddr) -> Option<GuestLink> {
//!         let (port, mtu, ready) = (1, 1500, true);
//!         Some(GuestLink { port, mtu, ready, tso4: false, tso6: false, uso: false, csum: false })
//!     }
//!     fn buffer(&mut self, len: usize) -> Option<PacketBuf> {
//!         self.0.alloc().filter(|buffer| buffer.tailroom() >= len)
//!     }
//!     fn send(&mut self, _: IpAddr, _: VirtioNetHdr, packet: PacketBuf) -> SendStatus {
//!         self.1.push(packet.as_slice().to_vec());
//!         SendStatus::Sent
//!     }
//! }
//!
//! let subnet = Subnet { addr: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 };
//! let seed = [0; 16]; // a real one comes from the operating system
//! let config = Config::new(Ipv4Addr::new(10, 0, 2, 1), subnet, seed);
//! let poll = mio::Poll::new()?;
//! let mut net = UserNet::new(config, poll.registry().try_clone()?, 1000)?;
//!
//! // Ethernet, IPv4 from 10.0.2.15 to 10.0.2.1, UDP from port 4000 to port 9, no checksum.
//! let mut frame = vec![0; 14 + 20 + 8];
//! frame[12..14].copy_from_slice(&[0x08, 0x00]);
//! net_wire::ipv4::Ipv4Repr {
//!     src: Ipv4Addr::new(10, 0, 2, 15),
//!     dst: Ipv4Addr::new(10, 0, 2, 1),
//!     protocol: 17,
//!     ttl: 64,
//!     tos: 0,
//!     id: 0,
//!     dont_fragment: true,
//!     payload_len: 8,
//! }
//! .emit(&mut frame[14..]);
//! net_wire::udp::emit(&mut frame[34..], 4000, 9, 0, 0);
//!
//! let pool = PacketPool::new(PoolConfig { buffers: 8, buffer_size: 2048, headroom: 64 }).unwrap();
//! let mut wire = Wire(pool, Vec::new());
//! let packet = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN).unwrap();
//! net.ingress(1, &packet, Duration::ZERO, &mut wire);
//! assert_eq!(wire.1[0][20..22], [3, 3]); // ICMP: port unreachable
//! # Ok::<(), std::io::Error>(())
//! ```
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
#[cfg(test)]
mod ipv6_tests;
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

pub use config::{Config, Limits, Subnet, Subnet6, Timeouts};
pub use egress::{Egress, GuestLink, PortId, SendStatus};
pub use forward::{Forward, ForwardId, Protocol, PublishError, bind_published};
pub use icmp::{PingUnavailable, probe_ping_sockets};
pub use statistics::{
    DropStatistics, PingStatistics, ReassemblyStatistics, Statistics, TcpStatistics, UdpStatistics,
};
pub use tcp::host::ServiceConnection;
pub use usernet::UserNet;
