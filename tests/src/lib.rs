//! What the whole-stack tests share: a stack of their own each, a small HTTP client, and waits with a deadline.
//!
//! The tests use public APIs only: REST and gRPC at the gateway, Kubernetes at the infra cluster.

pub mod http;
pub mod stack;
pub mod wait;
