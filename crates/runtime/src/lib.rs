//! The chassis of every Steading process: what is the same in each service stands here once.
//!
//! - [`process`] is the whole of a `main.rs`: arguments, telemetry, signals, ports, drain.
//! - [`server`] serves gRPC with one readable stack of layers; [`context`] is what they know about a call.
//! - [`channel`] calls other services with deadline, trace, request id and caller passed on.
//! - [`auth`] says who calls and what they may do; [`lease`] lets one replica reconcile.
//! - [`tasks`], [`clock`] and [`shutdown`] are the only homes of spawning, time and signals.
//! - [`admin`] tells operators how the process is; [`metrics`] and [`telemetry`] feed it.
//!
//! Invariants: every queue, body, stream, connection and retry has a bound; a dead task ends its group; a
//! `run` function ends soon after its token is cancelled, and what it started ends when it is dropped.

pub mod admin;
pub mod args;
pub mod auth;
pub mod channel;
pub mod clock;
pub mod context;
pub mod deadline;
pub mod kube;
pub mod lease;
pub mod metrics;
pub mod process;
pub mod server;
pub mod shutdown;
pub mod standard;
pub mod tasks;
pub mod telemetry;
pub mod trace;

pub use context::CallContext;
pub use tokio_util::sync::CancellationToken;
