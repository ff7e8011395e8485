//! The usage text, and the error that ends the program with status 2.

use std::fmt;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
arcbox-net: networks for virtual machines, containers and commands

    arcbox-net run  [NETWORK OPTIONS] -- CMD [ARG...]   run CMD on a network of its own
    arcbox-net qemu [NETWORK OPTIONS] [--vhost-user] -- QEMU [ARG...]
                                                        start QEMU with a virtio NIC on a network;
                                                        in its shared memory with --vhost-user
    arcbox-net up   [-f FILE.toml] [NETWORK OPTIONS] [ATTACH...]
                                                        serve until SIGINT or SIGTERM
    arcbox-net demo                                     show every part at work
    arcbox-net doctor                                   what this machine can do, and why not

A network of `up`, while it runs (the only one, unless --name says which):
    arcbox-net status [NAME] [--json]                   engine and why, guests, published ports
    arcbox-net publish [ADDR:]PORT:GUESTPORT[/tcp|/udp] [--guest NAME|ADDRESS]
    arcbox-net unpublish [ADDR:]PORT[/tcp|/udp]
    arcbox-net attach KIND:WHERE[,OPTION=VALUE...]      as --attach below
    arcbox-net detach GUEST
    arcbox-net stop [NAME]
    arcbox-net clean [NAME]                             undo what a dead process has left

NETWORK OPTIONS
    --name NAME                   the network's name (default)
    --mode nat|bridge|host-only   how the network meets the world (nat)
    --engine user|kernel|fast     who translates addresses: sockets of this process, the kernel,
                                  our own translator (kernel where privileges allow, else user)
    --fallback user               what to take where the mode or the engine cannot be had
    --bridge IF                   a bridge of the host to join, in bridge mode
    --take-over IF                its addresses and routes move to the bridge, and back at the end
    --isolated                    guests reach the host and the way out, not one another
    --storm KIND=N|off[,...]      what a guest may have flooded, in frames a second, of the kinds
                                  broadcast (1000), multicast (10000), unknown (1000)
    --snooping                    IGMP and MLD snooping: a group's frames go to who listens
    --queues N                    queue pairs of the TAP devices made for guests, and of the NIC of
                                  qemu --vhost-user (1)
    --poll                        never sleep while a machine's memory is shared (--vhost-user): the
                                  least delay there is, for the whole of one processor
    --poll-us N                   or only so many microseconds after it sent something, less where
                                  nothing comes; 0 to 1000 (50)
    --reserve MAC|NAME=ADDRESS    an address kept for one guest; may be repeated
    --uplink tap:NAME|if:NAME     with --engine fast: the way out,
    --outside ADDRESS/PREFIX        the address that all guests share there,
    --via ADDRESS                   and the router;
    --outside6 ADDRESS/PREFIX       the same of IPv6, which does not leave without it,
    --via6 ADDRESS                  and the router (those that advertise themselves)
    --state-dir DIR               where networks keep lock, journal and control socket
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
    --vhost-user PATH[,server=on|off][,queues=N]
                                  virtio-net itself, in the machine's shared memory (Linux): QEMU
                                  -netdev vhost-user, Cloud Hypervisor --net vhost_user=true,socket=;
                                  with server=off the machine listens, and is called again (on)
    --vz-fd N                     Virtualization.framework: the inherited end of a socket pair
    --vmnet shared|host-only|bridged=IF
                                  macOS: the switch alone, its way out, DHCP and DNS by macOS
                                  (as root, or with the entitlement com.apple.vm.networking)
    --netns NAME-OR-PID           a network namespace: gets an interface, address and route
    --tap NAME                    a TAP device that exists, served by this program
    --attach KIND:WHERE           any of these (qemu-stream:PATH, netns:NAME, served-tap:NAME), or
      tap:NAME[,queues=N][,owner=UID][,group=GID][,vlan=ID]
                                  a TAP device made for a machine that opens it itself
      macvtap:IF[,name=NAME][,owner=UID]
                                  the same on a physical interface, for hosts without bridges
      Behind a place that this program serves, for its switch (engines user and fast):
      [,vlan=ID]                  an access VLAN: guests of the same one, and the gateway
      [,isolated=on]              the gateway and the way out, no guest
      [,mirrored=on] [,mirror=on] what it sends and is sent is copied to the mirror port; this is it
      [,moves=on]                 its guest may be moved, running, to another that says so (vhost-user)

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
