//! Schemas of Kubernetes' own types, made on demand from the types that `k8s-openapi` carries: for `kubectl explain` and to find unknown fields.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        admissionregistration::v1 as webhooks, apps::v1 as apps, batch::v1 as batch, coordination::v1 as coordination,
        core::v1 as core, discovery::v1 as discovery, networking::v1 as networking, policy::v1 as policy,
        rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
    },
    schemars::{JsonSchema, generate::SchemaSettings},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::resource::ResourceDef;

type Make = fn() -> Value;

fn make<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn maker(group: &str, kind: &str) -> Option<Make> {
    Some(match (group, kind) {
        ("", "Namespace") => make::<core::Namespace>,
        ("", "Node") => make::<core::Node>,
        ("", "Pod") => make::<core::Pod>,
        ("", "Service") => make::<core::Service>,
        ("", "Endpoints") => make::<core::Endpoints>,
        ("", "Secret") => make::<core::Secret>,
        ("", "ConfigMap") => make::<core::ConfigMap>,
        ("", "Event") => make::<core::Event>,
        ("", "ServiceAccount") => make::<core::ServiceAccount>,
        ("", "PersistentVolumeClaim") => make::<core::PersistentVolumeClaim>,
        ("", "PersistentVolume") => make::<core::PersistentVolume>,
        ("", "ResourceQuota") => make::<core::ResourceQuota>,
        ("", "LimitRange") => make::<core::LimitRange>,
        ("apps", "Deployment") => make::<apps::Deployment>,
        ("apps", "ReplicaSet") => make::<apps::ReplicaSet>,
        ("apps", "StatefulSet") => make::<apps::StatefulSet>,
        ("apps", "DaemonSet") => make::<apps::DaemonSet>,
        ("batch", "Job") => make::<batch::Job>,
        ("batch", "CronJob") => make::<batch::CronJob>,
        ("coordination.k8s.io", "Lease") => make::<coordination::Lease>,
        ("discovery.k8s.io", "EndpointSlice") => make::<discovery::EndpointSlice>,
        ("policy", "PodDisruptionBudget") => make::<policy::PodDisruptionBudget>,
        ("networking.k8s.io", "NetworkPolicy") => make::<networking::NetworkPolicy>,
        ("networking.k8s.io", "Ingress") => make::<networking::Ingress>,
        ("rbac.authorization.k8s.io", "Role") => make::<rbac::Role>,
        ("rbac.authorization.k8s.io", "RoleBinding") => make::<rbac::RoleBinding>,
        ("rbac.authorization.k8s.io", "ClusterRole") => make::<rbac::ClusterRole>,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => make::<rbac::ClusterRoleBinding>,
        ("scheduling.k8s.io", "PriorityClass") => make::<scheduling::PriorityClass>,
        ("storage.k8s.io", "StorageClass") => make::<storage::StorageClass>,
        ("storage.k8s.io", "CSIDriver") => make::<storage::CSIDriver>,
        ("storage.k8s.io", "VolumeAttachment") => make::<storage::VolumeAttachment>,
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
            make::<webhooks::ValidatingWebhookConfiguration>
        }
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => {
            make::<webhooks::MutatingWebhookConfiguration>
        }
        _ => return None,
    })
}

/// The schema of a built-in type, where it is known. Made at most once a process.
pub(crate) fn of(def: &ResourceDef) -> Option<Arc<Value>> {
    static KNOWN: Mutex<BTreeMap<(String, String), Arc<Value>>> = Mutex::new(BTreeMap::new());
    let make = maker(&def.group, &def.kind)?;
    let key = (def.group.clone(), def.kind.clone());
    let mut known = KNOWN.lock();
    Some(known.entry(key).or_insert_with(|| Arc::new(make())).clone())
}
