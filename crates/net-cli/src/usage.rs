//! The usage text, and the error that ends the program with status 2.

use std::fmt;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
arcbox-net: networks for virtual machines, containers and commands, without root

    arcbox-net run  [NETWORK OPTIONS] -- CMD [ARG...]   run CMD on a network of its own
    arcbox-net qemu [NETWORK OPTIONS] -- QEMU [ARG...]  start QEMU with a virtio NIC on a network
    arcbox-net up   [-f FILE.toml] [NETWORK OPTIONS] [ATTACH...]
                                                        serve until SIGINT or SIGTERM
    arcbox-net demo                                     show every part at work
    arcbox-net doctor                                   what this machine can do, and why not

NETWORK OPTIONS
    --mode nat|bridge|host-only   how the network meets the world (nat)
    --subnet CIDR                 addresses of the network (10.0.2.0/24)
    --mtu N                       largest IP packet, 576 to 65520 (1500)
    -p, --publish [ADDR:]PORT:GUESTPORT[/tcp|/udp]
                                  lead a port of the host to the first guest; may be repeated
    --dns ADDR...                 resolvers to ask in place of the host's own
    --domain NAME                 domain of the gateway and the guests (internal)
    --host-loopback               the gateway's address leads to the host's 127.0.0.1
    --pcap FILE                   capture every frame into FILE

ATTACH (each may be repeated: many guests, one network)
    --qemu-stream PATH            QEMU -netdev stream,addr.type=unix,addr.path=PATH
    --qemu-dgram PATH             QEMU -netdev dgram,...,remote.type=unix,remote.path=PATH
    --vfkit PATH                  vfkit, libkrun, Virtualization.framework: unixgram
    --bess PATH                   SOCK_SEQPACKET
    --vz-fd N                     Virtualization.framework: the inherited end of a socket pair
    --vmnet shared|host-only|bridged=IF
                                  macOS: the switch alone, its way out, DHCP and DNS by macOS
                                  (as root, or with the entitlement com.apple.vm.networking)
    --netns NAME-OR-PID           a network namespace: gets an interface, address and route

ARCBOX_NET_LOG=error|warn|info|debug|trace sets how much is said on standard error (warn).
";

/// The user asked for something that cannot be: one line, exit status 2.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        // A message that quotes the user may contain anything; it stays one line.
        let line: String = what
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self(line)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(err: lexopt::Error) -> Self {
        Self::new(err)
    }
}

impl From<net_manager::ManagerError> for UsageError {
    fn from(err: net_manager::ManagerError) -> Self {
        Self::new(err)
    }
}
