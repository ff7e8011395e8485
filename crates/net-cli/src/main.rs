//! The program arcbox-net: networks for virtual machines, containers and commands.

fn main() {}
