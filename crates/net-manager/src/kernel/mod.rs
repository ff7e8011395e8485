//! Networks in the kernel: a bridge, TAP devices and namespaces on it, rules of nftables.
//!
//! ```text
//!   VM opens ──► TAP ─┐
//!   namespace ◄─ veth ┤                    nftables        world
//!                     ├─ bridge (router) ══ forwards, NAT ══►
//!   worker ─── TAP ───┘    10.0.2.1
//!   gateway: DHCP, DNS     `service port`
//!   10.0.2.2
//! ```
//!
//! No frame between two ports of the bridge, or between a port and the world, passes through a
//! process. The worker's switch stands behind one port and brings the gateway and the guests that
//! come by socket.
//!
//! | module | its job |
//! |---|---|
//! | `network` | [`KernelNetwork`]: makes a network, changes it while it runs, takes it away |
//! | `plan` | what is to be made, checked before anything is |
//! | `journal`, `state` | what has been made, in a file that outlives the process, under a lock that does not |
//! | `undo` | takes back what a journal says, whoever wrote it |
//! | `forwarding` | the one setting that networks share |
//! | `reserved` | the host's ports that lead to guests are nobody else's |
//! | `take_over` | a physical interface gives its addresses to the bridge and gets them back |
//! | `served` | [`ServedTaps`]: devices for machines of networks that are not in the kernel |
//! | `ops` | [`KernelOps`]: what the worker's side asks for, in this process or another |
//! | `system`, `host` | what is needed of the kernel, and the kernel |

#[cfg(test)]
mod fake;
mod forwarding;
mod host;
mod journal;
mod names;
mod network;
mod ops;
mod plan;
mod reserved;
mod served;
mod state;
mod system;
mod take_over;
#[cfg(test)]
mod tests;
mod undo;

pub use network::KernelNetwork;
pub use ops::{
    KernelAttach, KernelForward, KernelOps, KernelPort, MacvtapPort, NetnsPort, TapPort,
};
pub use served::ServedTaps;
pub use state::{Held, StateDir};
pub use undo::Recovered;

pub(crate) use host::can;
pub(crate) use plan::router_mac;
