//! Two processes for one network.
//!
//! The *keeper* is the process that was started. It opens, binds, makes and unmakes whatever needs a
//! path or a privilege, answers the control socket, and never sees a byte that a guest has sent. The
//! *server*, started by it, carries the packets, and can do nothing else any more.
//!
//! | module | its job |
//! |---|---|
//! | `process` | the keeper: starts the server and ends it |
//! | `grant` | what the server asks for, done or refused |
//! | `serving` | the server's beginning and end, inside its process |
//! | `relay`, `permits` | the control socket, and what the server may ask for because a user did |
//! | `wire`, `remote` | what the two say to each other |
//! | `feed` | connections to a path that the keeper makes for the server, again and again |
//! | `confine` | how the server closes the doors behind itself |
//! | `attempts` | whether they are closed, tried |
//! | `in_process` | everything in one process, on systems without such doors |

#[cfg(target_os = "linux")]
mod attempts;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod feed;
#[cfg(target_os = "linux")]
mod grant;
#[cfg(not(target_os = "linux"))]
mod in_process;
#[cfg(target_os = "linux")]
mod permits;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod serving;
#[cfg(target_os = "linux")]
mod wire;

#[cfg(target_os = "linux")]
pub(crate) use attempts::{attempts, probe as probe_confinement};
#[cfg(target_os = "linux")]
pub(crate) use feed::{Feed, next_connection};
#[cfg(not(target_os = "linux"))]
pub(crate) use in_process::{Keeper, Running};
#[cfg(target_os = "linux")]
pub(crate) use process::{Keeper, Running};
#[cfg(target_os = "linux")]
pub(crate) use serving::server;
