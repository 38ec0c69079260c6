//! The engine of methods against the simulated API server: pools that are ConfigMaps stand for any resource.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fixture;
mod indexes;
mod reads;
mod watches;
mod writes;
