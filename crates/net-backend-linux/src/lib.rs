//! TAP devices, network namespaces and rtnetlink for Linux.
