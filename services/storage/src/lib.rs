//! placeholder
pub mod domain;
pub mod observe;
pub mod plan;
#[cfg(test)]
mod samples;
