//! Keeps the load balancers of one cluster: tenant Services → infra Services with endpoints → addresses back.
//!
//! The tenant's Service carries the finalizer that every cloud provider uses, so it stays until its infra objects are gone. While
//! the tenant does not answer nothing is made or removed; the endpoints follow the machines all the same. One Service that is
//! refused keeps none of the others back.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::Outcome;
use crate::{
    apply::load_balancer as apply,
    context::Context,
    error::Error,
    observe::load_balancer::{self as observe, backends, is_local, machines_in, slices_by_service},
    plan::load_balancer::{
        Balanced,
        decide::{BalancerPlan, ObservedBalancers, plan_balancers},
        endpoints::{plan_slices, render_slices},
        hold::is_placeholder,
        ingress_of,
    },
    tenant::Tenant,
};

/// How often a Service with `externalTrafficPolicy: Local` looks where its pods are; its tenant's slices are not watched.
const FOLLOW_PODS: Duration = Duration::from_secs(5);

/// Looks at all load balancers of a cluster.
///
/// # Errors
/// The first of the clusters' refusals, after everything else was done.
pub async fn reconcile(context: &Context, namespace: &str) -> Result<Outcome, Error> {
    let Some(cluster) = context.observed.clusters.get("", namespace) else {
        return Ok(Outcome::Settled);
    };
    let tenant = context.observed.tenant(namespace);
    let present = tenant.as_deref().filter(|tenant| tenant.is_reachable());
    let services = present.map(|tenant| tenant.services.all());
    let admitted = observe::admitted(&context.observed, &cluster.spec.project);
    let plan = plan_balancers(
        &ObservedBalancers {
            cluster: namespace,
            terminating: cluster.metadata.deletion_timestamp.is_some(),
            tenant: services.as_deref(),
            infra: &context.observed.services.list(namespace),
            admitted: &admitted,
            allowances: &context.allowances,
        },
        context.clock.now(),
    );
    let mut first = FirstError::default();
    if let Some(tenant) = present {
        let terminating = cluster.metadata.deletion_timestamp.is_some();
        carry_out(context, (namespace, terminating), tenant, &plan, &mut first).await;
    }
    let again = follow_machines(context, namespace, tenant.as_deref(), &mut first).await;
    if let Some(tenant) = present {
        report_addresses(context, tenant, &plan, &mut first).await;
    }
    first.into_result().map(|()| again)
}

/// The first error of several steps that do not depend on each other.
#[derive(Debug, Default)]
struct FirstError(Option<Error>);

impl FirstError {
    /// Notes a result; whether the next step may be tried. A tenant that does not answer is not asked again for each Service.
    fn note(&mut self, result: Result<(), Error>) -> bool {
        let Err(error) = result else { return true };
        let away = matches!(&error, Error::Tenant { source, .. } if source.is_unknown());
        self.0.get_or_insert(error);
        !away
    }

    fn into_result(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), Err)
    }
}

async fn carry_out(
    context: &Context,
    (namespace, terminating): (&str, bool),
    tenant: &Tenant,
    plan: &BalancerPlan,
    first: &mut FirstError,
) {
    let Some(client) = tenant.client() else { return };
    for (name, uid) in &plan.remove {
        tracing::info!(namespace, service = %name, "deleting a load balancer that no tenant service wants");
        let deleted = apply::delete_unwanted(context, &client, (namespace, name, uid), terminating).await;
        if !first.note(deleted) {
            return;
        }
    }
    for (balanced, service) in &plan.release {
        if !first.note(apply::release(context, &client, balanced, service, terminating).await) {
            return;
        }
    }
    for kept in &plan.keep {
        if !first.note(apply::keep(context, &client, kept).await) {
            return;
        }
    }
}

/// Brings the endpoints of everything that is served to the machines that are there.
async fn follow_machines(
    context: &Context,
    namespace: &str,
    tenant: Option<&Tenant>,
    first: &mut FirstError,
) -> Outcome {
    let machines = backends(&context.observed, namespace, tenant);
    let mut present = slices_by_service(&context.observed, namespace);
    let mut again = Outcome::Settled;
    for infra in context.observed.services.list(namespace) {
        let slices = present.remove(&infra.name_any()).unwrap_or_default();
        if is_placeholder(&infra) || infra.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Some(balanced) = balanced_of(namespace, &infra) else {
            continue;
        };
        let pods = if is_local(&infra) {
            again = Outcome::Again(FOLLOW_PODS);
            // Where pods are is not known without the tenant: the machines that had one keep the traffic.
            match apply::nodes_with_pods(tenant, &balanced).await {
                Some(Ok(nodes)) => Some(nodes),
                Some(Err(error)) => {
                    first.note(Err(error));
                    Some(machines_in(&slices))
                }
                None => Some(machines_in(&slices)),
            }
        } else {
            None
        };
        let wanted = render_slices(&balanced, &infra, &machines, pods.as_ref());
        for step in plan_slices(&wanted, &slices) {
            first.note(apply::slice(context, namespace, step).await);
        }
    }
    again
}

fn balanced_of(namespace: &str, infra: &Service) -> Option<Balanced> {
    let (space, service) = infra
        .annotations()
        .get(steading_infra::labels::TENANT_SERVICE)?
        .split_once('/')?;
    let balanced = Balanced {
        cluster: namespace.to_owned(),
        namespace: space.to_owned(),
        service: service.to_owned(),
    };
    (balanced.infra_name() == infra.name_any()).then_some(balanced)
}

async fn report_addresses(context: &Context, tenant: &Tenant, plan: &BalancerPlan, first: &mut FirstError) {
    let Some(client) = tenant.client() else { return };
    for kept in &plan.keep {
        let infra: Option<Arc<Service>> = context
            .observed
            .services
            .get(&kept.balanced.cluster, &kept.balanced.infra_name());
        let ingress = ingress_of(infra.as_deref());
        if ingress != ingress_of(Some(&kept.tenant))
            && !first.note(apply::store_ingress(&client, &kept.balanced, &ingress).await)
        {
            return;
        }
    }
}
