//! The gRPC services: parse, authorise, store intent, convert. Nothing here acts on a machine.

pub mod cluster_service;
pub mod clusters;
pub mod convert;
pub mod kubeconfigs;
pub mod load_balancer_service;
pub mod load_balancers;
pub mod machine_service;
pub mod machines;
pub mod maintenance_service;
pub mod maintenances;
pub mod metadata;
pub mod pool_quota;
pub mod pools;
pub mod presence;
pub mod preview;
pub mod project_service;
pub mod projects;
pub mod status;

use steading_api::lifecycle::v1::{
    cluster_service_server::ClusterServiceServer, load_balancer_service_server::LoadBalancerServiceServer,
    machine_service_server::MachineServiceServer, maintenance_service_server::MaintenanceServiceServer,
    project_service_server::ProjectServiceServer,
};
use steading_runtime::server::GrpcServer;

use self::{
    cluster_service::ClusterApi, load_balancer_service::LoadBalancerApi, machine_service::MachineApi,
    maintenance_service::MaintenanceApi, project_service::ProjectApi,
};
use crate::context::Context;

/// Adds every gRPC service to a server.
pub fn add_services(server: GrpcServer, context: &Context) -> GrpcServer {
    server
        .add_service(ProjectServiceServer::new(ProjectApi::new(context)))
        .add_service(ClusterServiceServer::new(ClusterApi::new(context)))
        .add_service(MachineServiceServer::new(MachineApi::new(context)))
        .add_service(MaintenanceServiceServer::new(MaintenanceApi::new(context)))
        .add_service(LoadBalancerServiceServer::new(LoadBalancerApi::new(context)))
}
