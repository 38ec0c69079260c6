//! Actions → requests to the infra cluster, a tenant or another service. No decisions.

pub mod annotation;
pub mod consent;
pub mod detach;
pub mod event;
pub mod evict;
pub mod intent;
pub mod load_balancer;
pub mod machine;
pub mod migration;
pub mod namespace;
pub mod project;
pub mod render;
pub mod status;
pub mod token;
