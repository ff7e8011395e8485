//! Sans-I/O DNS forwarder with a bounded cache and local names: bytes in, actions out.
