//! NAT without privileges: relays guest flows to host sockets.
