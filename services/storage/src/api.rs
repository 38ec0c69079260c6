//! The gRPC services: parse, authorise, ask the domain, convert.

pub mod actions;
pub mod checks;
pub mod class_service;
pub mod classes;
pub mod convert;
pub mod list;
pub mod quota;
pub mod snapshots;
pub mod status;
pub mod volume_service;
pub mod volumes;
pub mod watch;

use std::pin::Pin;

use futures::Stream;
use tonic::Status;

/// What a streaming method returns.
pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
