//! Virtual-machine networking: NAT, switch, DHCP and DNS behind one API.
