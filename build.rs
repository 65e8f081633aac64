//! Builds the guest toolbox.
fn main() {}
