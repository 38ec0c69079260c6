//! The gRPC services: parse, authorise, store intent, convert. Nothing here acts on a machine.

pub mod cluster;
pub mod convert;
pub mod load_balancer;
pub mod machine;
pub mod machine_pool;
pub mod maintenance;
pub mod project;
pub mod status;

use steading_runtime::{collection::Keys, server::GrpcServer};

use crate::context::Context;

/// Annotations of requests, and what does not belong to users.
pub const KEYS: Keys = Keys {
    request_id: steading_infra::labels::REQUEST_ID,
    request_hash: steading_infra::labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "intent.steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
        "kubevirt.io/",
        "vm.kubevirt.io/",
    ],
};

/// Adds every gRPC service to a server.
pub fn add_services(server: GrpcServer, context: &Context) -> GrpcServer {
    let server = server
        .add_service(project::service(context))
        .add_service(cluster::service(context));
    let server = server.add_service(machine::service(context));
    let server = maintenance::add(server, context);
    load_balancer::add(server, context)
}
