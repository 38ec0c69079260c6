//! The vocabulary that every part of Steading shares: ids and resource names, quantities,
//! filters, page tokens and the collector of field violations.
//!
//! Everything in here is a value or a pure function. There is no IO, no clock and no async: whatever parses,
//! parses once at the edge, and the types that come out cannot hold anything invalid.

pub mod derived;
pub mod filter;
pub mod ids;
pub mod name;
pub mod page;
pub mod quantity;
pub mod violation;
