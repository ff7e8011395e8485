//! NAT engine with connection tracking, without I/O.
