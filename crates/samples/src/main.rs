//! The workshop applications.
fn main() {}
