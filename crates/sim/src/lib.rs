//! The simulated infra cluster: an in-memory Kubernetes API server (`steading-kubesim`) and, on top of it, the controllers that play hardware,
//! KubeVirt and CDI.
//!
//! Everything meets at `kube::Client`. [`kinds`] registers KubeVirt's and CDI's kinds, [`behaviour`] has the controllers, [`play`] is the one
//! list of them: it also lets the same controllers play what is missing beside a real control plane. [`Sim`] is all of it in one value.

pub mod behaviour;
pub mod kinds;
pub mod play;
pub mod sim;

pub use sim::{Sim, SimConfig, infra_api_server};
