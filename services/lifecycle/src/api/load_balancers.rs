//! The collection of load balancers: what the tenants' Services became. Only read; Services of the tenant cluster make them.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt};
use steading_api::lifecycle::v1 as proto;
use steading_infra::labels;
use steading_model::name::{ClusterName, LoadBalancerName, Within};
use steading_runtime::standard::{Collection, Keys, Presence};

use super::{convert::load_balancer as convert, metadata::KEYS, presence::of_cluster};
use crate::{context::Context, observe::load_balancer::slices_by_service, plan::load_balancer::Balanced};

/// Load balancers as Services of the infra cluster.
#[derive(Clone, Debug)]
pub struct LoadBalancers {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for LoadBalancers {
    type Object = Service;
    type Resource = proto::LoadBalancer;
    type Name = LoadBalancerName;

    const KEYS: Keys = KEYS;

    fn api(&self, namespace: Option<&str>) -> Api<Service> {
        namespace.map_or_else(|| self.context.all(), |namespace| self.context.namespaced(namespace))
    }

    fn resource(&self, object: &Service) -> Option<proto::LoadBalancer> {
        let slices = slices_by_service(&self.context.observed, &object.namespace()?)
            .remove(&object.name_any())
            .unwrap_or_default();
        convert::message(object, &slices)
    }

    fn object_name(&self, name: &LoadBalancerName) -> String {
        let id = name.object_name();
        // Without a dot it is nobody's name, and nothing is found.
        let Some((namespace, service)) = id.split_once('.') else {
            return id;
        };
        let balanced = Balanced {
            cluster: name.namespace(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
        };
        balanced.infra_name()
    }

    fn selector(&self, _: &Within<ClusterName>) -> String {
        labels::LOAD_BALANCER.to_owned()
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        of_cluster(&self.context, within).await
    }
}
