//! Actions → requests to the infra cluster, a tenant or another service. No decisions.

pub mod detach;
pub mod drain;
pub mod machine;
pub mod render;
pub mod status;
