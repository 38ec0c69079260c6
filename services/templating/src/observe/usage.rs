//! Who uses what: the catalogue by revisions, revisions by pools and machines.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_controller::list::list_all;
use steading_infra::{
    crd::{MachinePool, machine_template::MachineTemplate},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::{
    ids::Id,
    name::{ClusterName, MachinePoolName, MachineTemplateName},
};

use super::revisions::{self, latest_id};
use crate::{domain::revision::Revision, error::Error};

/// Users of a resource that an error names at most.
const NAMED_USERS: usize = 5;

/// What a machine was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrom {
    /// The object of the template.
    pub template: String,
    /// Id of the revision; empty if it is not known.
    pub revision: String,
    /// Name of its pool, if it is in one.
    pub pool: Option<String>,
}

/// Which revisions a pool uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// The object of its template.
    pub template: String,
    /// Id of the revision that is wanted; empty follows the latest.
    pub wanted: String,
    /// Id of the revision that it was made from last; empty if there is none.
    pub current: String,
}

/// Who uses a template, by the id of the revision.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Machines that were made from it.
    pub machines: BTreeMap<String, i32>,
    /// Pools that use it, or have machines that were made from it.
    pub pools: BTreeMap<String, BTreeSet<String>>,
}

impl Usage {
    /// Ids of the revisions that are used.
    pub fn revisions(&self) -> Vec<String> {
        self.machines.keys().chain(self.pools.keys()).cloned().collect()
    }

    /// Counts a machine of the template.
    pub fn count_machine(&mut self, machine: &MadeFrom) {
        *self.machines.entry(machine.revision.clone()).or_default() += 1;
        if let Some(pool) = &machine.pool {
            let pools = self.pools.entry(machine.revision.clone()).or_default();
            pools.insert(pool.clone());
        }
    }

    /// Counts a pool of the template, whose newest revision is `latest`.
    pub fn count_pool(&mut self, pool: &PoolUse, latest: &str) {
        let wanted = if pool.wanted.is_empty() { latest } else { &pool.wanted };
        for revision in [wanted, &pool.current].into_iter().filter(|id| !id.is_empty()) {
            let pools = self.pools.entry(revision.to_owned()).or_default();
            pools.insert(pool.name.clone());
        }
    }

    /// Some of the pools that use any revision.
    pub fn some_pools(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.pools.values().flatten().collect();
        all.into_iter().take(NAMED_USERS).cloned().collect()
    }
}

/// Looks who uses a template, on the API server. `latest` is the id of its newest revision, which pools follow that name none.
///
/// # Errors
/// If the API server does not answer.
pub async fn of_template(kube: &Client, name: &MachineTemplateName, latest: &str) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    let machines: Api<VirtualMachine> = Api::all(kube.clone());
    let made_from = ListParams::default().labels(&format!("{}={}", labels::MACHINE_TEMPLATE, name.object_name()));
    let fault = || Error::list("MachineTemplate", name.to_string());
    let made = list_all(&machines, &made_from).await.map_err(fault())?;
    let made = made.items.iter().filter_map(machine);
    made.for_each(|machine| usage.count_machine(&machine));
    let pools: Api<MachinePool> = Api::all(kube.clone());
    let pools = list_all(&pools, &ListParams::default()).await.map_err(fault())?;
    let pools = pools.items.iter().filter_map(pool);
    pools
        .filter(|pool| pool.template == name.object_name())
        .for_each(|pool| usage.count_pool(&pool, latest));
    Ok(usage)
}

/// Some of the revisions in use for which `uses` holds: those that templates stand for now, and older ones that pools or
/// machines are still made from. Templates that have no stored revision yet count by `refers`.
///
/// # Errors
/// If the API server does not answer.
pub async fn revisions_using(kube: &Client, uses: impl Fn(&Revision) -> bool) -> Result<Vec<String>, Error> {
    let templates: Api<MachineTemplate> = Api::all(kube.clone());
    let templates = list_all(&templates, &ListParams::default())
        .await
        .map_err(Error::list("MachineTemplate", "machine templates"))?;
    let stored = revisions::all(kube).await?;
    let mut users = Vec::new();
    for template in &templates.items {
        let Some(name) = MachineTemplateName::from_object_name(&template.name_any()) else {
            continue;
        };
        let latest = latest_id(template);
        let mut candidates: Vec<String> = stored
            .iter()
            .filter(|(object, revision)| {
                let of_template = object.labels().get(labels::MACHINE_TEMPLATE).map(String::as_str);
                of_template == Some(template.name_any().as_str()) && uses(revision)
            })
            .filter_map(|(object, _)| revisions::id_of(&name, object))
            .collect();
        // What is wanted counts from the moment that it is written.
        let written = Revision {
            template: template.spec.clone(),
            ..Revision::default()
        };
        if uses(&written) && !candidates.contains(&latest) {
            candidates.push(latest.clone());
        }
        if candidates.is_empty() {
            continue;
        }
        if candidates.contains(&latest) {
            users.push(name.to_string());
        } else {
            let used = of_template(kube, &name, &latest).await?.revisions();
            let old = candidates.iter().find(|id| used.contains(id));
            users.extend(old.map(|id| format!("{name}/revisions/{id}")));
        }
        if users.len() >= NAMED_USERS {
            break;
        }
    }
    Ok(users)
}

/// Refuses if somebody uses the resource.
///
/// # Errors
/// `RESOURCE_IN_USE`.
pub fn refuse_if_used(kind: &'static str, name: String, users: Vec<String>) -> Result<(), Error> {
    if users.is_empty() {
        Ok(())
    } else {
        Err(Error::InUse { kind, name, users })
    }
}

/// The last segment of a name, or the text itself.
pub fn last_segment(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// What a VirtualMachine was made from; `None` if from no template.
pub fn machine(object: &VirtualMachine) -> Option<MadeFrom> {
    let pool = object.labels().get(labels::POOL).cloned().unwrap_or_default();
    let pool = MachinePoolName::from_object(&object.namespace().unwrap_or_default(), &pool);
    Some(MadeFrom {
        template: object.labels().get(labels::MACHINE_TEMPLATE)?.clone(),
        revision: object
            .annotations()
            .get(labels::TEMPLATE_REVISION)
            .cloned()
            .unwrap_or_default(),
        pool: pool.map(|name| name.to_string()),
    })
}

/// Which revisions a pool uses; `None` for a pool of no cluster of ours.
pub fn pool(object: &MachinePool) -> Option<PoolUse> {
    let namespace = object.namespace().unwrap_or_default();
    let name = MachinePoolName::from_object(&namespace, &object.name_any())?;
    let project = ClusterName::from_namespace(&namespace)?.project;
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.template_revision.as_deref());
    Some(PoolUse {
        name: name.to_string(),
        template: template_object(&project, &object.spec.machine_template),
        wanted: last_segment(&object.spec.machine_template_revision).to_owned(),
        current: last_segment(status.unwrap_or_default()).to_owned(),
    })
}

/// The object of the template that a pool names: by its id, as lifecycle writes it, or by a whole name, as people may.
fn template_object(project: &Id, text: &str) -> String {
    let prefix = format!("{project}{}", labels::PROJECT_SEPARATOR);
    let id = last_segment(text);
    if id.starts_with(&prefix) {
        id.to_owned()
    } else {
        format!("{prefix}{id}")
    }
}
