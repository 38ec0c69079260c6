//! Types and rules of the domain: no proto, no client.

pub mod bootstrap;
pub mod drain;
pub mod kubeconfig;
pub mod machine;
pub mod pool;
pub mod rendering;
pub mod tenant;
pub mod version;
