//! Templates: a revision for the present content, also of templates that were applied with `kubectl`, the verdict whether
//! machines can be made from it, and no more old revisions than wanted.

use kube::Api;
use steading_controller::Outcome;
use steading_infra::{
    apply::{FieldManager, apply_status},
    crd::machine_template::MachineTemplate,
};
use steading_model::name::MachineTemplateName;

use super::pass::Pass;
use crate::{
    apply::revision::{collect, ensure, pin},
    domain::revision::{Revision, Stored, plan_collection},
    error::Error,
    observe::{
        catalogue::{check, check_seen},
        contents::{require_contents, require_seen},
        revisions::{StoredRevision, latest_id},
    },
    plan::status::{Verdict, changed, plan_status},
};

impl Pass {
    pub(super) async fn reconcile_template(&self, object: &str) -> Result<Outcome, Error> {
        let Some(template) = self.seen.templates.index().get("", object) else {
            return Ok(Outcome::Settled);
        };
        let name = MachineTemplateName::from_object_name(object);
        let Some(name) = name.filter(|_| template.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::Settled);
        };
        let stored = self.seen.revisions_of(object);
        let verdict = self.verdict(&name, &template, &stored).await?;
        if let Some(status) = plan_status(&template, &verdict, self.now()) {
            let api: Api<MachineTemplate> = Api::all(self.kube.clone());
            let written = apply_status(&api, FieldManager::Templating, object, &status).await;
            written.map_err(Error::write("MachineTemplate", name.to_string()))?;
            if let Err(refusal) = &verdict.accepted {
                tracing::info!(template = %name, refusal, "machine template refused");
            }
        }
        self.keep_revisions(&name, &template, &stored).await?;
        Ok(Outcome::Settled)
    }

    /// Stores the revision if need be and compares it with what the catalogue has. Unknown is not invalid: it is an error.
    async fn verdict(
        &self,
        name: &MachineTemplateName,
        template: &MachineTemplate,
        stored: &[std::sync::Arc<StoredRevision>],
    ) -> Result<Verdict, Error> {
        let id = latest_id(template);
        let (number, revision): (i64, Revision) = match stored.iter().find(|stored| stored.id == id) {
            Some(stored) => (stored.number, stored.revision.clone()),
            None => match ensure(&self.kube, name, template).await {
                Ok(stored) => (stored.number, stored.revision),
                Err(error) => {
                    return Ok(Verdict {
                        accepted: Err(known(error)?),
                        revision: None,
                        changed: None,
                    });
                }
            },
        };
        // What is not seen may exist all the same: then the API server is asked.
        let (contents, present) = if self.seen.is_catalogue_live() {
            (
                require_seen(&self.seen, &id, &revision.resolved),
                check_seen(&self.seen, &name.project, &template.spec),
            )
        } else {
            (
                require_contents(&self.kube, &id, &revision.resolved).await,
                check(&self.kube, &name.project, &template.spec).await,
            )
        };
        let accepted = match contents {
            Ok(()) => Ok(()),
            Err(error) => Err(known(error)?),
        };
        let changed = match present {
            Ok(present) => Some(changed(&revision.resolved, &present)),
            Err(error) => {
                known(error)?;
                None
            }
        };
        Ok(Verdict {
            accepted,
            revision: Some((id, number)),
            changed,
        })
    }

    /// Puts back what revisions are made of, and deletes those that are neither needed nor wanted.
    async fn keep_revisions(
        &self,
        name: &MachineTemplateName,
        template: &MachineTemplate,
        stored: &[std::sync::Arc<StoredRevision>],
    ) -> Result<(), Error> {
        let is_there = |object: &String| {
            let (types, preferences) = (self.seen.instance_types.index(), self.seen.preferences.index());
            types.get("", object).is_some() || preferences.get("", object).is_some()
        };
        for stored in stored.iter().filter(|stored| !stored.pinned().iter().all(is_there)) {
            pin(&self.kube, &stored.revision.resolved).await?;
        }
        let latest = latest_id(template);
        let used = self.seen.usage(name, &latest).revisions();
        let all: Vec<Stored> = stored.iter().map(|stored| stored.kept()).collect();
        let unneeded = plan_collection(&all, &latest, &used, template.spec.revision_history_limit);
        if unneeded.is_empty() {
            return Ok(());
        }
        collect(&self.kube, name).await
    }
}

/// What an error says of a template; the error itself if nothing is known.
fn known(error: Error) -> Result<String, Error> {
    if error.is_unknown() {
        Err(error)
    } else {
        Ok(error.to_string())
    }
}
