//! Sans-I/O DHCPv4 server: bytes in, bytes out.
