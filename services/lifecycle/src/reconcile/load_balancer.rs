//! Keeps the load balancers of one cluster: tenant Services → infra Services with endpoints → addresses back.
//!
//! The tenant's Service carries the finalizer that every cloud provider uses, so it stays until its infra objects are gone. While
//! the tenant does not answer nothing is made or removed; only the endpoints follow the machines.

mod backends;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use steading_infra::{
    apply::{self, FieldManager},
    error::{InfraError, optional},
    labels, list,
};

use super::Outcome;
use crate::{
    context::Context,
    error::Error,
    plan::load_balancer::{
        Balanced, Claim, claim_of, endpoints::render_slices, ingress_of, is_applied, render_service,
    },
};

const MANAGER: FieldManager = FieldManager::Lifecycle;
/// Finalizer of every cloud provider on Services of type LoadBalancer.
pub const CLEANUP_FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// How often a Service with `externalTrafficPolicy: Local` looks where its pods are; its tenant's slices are not watched.
const FOLLOW_PODS: Duration = Duration::from_secs(5);
/// How often drift of endpoint slices, which are not watched, is looked for.
const FOLLOW_SLICES: Duration = Duration::from_secs(60);

/// Looks at all load balancers of a cluster.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context, namespace: &str) -> Result<Outcome, Error> {
    let Some(tenant) = context
        .observed
        .tenant(namespace)
        .filter(|tenant| tenant.is_reachable())
    else {
        return Ok(Outcome::Settled);
    };
    let Some(client) = tenant.client() else {
        return Ok(Outcome::Settled);
    };
    let going = context
        .observed
        .clusters
        .get("", namespace)
        .is_none_or(|cluster| cluster.metadata.deletion_timestamp.is_some());
    let mut wanted: BTreeMap<String, (Balanced, Service, Option<String>)> = BTreeMap::new();
    let mut ending = Vec::new();
    for service in tenant.services.all() {
        let balanced = Balanced {
            cluster: namespace.to_owned(),
            namespace: service.namespace().unwrap_or_default(),
            service: service.name_any(),
        };
        match claim_of(&service) {
            Claim::Ours(class) if !going => {
                wanted.insert(balanced.infra_name(), (balanced, (*service).clone(), class));
            }
            Claim::Ours(_) | Claim::NotOurs => {
                if service.finalizers().iter().any(|one| one == CLEANUP_FINALIZER)
                    && is_ours(context, &balanced, &service)
                {
                    ending.push((balanced, (*service).clone()));
                }
            }
        }
    }
    if wanted.is_empty() && ending.is_empty() && context.observed.services.count(namespace) == 0 {
        return Ok(Outcome::Settled);
    }
    let slices = existing_slices(context, namespace).await?;
    remove_unwanted(context, namespace, &wanted, &slices).await?;
    for (balanced, service) in ending {
        release(context, &client, &balanced, &service).await?;
    }
    let machines = backends::observe(context, namespace, &tenant);
    let mut again = FOLLOW_SLICES;
    for (balanced, service, class) in wanted.into_values() {
        if keep(context, &client, &balanced, &service, class, &machines, &slices).await? == Traffic::Local {
            again = FOLLOW_PODS;
        }
    }
    Ok(Outcome::Again(again))
}

/// The machines of a cluster as its load balancers see them.
pub fn observe_backends(context: &Context, namespace: &str) -> Vec<crate::plan::load_balancer::endpoints::Backend> {
    context
        .observed
        .tenant(namespace)
        .map(|tenant| backends::observe(context, namespace, &tenant))
        .unwrap_or_default()
}

/// Another controller's Services may carry the same finalizer: ours are those without its class.
fn is_ours(context: &Context, balanced: &Balanced, service: &Service) -> bool {
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref())
        .unwrap_or_default();
    let foreign = !class.is_empty() && !class.starts_with(crate::plan::load_balancer::CLASS_PREFIX);
    !foreign
        || context
            .observed
            .services
            .get(&balanced.cluster, &balanced.infra_name())
            .is_some()
}

/// Whether a load balancer has to follow its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Cluster,
    Local,
}

type Slices = BTreeMap<String, Vec<EndpointSlice>>;

async fn existing_slices(context: &Context, namespace: &str) -> Result<Slices, Error> {
    let found = list::all(&context.namespaced::<EndpointSlice>(namespace), labels::LOAD_BALANCER).await?;
    let mut by_service = Slices::new();
    for slice in found.items {
        let service = slice.labels().get(labels::LOAD_BALANCER).cloned().unwrap_or_default();
        by_service.entry(service).or_default().push(slice);
    }
    Ok(by_service)
}

/// Infra objects without a tenant Service that wants them.
async fn remove_unwanted(
    context: &Context,
    namespace: &str,
    wanted: &BTreeMap<String, (Balanced, Service, Option<String>)>,
    slices: &Slices,
) -> Result<(), Error> {
    for service in context.observed.services.list(namespace) {
        if !wanted.contains_key(&service.name_any()) && service.metadata.deletion_timestamp.is_none() {
            tracing::info!(namespace, service = %service.name_any(), "removing a load balancer that no tenant service wants");
            apply::delete(&context.namespaced::<Service>(namespace), &service.name_any(), None).await?;
        }
    }
    for slice in slices
        .iter()
        .filter(|(service, _)| !wanted.contains_key(*service))
        .flat_map(|(_, slices)| slices)
    {
        apply::delete(&context.namespaced::<EndpointSlice>(namespace), &slice.name_any(), None).await?;
    }
    Ok(())
}

/// Lets the tenant's Service go once the infra Service is gone, as the infra cluster itself says.
async fn release(context: &Context, client: &Client, balanced: &Balanced, service: &Service) -> Result<(), Error> {
    let infra = context.namespaced::<Service>(&balanced.cluster);
    if optional(infra.get(&balanced.infra_name()).await)?.is_some() {
        apply::delete(&infra, &balanced.infra_name(), None).await?;
        if optional(infra.get(&balanced.infra_name()).await)?.is_some() {
            return Ok(());
        }
    }
    let api: Api<Service> = Api::namespaced(client.clone(), &balanced.namespace);
    let tenant_error = |source| Error::Tenant {
        cluster: balanced.cluster.clone(),
        source,
    };
    if service.metadata.deletion_timestamp.is_none() {
        store_ingress(&api, balanced, &[]).await?;
    }
    apply::remove_finalizer(&api, MANAGER, &balanced.service, CLEANUP_FINALIZER)
        .await
        .map_err(tenant_error)
}

/// Brings one load balancer to what its tenant wants.
async fn keep(
    context: &Context,
    client: &Client,
    balanced: &Balanced,
    tenant: &Service,
    class: Option<String>,
    machines: &[crate::plan::load_balancer::endpoints::Backend],
    slices: &Slices,
) -> Result<Traffic, Error> {
    let tenant_api: Api<Service> = Api::namespaced(client.clone(), &balanced.namespace);
    if !tenant.finalizers().iter().any(|one| one == CLEANUP_FINALIZER) {
        apply::add_finalizer(&tenant_api, MANAGER, &balanced.service, CLEANUP_FINALIZER)
            .await
            .map_err(|source| Error::Tenant {
                cluster: balanced.cluster.clone(),
                source,
            })?;
    }
    let infra = keep_service(context, balanced, tenant, class).await?;
    let local = infra
        .spec
        .as_ref()
        .and_then(|spec| spec.external_traffic_policy.as_deref())
        == Some("Local");
    let pods = if local {
        Some(backends::nodes_with_pods(client, balanced).await?)
    } else {
        None
    };
    let wanted = render_slices(balanced, &infra, machines, pods.as_ref());
    keep_slices(
        context,
        balanced,
        &wanted,
        slices
            .get(&balanced.infra_name())
            .map(Vec::as_slice)
            .unwrap_or_default(),
    )
    .await?;
    let ingress = ingress_of(Some(&infra));
    if ingress != ingress_of(Some(tenant)) {
        store_ingress(&tenant_api, balanced, &ingress).await?;
    }
    Ok(if local { Traffic::Local } else { Traffic::Cluster })
}

async fn keep_service(
    context: &Context,
    balanced: &Balanced,
    tenant: &Service,
    class: Option<String>,
) -> Result<Service, Error> {
    let api = context.namespaced::<Service>(&balanced.cluster);
    let current = context.observed.services.get(&balanced.cluster, &balanced.infra_name());
    let (wanted, notes) = render_service(balanced, tenant, class, current.as_deref());
    if let Some(current) = &current
        && covers(&wanted, &**current)
    {
        return Ok((**current).clone());
    }
    if wanted
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_ref())
        .is_none_or(Vec::is_empty)
    {
        tracing::warn!(service = %balanced.tenant_service(), ?notes, "a load balancer has no port that can be reached");
        return Ok(wanted);
    }
    let applied = match apply::apply(&api, MANAGER, &wanted).await {
        // The tenant's health check port may be taken in the infra cluster, which then chooses one.
        Err(InfraError::Invalid(message))
            if wanted
                .spec
                .as_ref()
                .is_some_and(|spec| spec.health_check_node_port.is_some()) =>
        {
            tracing::debug!(service = %balanced.tenant_service(), message, "trying without the tenant's health check port");
            let mut other = wanted.clone();
            if let Some(spec) = other.spec.as_mut() {
                spec.health_check_node_port = None;
            }
            apply::apply(&api, MANAGER, &other).await?
        }
        result => result?,
    };
    context.observed.services.upsert(applied.clone());
    Ok(applied)
}

/// Whether an object has all that is wanted of it.
fn covers<K: serde::Serialize>(wanted: &K, present: &K) -> bool {
    let (Ok(wanted), Ok(present)) = (serde_json::to_value(wanted), serde_json::to_value(present)) else {
        return false;
    };
    is_applied(&wanted, Some(&present))
}

async fn keep_slices(
    context: &Context,
    balanced: &Balanced,
    wanted: &[EndpointSlice],
    present: &[EndpointSlice],
) -> Result<(), Error> {
    let api = context.namespaced::<EndpointSlice>(&balanced.cluster);
    for slice in wanted {
        let same = present.iter().find(|one| one.name_any() == slice.name_any());
        if !same.is_some_and(|one| covers(slice, one)) {
            apply::apply(&api, MANAGER, slice).await?;
        }
    }
    for slice in present
        .iter()
        .filter(|one| !wanted.iter().any(|slice| slice.name_any() == one.name_any()))
    {
        apply::delete(&api, &slice.name_any(), None).await?;
    }
    Ok(())
}

async fn store_ingress(
    api: &Api<Service>,
    balanced: &Balanced,
    ingress: &[k8s_openapi::api::core::v1::LoadBalancerIngress],
) -> Result<(), Error> {
    let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    let params = PatchParams {
        field_manager: Some(MANAGER.as_str().to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&balanced.service, &params, &patch)
        .await
        .map_err(InfraError::from)
    {
        Ok(_) => {
            tracing::info!(service = %balanced.tenant_service(), cluster = %balanced.cluster, addresses = ingress.len(), "load balancer address told to the tenant");
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(source) => Err(Error::Tenant {
            cluster: balanced.cluster.clone(),
            source,
        }),
    }
}
