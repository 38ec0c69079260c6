//! The storage service on the simulated API server, through its gRPC handlers.

mod attachments;
mod classes;
mod faults;
mod fixture;
mod volumes;
