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

/// Deletes an infra Service, if it is still the one that was seen.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn delete(context: &Context, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
    match apply::delete(&context.namespaced::<Service>(namespace), name, Some(only(uid))).await {
        Ok(()) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets the tenant's Service end once the infra Service is gone, by a read of the infra cluster itself.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn release(context: &Context, client: &Client, balanced: &Balanced, service: &Service) -> Result<(), Error> {
    let infra = context.namespaced::<Service>(&balanced.cluster);
    if let Some(present) = optional(infra.get(&balanced.infra_name()).await)? {
        if present.metadata.deletion_timestamp.is_none()
            && let Some(uid) = present.uid()
        {
            delete(context, &balanced.cluster, &balanced.infra_name(), &uid).await?;
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
        BalancerStep::Clear(uid) => delete(context, &balanced.cluster, &balanced.infra_name(), uid).await,
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
