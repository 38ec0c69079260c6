//! Projects.

use std::collections::BTreeMap;

use kube::ResourceExt;
use steading_api::lifecycle::v1::{Project as Message, ProjectQuota, ProjectUsage, project::State};
use steading_infra::crd::{Project, project::ProjectSpec};
use steading_model::{quantity::Quantity, violation::Violations};
use steading_runtime::standard::condition;

/// The resource of an object.
pub fn message(object: &Project) -> Message {
    let status = object.status.clone().unwrap_or_default();
    let terminating = object.metadata.deletion_timestamp.is_some();
    Message {
        name: format!("projects/{}", object.name_any()),
        state: if terminating { State::Deleting } else { State::Active }.into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: terminating,
        display_name: object.spec.display_name.clone().unwrap_or_default(),
        quota: (!object.spec.quota.is_empty()).then(|| quota(&object.spec.quota)),
        usage: Some(usage(&status.used)),
        ..Message::default()
    }
}

fn number(map: &BTreeMap<String, String>, key: &str) -> Option<i32> {
    map.get(key)?.parse().ok()
}

fn text(map: &BTreeMap<String, String>, key: &str) -> String {
    map.get(key).cloned().unwrap_or_default()
}

fn quota(map: &BTreeMap<String, String>) -> ProjectQuota {
    ProjectQuota {
        clusters: number(map, "clusters"),
        machines: number(map, "machines"),
        vcpus: number(map, "vcpus"),
        memory: text(map, "memory"),
        storage: text(map, "storage"),
        load_balancers: number(map, "loadBalancers"),
    }
}

/// Use on the wire.
pub fn usage(map: &BTreeMap<String, String>) -> ProjectUsage {
    let number = |key| number(map, key).unwrap_or_default();
    ProjectUsage {
        clusters: number("clusters"),
        machines: number("machines"),
        vcpus: number("vcpus"),
        memory: text(map, "memory"),
        storage: text(map, "storage"),
        load_balancers: number("loadBalancers"),
    }
}

/// What a resource wants.
///
/// # Errors
/// The violations, with paths below the resource.
pub fn spec(message: &Message) -> Result<ProjectSpec, Violations> {
    let (mut found, mut map) = (Violations::new(), BTreeMap::new());
    let wanted = message.quota.clone().unwrap_or_default();
    for (key, path, value) in [
        ("clusters", "quota.clusters", wanted.clusters),
        ("machines", "quota.machines", wanted.machines),
        ("vcpus", "quota.vcpus", wanted.vcpus),
        ("loadBalancers", "quota.load_balancers", wanted.load_balancers),
    ] {
        if let Some(value) = value {
            found.require(value >= 0, path, "must not be negative");
            map.insert(key.to_owned(), value.to_string());
        }
    }
    for (key, path, value) in [
        ("memory", "quota.memory", wanted.memory),
        ("storage", "quota.storage", wanted.storage),
    ] {
        if !value.is_empty() {
            found.require(
                value.parse::<Quantity>().is_ok_and(|q| !q.is_negative()),
                path,
                "must be a quantity such as 512Gi",
            );
            map.insert(key.to_owned(), value);
        }
    }
    let display_name = Some(message.display_name.clone()).filter(|name| !name.is_empty());
    found.finish_with(Some(ProjectSpec {
        display_name,
        quota: map,
    }))
}
