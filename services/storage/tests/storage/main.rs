//! The storage service on the simulated API server, through its gRPC handlers.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::similar_names,
    reason = "tests say what they expect by failing"
)]

mod attachments;
mod classes;
mod faults;
mod fixture;
mod quota;
mod truth;
mod volumes;
mod watches;
