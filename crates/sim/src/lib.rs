//! The simulated infra cluster: an in-memory Kubernetes API server and, on top of it, the controllers that play hardware, KubeVirt and CDI.
//!
//! Everything meets at `kube::Client`: [`apiserver::ApiServer::client`] gives one in the same process without a socket, [`http::serve`]
//! the same server over HTTP for `kubectl` and for other processes. [`play`] lets the same controllers play what is missing beside a real control plane. [`faults`] makes it fail on demand, [`counters`] counts its requests, [`time`] is its clock.
//!
//! Invariants: every object has one state a revision and watchers see all states in order; what a real API server refuses is refused with
//! the same code, reason and causes; every log, page, body and table of ours is bounded.

pub mod apiserver;
pub mod behaviour;
pub mod counters;
pub mod faults;
pub mod http;
pub mod play;
pub mod sim;
pub mod time;

pub use sim::{Sim, SimConfig};
