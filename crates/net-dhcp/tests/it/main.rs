//! Tests of the server and the client through their public interface, in simulated time.

mod client;
mod guest;
mod hostile;
mod interop;
mod leases;
mod property;
mod rows;
