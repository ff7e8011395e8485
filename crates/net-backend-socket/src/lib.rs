//! QEMU stream and dgram, vfkit unixgram and bess sockets as network back ends.
