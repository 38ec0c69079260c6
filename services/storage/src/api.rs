//! The gRPC services: parse, authorise, ask the domain, convert.

pub mod acts;
pub mod checks;
pub mod class_service;
pub mod classes;
pub mod convert;
pub mod fields;
pub mod index;
pub mod presence;
pub mod quota;
pub mod snapshots;
pub mod sources;
pub mod status;
pub mod volume_service;
pub mod volumes;
