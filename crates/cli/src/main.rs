//! The `ironmesh` command.
fn main() {}
