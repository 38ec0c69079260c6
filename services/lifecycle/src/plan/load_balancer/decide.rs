//! What to do about each load balancer of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use steading_infra::labels;

use super::{
    Balanced, CLASS_PREFIX, CLEANUP_FINALIZER, Claim, RenderedBalancer,
    allowances::Allowances,
    claim_of,
    hold::{Hold, HoldReason, hold_of, is_placeholder, placeholder},
    is_applied, render_service,
};

/// How long a refusal of the infra cluster holds before the same is tried again: its cause may be gone, and nothing tells.
pub const REFUSAL_HOLDS: SignedDuration = SignedDuration::from_mins(5);

/// What is seen of a cluster's load balancers.
#[derive(Debug)]
pub struct ObservedBalancers<'a> {
    /// Namespace of the cluster in the infra cluster.
    pub cluster: &'a str,
    /// Whether the cluster is being deleted.
    pub terminating: bool,
    /// The tenant's Services; `None` while they are not known.
    pub tenant: Option<&'a [Arc<Service>]>,
    /// Infra Services with our label.
    pub infra: &'a [Arc<Service>],
    /// Load balancers of the project that its quota admits, as (cluster, name).
    pub admitted: &'a BTreeSet<(String, String)>,
    /// What the operator allows.
    pub allowances: &'a Allowances,
}

/// What to do about one load balancer.
#[derive(Debug, Clone, PartialEq)]
pub enum BalancerStep {
    /// Nothing.
    Leave,
    /// Write the infra Service, whole.
    Apply(Box<Service>),
    /// Write only why it is not served as it is wanted; what it serves stays as it is.
    Annotate(Hold),
    /// Delete the placeholder, of this uid, to make room for the real one.
    Clear(String),
}

/// A load balancer that a tenant wants.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptBalancer {
    /// Which.
    pub balanced: Balanced,
    /// The tenant's Service.
    pub tenant: Arc<Service>,
    /// What to do.
    pub step: BalancerStep,
    /// What it would be if it were served, for the case that the infra cluster refuses it.
    pub rendered: RenderedBalancer,
    /// A reason that is new, for the tenant to see.
    pub announce: Option<Hold>,
}

/// What to do about a cluster's load balancers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BalancerPlan {
    /// Those that the tenant wants.
    pub keep: Vec<KeptBalancer>,
    /// Tenant Services that wait for their infra Service to be gone.
    pub release: Vec<(Balanced, Arc<Service>)>,
    /// Infra Services that no tenant Service wants, by name and uid.
    pub remove: Vec<(String, String)>,
}

/// Decides about the load balancers of a cluster. While the tenant's Services are not known, nothing is made or removed.
pub fn plan_balancers(observed: &ObservedBalancers<'_>, now: Timestamp) -> BalancerPlan {
    let mut plan = BalancerPlan::default();
    let Some(tenant) = observed.tenant else { return plan };
    let infra: BTreeMap<String, &Arc<Service>> = observed.infra.iter().map(|one| (one.name_any(), one)).collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for service in tenant {
        let balanced = Balanced {
            cluster: observed.cluster.to_owned(),
            namespace: service.namespace().unwrap_or_default(),
            service: service.name_any(),
        };
        let name = balanced.infra_name();
        let current = infra.get(&name);
        match claim_of(service) {
            Claim::Ours(class) if !observed.terminating => {
                wanted.insert(name);
                plan.keep.push(keep(
                    observed,
                    balanced,
                    service,
                    class,
                    current.map(|one| one.as_ref()),
                    now,
                ));
            }
            Claim::Ours(_) | Claim::NotOurs => {
                let waits = service.finalizers().iter().any(|one| one == CLEANUP_FINALIZER);
                if waits && (current.is_some() || is_of_our_class(service)) {
                    plan.release.push((balanced, Arc::clone(service)));
                }
            }
        }
    }
    plan.remove = observed
        .infra
        .iter()
        .filter(|one| one.metadata.deletion_timestamp.is_none() && !wanted.contains(&one.name_any()))
        .filter_map(|one| Some((one.name_any(), one.uid()?)))
        .collect();
    plan
}

/// Another controller's Services may carry the same finalizer: ours are those without its class.
fn is_of_our_class(service: &Service) -> bool {
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref());
    class.is_none_or(|class| class.is_empty() || class.starts_with(CLASS_PREFIX))
}

fn keep(
    observed: &ObservedBalancers<'_>,
    balanced: Balanced,
    tenant: &Arc<Service>,
    class: Option<String>,
    current: Option<&Service>,
    now: Timestamp,
) -> KeptBalancer {
    let served = current.filter(|one| !is_placeholder(one));
    let rendered = render_service(&balanced, tenant, class, served, observed.allowances);
    let admitted = observed
        .admitted
        .contains(&(balanced.cluster.clone(), balanced.infra_name()));
    let before = current.and_then(hold_of);
    let hold = if admitted {
        rendered
            .hold
            .clone()
            .or_else(|| still_refused(before.clone(), &rendered, now))
    } else {
        Some(Hold::new(
            HoldReason::QuotaExceeded,
            "the project has as many load balancers as its quota allows",
        ))
    };
    let step = step(&balanced, &rendered, current, hold.as_ref());
    KeptBalancer {
        announce: hold.filter(|hold| before.as_ref().map(|one| one.reason) != Some(hold.reason)),
        balanced,
        tenant: Arc::clone(tenant),
        step,
        rendered,
    }
}

/// What the infra cluster refused is not tried again at once, unless it is something else now.
fn still_refused(before: Option<Hold>, rendered: &RenderedBalancer, now: Timestamp) -> Option<Hold> {
    let digest = rendered.service.annotations().get(labels::RENDERED);
    before.filter(|hold| {
        hold.reason == HoldReason::RefusedByInfra
            && hold.digest.as_ref() == digest
            && hold.at.is_some_and(|at| now.duration_since(at) < REFUSAL_HOLDS)
    })
}

fn step(
    balanced: &Balanced,
    rendered: &RenderedBalancer,
    current: Option<&Service>,
    hold: Option<&Hold>,
) -> BalancerStep {
    let apply = |wanted: Service| match current {
        Some(current) if covers(&wanted, current) => BalancerStep::Leave,
        Some(_) | None => BalancerStep::Apply(Box::new(wanted)),
    };
    match (current, hold) {
        (Some(current), _) if current.metadata.deletion_timestamp.is_some() => BalancerStep::Leave,
        (Some(current), Some(hold)) if !is_placeholder(current) => {
            if hold_of(current).as_ref() == Some(hold) {
                BalancerStep::Leave
            } else {
                BalancerStep::Annotate(hold.clone())
            }
        }
        (_, Some(hold)) => apply(placeholder(balanced, hold, &rendered.notes)),
        (Some(current), None) if is_placeholder(current) => {
            current.uid().map_or(BalancerStep::Leave, BalancerStep::Clear)
        }
        (_, None) => apply(rendered.service.clone()),
    }
}

/// Whether an object has all that is wanted of it.
pub fn covers<K: serde::Serialize>(wanted: &K, present: &K) -> bool {
    let (Ok(wanted), Ok(present)) = (serde_json::to_value(wanted), serde_json::to_value(present)) else {
        return false;
    };
    is_applied(&wanted, Some(&present))
}

#[cfg(test)]
mod tests;
