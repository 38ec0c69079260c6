//! One project: what it uses, and its end.

use std::time::Duration;

use kube::{ResourceExt, api::Preconditions};
use steading_controller::{Fresh, fresh::Deletion};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, Project},
    error::InfraError,
    labels,
};

use super::Outcome;
use crate::{
    apply::{
        consent::{self, consent_of},
        event::Tone,
        project as own,
        status::set_condition,
    },
    context::Context,
    error::Error,
    observe::{
        list::labelled,
        usage::{Counted, usage},
    },
    plan::{
        project::{ProjectPlan, ProjectRemains, ProjectStep, plan_project},
        teardown::{Consent, Remainder},
    },
};

/// Pause while watches tell of what happens next.
const WATCHED: Duration = Duration::from_secs(15);
/// Pause where nothing does.
const UNWATCHED: Duration = Duration::from_secs(2);
/// Pause where a person has to act.
const PEOPLE: Duration = Duration::from_secs(60);

/// Looks at one project.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context, id: &str) -> Result<Outcome, Error> {
    let Some(project) = context.observed.projects.get("", id) else {
        return Ok(Outcome::Settled);
    };
    let api = context.all::<Project>();
    if project.metadata.deletion_timestamp.is_some() {
        return take_down(context, &project, id).await;
    }
    if !project.finalizers().iter().any(|f| f == labels::PROJECT_FINALIZER) {
        ignore_missing(
            apply::add_finalizer(&api, FieldManager::Lifecycle, id, labels::PROJECT_FINALIZER)
                .await
                .map(drop),
        )?;
    }
    let mut status = project.status.clone().unwrap_or_default();
    status.observed_generation = project.metadata.generation;
    status.used = usage(&context.observed, id, Counted::Existing);
    if project.status.as_ref() != Some(&status) {
        ignore_missing(
            apply::apply_status(&api, FieldManager::Lifecycle, id, &status)
                .await
                .map(drop),
        )?;
    }
    Ok(Outcome::Settled)
}

/// Takes a project down by one step, on what is read from the API server in this pass.
async fn take_down(context: &Context, project: &Project, id: &str) -> Result<Outcome, Error> {
    let api = context.all::<Project>();
    // Another project of this name may have been made since, and a consent may have been withdrawn.
    let read = Fresh::get(&api, id).await?;
    let Some(project) = read.filter(|read| read.uid() == project.uid()) else {
        return Ok(Outcome::Again(UNWATCHED));
    };
    let mut clusters = labelled(&context.all::<Cluster>(), "").await?;
    clusters.retain(|cluster| cluster.spec.project == id);
    let catalogue = if clusters.is_empty() {
        own::catalogue(context, id).await?
    } else {
        Vec::new()
    };
    let remains = ProjectRemains {
        clusters: clusters
            .iter()
            .map(|one| remainder("cluster", one.name_any(), one.metadata.deletion_timestamp.is_some()))
            .collect(),
        catalogue: catalogue
            .iter()
            .map(|one| remainder(one.kind, one.name.clone(), one.terminating))
            .collect(),
    };
    let plan = plan_project(&remains, consent_of(&*project));
    if plan.step != ProjectStep::Finish {
        report_deletion(context, &project, id, &plan).await?;
    }
    match plan.step {
        ProjectStep::WaitForConsent => Ok(Outcome::Again(PEOPLE)),
        ProjectStep::Clusters => {
            let api = context.all::<Cluster>();
            for cluster in clusters.iter().filter(|one| one.metadata.deletion_timestamp.is_none()) {
                // Whoever agreed to the project's end agreed to theirs.
                consent::give(&api, &cluster.name_any()).await?;
                let same = Preconditions {
                    uid: cluster.uid(),
                    resource_version: None,
                };
                match apply::delete(&api, &cluster.name_any(), Some(same)).await {
                    Ok(()) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for cluster in clusters.iter().filter(|one| one.metadata.deletion_timestamp.is_some()) {
                if consent_of(cluster) == Consent::Missing {
                    consent::give(&api, &cluster.name_any()).await?;
                }
            }
            Ok(Outcome::Again(WATCHED))
        }
        ProjectStep::Catalogue => {
            for object in catalogue.iter().filter(|one| !one.terminating) {
                own::delete(object).await?;
            }
            Ok(Outcome::Again(UNWATCHED))
        }
        ProjectStep::Finish => {
            let manager = FieldManager::Lifecycle.as_str();
            let deletion = project
                .without_finalizer(&api, manager, labels::PROJECT_FINALIZER)
                .await?;
            Ok(match deletion {
                Deletion::Accepted | Deletion::Gone => {
                    tracing::info!(project = id, "project deleted");
                    Outcome::Settled
                }
                Deletion::Changed => Outcome::Again(Duration::ZERO),
            })
        }
    }
}

fn remainder(kind: &'static str, name: String, terminating: bool) -> Remainder {
    Remainder {
        kind,
        name,
        terminating,
        why: String::new(),
    }
}

async fn report_deletion(context: &Context, project: &Project, id: &str, plan: &ProjectPlan) -> Result<(), Error> {
    let before = project.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let words = ("Deleting", "True", plan.reason, plan.message.as_str());
    set_condition(
        &mut after.conditions,
        project.metadata.generation,
        context.clock.now(),
        words,
    );
    if after == before {
        return Ok(());
    }
    tracing::info!(project = id, reason = plan.reason, message = %plan.message, "project is being deleted");
    if plan.step == ProjectStep::WaitForConsent {
        context
            .events
            .publish(project, Tone::Warning, "Delete", plan.reason, &plan.message)
            .await;
    }
    let api = context.all::<Project>();
    ignore_missing(
        apply::apply_status(&api, FieldManager::Lifecycle, id, &after)
            .await
            .map(drop),
    )
}

pub(super) fn ignore_missing(result: Result<(), InfraError>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
