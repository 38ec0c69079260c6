//! `LoadBalancerService`: shows what the tenants' Services became.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt};
use steading_api::{
    error::RpcError,
    lifecycle::v1::{
        GetLoadBalancerRequest, ListLoadBalancersRequest, ListLoadBalancersResponse, LoadBalancer as Message,
        WatchLoadBalancersRequest, WatchLoadBalancersResponse,
        load_balancer_service_server::{LoadBalancerService, LoadBalancerServiceServer},
    },
    types::v1::ErrorReason,
};
use steading_infra::labels;
use steading_model::name::{ClusterName, LoadBalancerName};
use steading_runtime::{
    CallContext,
    collection::{self, Collection, Keys, ListRequest, Scope, WatchRequest},
    server::GrpcServer,
};
use tonic::{Request, Response, Status};

use super::{
    KEYS,
    convert::{ResponseStream, load_balancer as convert, responses},
};
use crate::{context::Context, observe::load_balancer::slices_by_service, plan::load_balancer::Balanced};

/// Adds the service to a server.
pub fn add(server: GrpcServer, context: &Context) -> GrpcServer {
    let api = LoadBalancerApi {
        balancers: LoadBalancers {
            context: context.clone(),
        },
    };
    server.add_service(LoadBalancerServiceServer::new(api))
}

/// Load balancers as Services of the infra cluster.
#[derive(Clone, Debug)]
pub struct LoadBalancers {
    context: Context,
}

impl Collection for LoadBalancers {
    type Object = Service;
    type Message = Message;

    const KIND: &'static str = "LoadBalancer";
    const MESSAGE: &'static str = "steading.lifecycle.v1.LoadBalancer";
    const FIELD: &'static str = "load_balancer";
    const KEYS: Keys = KEYS;

    fn api(&self, name_or_parent: &str) -> Result<Api<Service>, RpcError> {
        let namespace = match name_or_parent.parse::<LoadBalancerName>() {
            Ok(name) => name.namespace(),
            Err(_) => parent(name_or_parent)?.namespace(),
        };
        Ok(self.context.namespaced(&namespace))
    }

    fn scope(&self, text: &str) -> Result<Scope, RpcError> {
        parent(text)?;
        Ok(Scope {
            selector: labels::LOAD_BALANCER.to_owned(),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        let parsed: LoadBalancerName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        let id = parsed.object_name();
        let Some((namespace, service)) = id.split_once('.') else {
            return Err(RpcError::not_found(Self::KIND, name));
        };
        let cluster = parsed.namespace();
        Ok(Balanced {
            cluster,
            namespace: namespace.to_owned(),
            service: service.to_owned(),
        }
        .infra_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        Ok(format!("{parent}/loadBalancers/{id}"))
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Service) -> Option<Message> {
        let slices = slices_by_service(&self.context.observed, &object.namespace()?)
            .remove(&object.name_any())
            .unwrap_or_default();
        convert::message(object, &slices)
    }

    async fn object(&self, _: &str, _: &Message, _: Option<&Service>) -> Result<Service, RpcError> {
        Err(RpcError::new(
            ErrorReason::InvalidState,
            "load balancers are made by Services of the tenant cluster",
        ))
    }
}

fn parent(text: &str) -> Result<ClusterName, RpcError> {
    text.parse().map_err(|e| RpcError::invalid_name("parent", &e))
}

/// The service's methods.
#[derive(Clone, Debug)]
pub struct LoadBalancerApi {
    balancers: LoadBalancers,
}

#[tonic::async_trait]
impl LoadBalancerService for LoadBalancerApi {
    type WatchLoadBalancersStream = ResponseStream<WatchLoadBalancersResponse>;

    async fn get_load_balancer(&self, request: Request<GetLoadBalancerRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.balancers, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_load_balancers(
        &self,
        request: Request<ListLoadBalancersRequest>,
    ) -> Result<Response<ListLoadBalancersResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (load_balancers, next_page_token) = collection::list(&self.balancers, &call, &list).await?;
        Ok(Response::new(ListLoadBalancersResponse {
            load_balancers,
            next_page_token,
        }))
    }

    async fn watch_load_balancers(
        &self,
        request: Request<WatchLoadBalancersRequest>,
    ) -> Result<Response<Self::WatchLoadBalancersStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.balancers, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchLoadBalancersResponse {
            r#type: event.kind.into(),
            load_balancer: event.message,
            resume_token: event.resume_token,
        })))
    }
}
