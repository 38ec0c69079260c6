//! The entry point of `steading-testbed`, which `cargo xtask testbed` calls.

fn main() {}
