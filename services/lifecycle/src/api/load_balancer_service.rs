//! `LoadBalancerService`.

use steading_api::lifecycle::v1::{self as proto, load_balancer_service_server::LoadBalancerService};
use steading_runtime::standard::{Methods, ResponseStream};
use tonic::{Request, Response, Status};

use super::load_balancers::LoadBalancers;
use crate::context::Context;

/// The service.
#[derive(Clone, Debug)]
pub struct LoadBalancerApi {
    load_balancers: Methods<LoadBalancers>,
}

impl LoadBalancerApi {
    /// The service with what calls have at hand.
    pub fn new(context: &Context) -> Self {
        let load_balancers = LoadBalancers {
            context: context.clone(),
        };
        Self {
            load_balancers: Methods::new(load_balancers, context.clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl LoadBalancerService for LoadBalancerApi {
    type WatchLoadBalancersStream = ResponseStream<proto::WatchLoadBalancersResponse>;

    async fn get_load_balancer(
        &self,
        request: Request<proto::GetLoadBalancerRequest>,
    ) -> Result<Response<proto::LoadBalancer>, Status> {
        self.load_balancers.get(request).await
    }

    async fn list_load_balancers(
        &self,
        request: Request<proto::ListLoadBalancersRequest>,
    ) -> Result<Response<proto::ListLoadBalancersResponse>, Status> {
        self.load_balancers.list(request).await
    }

    async fn watch_load_balancers(
        &self,
        request: Request<proto::WatchLoadBalancersRequest>,
    ) -> Result<Response<Self::WatchLoadBalancersStream>, Status> {
        self.load_balancers.watch(request).await
    }
}
