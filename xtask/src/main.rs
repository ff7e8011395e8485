//! Build, test, bench and check tasks of the workspace.

fn main() {}
