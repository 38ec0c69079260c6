//! Who uses what: the catalogue by revisions, revisions by pools and machines.

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::Value;
use steading_infra::{
    crd::{MachinePool, machine_template::MachineTemplate},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::name::{MachinePoolName, MachineTemplateName};

use super::revisions::{self, latest_id};
use crate::{domain::revision::Revision, error::Error};

/// Users of a resource that an error names at most.
const NAMED_USERS: usize = 5;
/// Entries of one page of a list.
const PAGE: u32 = 500;

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

    /// Some of the pools that use any revision.
    pub fn some_pools(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.pools.values().flatten().collect();
        all.into_iter().take(NAMED_USERS).cloned().collect()
    }
}

/// Looks who uses a template. `latest` is the id of its newest revision, which pools follow that name none.
///
/// # Errors
/// If the API server does not answer.
pub async fn of_template(kube: &Client, name: &MachineTemplateName, latest: &str) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    let machines: Api<VirtualMachine> = Api::all(kube.clone());
    let made_from = format!("{}={}", labels::MACHINE_TEMPLATE, name.object_name());
    for vm in pages(&machines, &made_from, name).await? {
        let revision = vm
            .annotations()
            .get(labels::TEMPLATE_REVISION)
            .cloned()
            .unwrap_or_default();
        *usage.machines.entry(revision.clone()).or_default() += 1;
        let pool = vm.labels().get(labels::POOL).cloned().unwrap_or_default();
        if let Some(pool) = MachinePoolName::from_object(&vm.namespace().unwrap_or_default(), &pool) {
            usage.pools.entry(revision).or_default().insert(pool.to_string());
        }
    }
    let pools: Api<DynamicObject> = Api::all_with(kube.clone(), &ApiResource::erase::<MachinePool>(&()));
    let prefix = format!("{}{}", name.project, labels::PROJECT_SEPARATOR);
    for pool in pages(&pools, "", name).await? {
        let namespace = pool.namespace().unwrap_or_default();
        let text = |pointer: &str| pool.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let template = text("/spec/machineTemplate");
        let same = template == name.template.as_str() || template == name.to_string() || template == name.object_name();
        if !same || !namespace.starts_with(&prefix) {
            continue;
        }
        let Some(pool_name) = MachinePoolName::from_object(&namespace, &pool.name_any()) else {
            continue;
        };
        let wanted = last_segment(text("/spec/machineTemplateRevision"));
        let wanted = if wanted.is_empty() { latest } else { wanted };
        let current = last_segment(text("/status/templateRevision"));
        for revision in [wanted, current].into_iter().filter(|r| !r.is_empty()) {
            usage
                .pools
                .entry(revision.to_owned())
                .or_default()
                .insert(pool_name.to_string());
        }
    }
    Ok(usage)
}

async fn pages<K>(api: &Api<K>, selector: &str, name: &MachineTemplateName) -> Result<Vec<K>, Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let first = ListParams::default().labels(selector).limit(PAGE);
    let (mut all, mut page) = (Vec::new(), first.clone());
    loop {
        let list = api
            .list(&page)
            .await
            .map_err(Error::infra("MachineTemplate", name.to_string()))?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = first.clone().continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Some of the revisions in use for which `uses` holds: those that templates stand for now, and older ones that pools or
/// machines are still made from. Templates that have no stored revision yet count by `refers`.
///
/// # Errors
/// If the API server does not answer.
pub async fn revisions_using(kube: &Client, uses: impl Fn(&Revision) -> bool) -> Result<Vec<String>, Error> {
    let templates: Api<MachineTemplate> = Api::all(kube.clone());
    let templates = templates
        .list(&ListParams::default())
        .await
        .map_err(Error::infra("MachineTemplate", "machine templates"))?;
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
