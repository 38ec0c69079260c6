//! Empties a tenant's control plane for the next Cluster.

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;

use crate::behaviour::drive::unless_gone;

/// Deletions under way at a time.
const MAX_RUNNING: usize = 8;

/// Group, version, kind, plural of what is taken away, owners before what they own.
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("batch", "v1", "Job", "jobs"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "v1", "PersistentVolume", "persistentvolumes"),
    ("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments"),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
    ("storage.k8s.io", "v1", "CSIDriver", "csidrivers"),
    ("", "v1", "Node", "nodes"),
    ("coordination.k8s.io", "v1", "Lease", "leases"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Namespace", "namespaces"),
];

/// Takes away what a Cluster has left behind.
///
/// # Errors
/// When the API server does not answer; what was not taken away is when this is called again.
pub(super) async fn wipe(client: &Client) -> kube::Result<()> {
    for (group, version, kind, plural) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let found = all.list(&ListParams::default()).await?;
        let left = found.items.into_iter().filter(|object| {
            let kind_of_secret = object.data.get("type").and_then(serde_json::Value::as_str);
            goes(
                kind,
                &object.namespace().unwrap_or_default(),
                &object.name_any(),
                kind_of_secret,
            )
        });
        stream::iter(left.map(|object| remove(client, &resource, object)))
            .buffer_unordered(MAX_RUNNING)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

/// Whether an object belongs to a Cluster rather than to the control plane.
fn goes(kind: &str, namespace: &str, name: &str, kind_of_secret: Option<&str>) -> bool {
    let own = namespace.starts_with("kube-");
    match kind {
        "Secret" => {
            (namespace == "kube-system" && name.starts_with("bootstrap-token-"))
                || (!own && kind_of_secret == Some("Opaque"))
        }
        "Lease" => namespace == "kube-node-lease",
        "Service" => !own && (namespace != "default" || name != "kubernetes"),
        "Namespace" => name != "default" && !name.starts_with("kube-"),
        _ => !own,
    }
}

async fn remove(client: &Client, resource: &ApiResource, object: DynamicObject) -> kube::Result<()> {
    let name = object.name_any();
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    // Those who would take their finalizers off are gone. A namespace's is the namespace controller's, which is not.
    if !object.finalizers().is_empty() && resource.kind != "Namespace" {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        unless_gone(api.patch(&name, &PatchParams::default(), &free).await)?;
    }
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::background()
    };
    unless_gone(api.delete(&name, &now).await).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_planes_own_objects_stay() {
        let table = [
            ("Pod", "default", "web", true),
            ("Pod", "kube-system", "dns", false),
            ("Service", "default", "kubernetes", false),
            ("Service", "shop", "kubernetes", true),
            ("Node", "", "m1", true),
            ("Lease", "kube-node-lease", "m1", true),
            ("Lease", "kube-system", "kube-scheduler", false),
            ("Secret", "kube-system", "bootstrap-token-abcdef", true),
            ("Secret", "kube-system", "other", false),
            ("Namespace", "", "shop", true),
            ("Namespace", "", "kube-public", false),
            ("Namespace", "", "default", false),
        ];
        for (kind, namespace, name, expected) in table {
            assert_eq!(goes(kind, namespace, name, None), expected, "{kind} {namespace}/{name}");
        }
        assert!(goes("Secret", "default", "mine", Some("Opaque")));
        assert!(!goes(
            "Secret",
            "default",
            "token",
            Some("kubernetes.io/service-account-token")
        ));
    }
}
