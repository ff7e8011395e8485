//! The TCP relay: the guest and the host each run a full TCP, the relay mirrors one to the other.
