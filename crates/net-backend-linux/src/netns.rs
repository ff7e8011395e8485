//! Network namespaces as guests: a command on a network of its own, or a namespace that exists.
//!
//! A namespace can be left and entered only by a process with a single thread, so this is the
//! work of a helper: the program starts itself once more, the new process calls [`child_setup`],
//! and the descriptor of the interface comes back over a socket.
//!
//! ```text
//! parent                               helper (the same program, freshly started)
//! spawn(command, &spec)  ── spec ────► child_setup():
//!                                        new user, network and mount namespace, or join one
//!                                        interface, addresses, routes, resolv.conf, /sys
//!          Attachment   ◄── fd, ready ─
//! child.go()            ── go ───────► Outcome::Run: exec of the user's command
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`NamespaceSpec`], [`Target`] | what is wanted |
//! | [`spawn`], [`Attachment`], [`NamespaceChild`] | the parent's side |
//! | [`prepare`], [`Prepared`] | the same, for an interface that a third process is to serve |
//! | [`child_setup`], [`Outcome`] | the helper's side |
//!
//! As an ordinary user the helper makes a user namespace in which it is root over its own network
//! and mounts, and nothing else. With CAP_SYS_ADMIN there is no user namespace: the command is the
//! user it was.

mod child;
mod join;
mod mounts;
mod parent;
mod spec;
mod user;
mod wire;

pub use child::{Outcome, child_setup};
pub use parent::{
    Attachment, DeviceName, NamespaceChild, Prepared, SOCKET_VARIABLE, prepare, spawn,
};
pub use spec::{NamespaceSpec, Target};
