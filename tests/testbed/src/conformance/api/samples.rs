//! Objects that several files of cases begin with.

use serde_json::{Value, json};

/// A pod that no scheduler takes, so that it stays as it is.
pub(super) fn mk_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "registry.example/main:1"}],
        },
    })
}

/// A pod that runs wherever there is room.
pub(super) fn mk_running_pod(name: &str) -> Value {
    let mut pod = mk_pod(name);
    pod["spec"]["schedulerName"] = json!("default-scheduler");
    pod
}

/// A deployment of such pods.
pub(super) fn mk_deployment(name: &str, replicas: u16) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": mk_pod(name)["spec"]},
        },
    })
}

/// A config map, which nothing acts on.
pub(super) fn mk_config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "1"}})
}
