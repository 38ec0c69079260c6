//! Pure decisions: what is wanted and what is seen in, what to do out. No client, no clock, no await.

pub mod cluster;
pub mod digest;
pub mod drain;
pub mod evacuation;
pub mod load_balancer;
pub mod machine;
pub mod maintenance;
pub mod node;
pub mod ownership;
pub mod pool;
pub mod project;
pub mod quota;
pub mod report;
pub mod teardown;
pub mod token;
