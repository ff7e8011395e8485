//! The router as a guest sees it: ARP, ICMP, DHCP and DNS on one address, without I/O.
