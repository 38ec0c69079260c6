//! The suite on the real control plane: conformance, the demonstration, faults, and what requests cost.
//!
//! One test bed serves all tests, one after the other; each leaves it as it found it. It ends with this process.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, also in its helpers, and shows its figures"
)]

mod bed;
mod conformance;
mod demo;
mod leftovers;
mod requests;
