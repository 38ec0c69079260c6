//! Writes of load balancers, to the infra cluster and to the tenant.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{LoadBalancerIngress, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, Preconditions},
};
use serde_json::json;
use steading_controller::Fresh;
use steading_infra::{
    apply::{self, FieldManager},
    error::{InfraError, optional},
    labels,
};

use super::event::{Events, Tone};
use crate::{
    context::Context,
    error::Error,
    observe::list::labelled,
    observe::load_balancer as observe,
    plan::load_balancer::{
        Balanced, CLEANUP_FINALIZER,
        decide::{BalancerStep, KeptBalancer},
        endpoints::SliceStep,
        hold::{Hold, is_placeholder, placeholder},
    },
    plan::recheck::is_unclaimed,
    tenant::Tenant,
};

const MANAGER: FieldManager = FieldManager::Lifecycle;
/// Longest word of the infra cluster that a hold quotes.
const REFUSAL: usize = 300;

fn only(uid: &str) -> Preconditions {
    Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    }
}

fn in_tenant(balanced: &Balanced) -> impl Fn(InfraError) -> Error + '_ {
    |source| Error::Tenant {
        cluster: balanced.cluster.clone(),
        source,
    }
}

/// Deletes an infra Service that was seen as `uid` and that no tenant Service wanted, if both are still so.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn delete_unwanted(
    context: &Context,
    client: &Client,
    (namespace, name, uid): (&str, &str, &str),
    terminating: bool,
) -> Result<(), Error> {
    let Some(infra) = read(context, namespace, name, uid).await? else {
        return Ok(());
    };
    let wanted = infra.annotations().get(labels::TENANT_SERVICE);
    if let Some((space, service)) = wanted.and_then(|text| text.split_once('/'))
        && !terminating
        && is_wanted(client, namespace, space, service).await?
    {
        return Ok(());
    }
    delete(context, namespace, infra).await
}

/// Whether the tenant wants a load balancer for a Service after all, which the watch has not shown yet.
async fn is_wanted(client: &Client, cluster: &str, namespace: &str, service: &str) -> Result<bool, Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = Fresh::get(&services, service).await;
    let wanted = !is_unclaimed(found.map_err(|error| Error::tenant(cluster, error))?.as_deref());
    if wanted {
        tracing::info!(
            cluster,
            namespace,
            service,
            "a load balancer stays: its tenant wants it again"
        );
    }
    Ok(wanted)
}

/// The infra Service of this name, if it is still the one that was seen.
async fn read(context: &Context, namespace: &str, name: &str, uid: &str) -> Result<Option<Fresh<Service>>, Error> {
    let found = Fresh::get(&context.namespaced::<Service>(namespace), name).await?;
    Ok(found.filter(|one| one.uid().as_deref() == Some(uid) && one.metadata.deletion_timestamp.is_none()))
}

async fn delete(context: &Context, namespace: &str, infra: Fresh<Service>) -> Result<(), Error> {
    // One that changed is read again by the next pass, which its event brings.
    infra.delete(&context.namespaced::<Service>(namespace)).await?;
    Ok(())
}

/// Lets the tenant's Service end once the infra Service is gone, by a read of the infra cluster itself; not if the tenant wants it
/// after all and its cluster is not `terminating`.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn release(
    context: &Context,
    client: &Client,
    balanced: &Balanced,
    service: &Service,
    terminating: bool,
) -> Result<(), Error> {
    if !terminating && is_wanted(client, &balanced.cluster, &balanced.namespace, &balanced.service).await? {
        return Ok(());
    }
    let infra = context.namespaced::<Service>(&balanced.cluster);
    if let Some(present) = Fresh::get(&infra, &balanced.infra_name()).await? {
        if present.metadata.deletion_timestamp.is_none() {
            delete(context, &balanced.cluster, present).await?;
        }
        if optional(infra.get(&balanced.infra_name()).await)?.is_some() {
            return Ok(());
        }
    }
    if service.metadata.deletion_timestamp.is_none() {
        store_ingress(client, balanced, &[]).await?;
    }
    let api: Api<Service> = Api::namespaced(client.clone(), &balanced.namespace);
    match apply::remove_finalizer(&api, MANAGER, &balanced.service, CLEANUP_FINALIZER).await {
        Ok(()) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(in_tenant(balanced)(error)),
    }
}

/// Carries out what was decided about a load balancer that the tenant wants.
///
/// # Errors
/// If a cluster cannot be reached. A refusal by the infra cluster is noted on the load balancer instead.
pub async fn keep(context: &Context, client: &Client, kept: &KeptBalancer) -> Result<(), Error> {
    let balanced = &kept.balanced;
    if !kept.tenant.finalizers().iter().any(|one| one == CLEANUP_FINALIZER) {
        let api: Api<Service> = Api::namespaced(client.clone(), &balanced.namespace);
        match apply::add_finalizer(&api, MANAGER, &balanced.service, CLEANUP_FINALIZER).await {
            Ok(_) => {}
            // Deleted meanwhile: its own event follows.
            Err(InfraError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(in_tenant(balanced)(error)),
        }
    }
    if let Some(hold) = &kept.announce {
        announce(client, kept, hold).await;
    }
    match &kept.step {
        BalancerStep::Leave => Ok(()),
        BalancerStep::Clear(uid) => {
            let found = read(context, &balanced.cluster, &balanced.infra_name(), uid).await?;
            match found.filter(|one| is_placeholder(one)) {
                Some(found) => delete(context, &balanced.cluster, found).await,
                None => Ok(()),
            }
        }
        BalancerStep::Annotate(hold) => annotate(context, balanced, hold).await,
        BalancerStep::Apply(wanted) => match write(context, balanced, wanted).await {
            Err(Error::Infra(InfraError::Invalid(message) | InfraError::Forbidden(message))) => {
                refused(context, client, kept, &message).await
            }
            other => other,
        },
    }
}

async fn write(context: &Context, balanced: &Balanced, wanted: &Service) -> Result<(), Error> {
    let api = context.namespaced::<Service>(&balanced.cluster);
    let applied = apply::apply(&api, MANAGER, wanted).await?;
    tracing::info!(cluster = %balanced.cluster, service = %balanced.tenant_service(), "load balancer written");
    context.observed.services.upsert(applied);
    Ok(())
}

async fn refused(context: &Context, client: &Client, kept: &KeptBalancer, message: &str) -> Result<(), Error> {
    let balanced = &kept.balanced;
    let message: String = message.chars().take(REFUSAL).collect();
    tracing::warn!(cluster = %balanced.cluster, service = %balanced.tenant_service(), message, "the infra cluster refuses a load balancer");
    let text = format!("the infra cluster refuses it: {message}");
    let hold = Hold::refused(text, &kept.rendered.service, context.clock.now());
    announce(client, kept, &hold).await;
    let current = context.observed.services.get(&balanced.cluster, &balanced.infra_name());
    if current.is_some_and(|current| !is_placeholder(&current)) {
        return annotate(context, balanced, &hold).await;
    }
    write(context, balanced, &placeholder(balanced, &hold, &kept.rendered.notes)).await
}

async fn annotate(context: &Context, balanced: &Balanced, hold: &Hold) -> Result<(), Error> {
    let text = serde_json::to_string(hold).unwrap_or_default();
    let patch = json!({"metadata": {"annotations": {labels::LOAD_BALANCER_HOLD: text}}});
    let api = context.namespaced::<Service>(&balanced.cluster);
    match apply::patch_merge(&api, MANAGER, &balanced.infra_name(), &patch).await {
        Ok(patched) => {
            context.observed.services.upsert(patched);
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn announce(client: &Client, kept: &KeptBalancer, hold: &Hold) {
    Events::new(client.clone())
        .publish(
            &*kept.tenant,
            Tone::Warning,
            "Serve",
            hold.reason.as_str(),
            &hold.message,
        )
        .await;
}

/// Tenant nodes that have a ready pod of a Service; `None` while the tenant is away.
pub async fn nodes_with_pods(tenant: Option<&Tenant>, balanced: &Balanced) -> Option<Result<BTreeSet<String>, Error>> {
    let client = tenant.filter(|tenant| tenant.is_reachable())?.client()?;
    let api: Api<EndpointSlice> = Api::namespaced(client, &balanced.namespace);
    let selector = format!("kubernetes.io/service-name={}", balanced.service);
    let found = labelled(&api, &selector).await;
    Some(
        found
            .map(|found| observe::nodes_with_pods(&found))
            .map_err(in_tenant(balanced)),
    )
}

/// Writes or deletes one endpoint slice.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn slice(context: &Context, namespace: &str, step: SliceStep) -> Result<(), Error> {
    let api = context.namespaced::<EndpointSlice>(namespace);
    match step {
        SliceStep::Apply(slice) => {
            let applied = apply::apply(&api, MANAGER, &*slice).await?;
            context.observed.slices.upsert(applied);
            Ok(())
        }
        SliceStep::Delete { name, uid } => match apply::delete(&api, &name, Some(only(&uid))).await {
            Ok(()) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Writes the addresses to the tenant's Service.
///
/// # Errors
/// If the tenant refuses or cannot be reached.
pub async fn store_ingress(client: &Client, balanced: &Balanced, ingress: &[LoadBalancerIngress]) -> Result<(), Error> {
    let api: Api<Service> = Api::namespaced(client.clone(), &balanced.namespace);
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
            tracing::info!(service = %balanced.tenant_service(), cluster = %balanced.cluster, addresses = ingress.len(), "load balancer address reported to the tenant");
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(in_tenant(balanced)(error)),
    }
}
