//! Storage in its own words: what is offered, what a volume is, when it counts as attached. No protobuf, no
//! Kubernetes types.

pub mod attachment;
pub mod class;
pub mod eligibility;
pub mod machine;
pub mod mark;
pub mod overhead;
pub mod placement;
pub mod site;
pub mod volume;
