//! The `steading` command: the whole system in one process, a demonstration of it, and the user's commands.
//!
//! - `up` starts a stack (`steading-stack`): the services, the gateway and, unless a kubeconfig is given, a simulated infra cluster.
//! - [`demo`] drives a stack through its public API from an empty infra cluster to a drained node, then checks it.
//! - [`commands`] act on resources of any kind; they are driven by the contracts' descriptors ([`kinds`], [`client`]).
//!
//! Nothing here decides anything about machines: what the services do not serve, the command cannot do.

pub mod args;
pub mod client;
pub mod commands;
pub mod demo;
pub mod exit;
pub mod kinds;
pub mod output;
pub mod run;
