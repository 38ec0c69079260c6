//! Tenants' API servers in memory, with what a controller manager would do on them.

use serde_json::{Value, json};
use steading_kubesim::{ApiServer, ApiServerConfig, PodDeletion};
use tokio::task::JoinSet;

use super::registry::{Host, Kind, POD_NETWORK, Reached, Tenant, path_of};
use crate::behaviour::{
    Context, gc,
    kubelet::{self, Lost},
    scheduler, workloads,
};

/// Gives a namespace its API server, if it has none yet. Returns the kubeconfig.
pub(super) fn ensure(host: &Host, namespace: &str, url: &str) -> String {
    let server = format!("{url}{}", path_of(namespace));
    let text = kubeconfig(&server).to_string();
    if host.tenants.has(namespace) {
        return text;
    }
    let context = &host.context;
    let memory = ApiServer::new(ApiServerConfig {
        time: context.time.clone(),
        seed: context.seed ^ namespace.bytes().map(u64::from).sum::<u64>(),
        pod_deletion: PodDeletion::Graceful,
        base_path: path_of(namespace),
        ..ApiServerConfig::default()
    });
    let play = |agent: &str| Context {
        client: memory.client_named(agent),
        ..context.clone()
    };
    let cancel = || host.cancel.clone();
    let mut players = JoinSet::new();
    players.spawn(scheduler::run(play("kube-scheduler"), cancel()));
    players.spawn(kubelet::run(play("kubelet"), POD_NETWORK, Lost::Collected, cancel()));
    players.spawn(workloads::run(play("kube-controller-manager"), cancel()));
    players.spawn(gc::run(play("kube-controller-manager"), memory.clone(), cancel()));
    let tenant = Tenant {
        server,
        reached: Reached {
            client: memory.client_named("kubelet"),
            kind: Kind::Simulated,
        },
        memory: Some(memory),
        _players: players,
    };
    host.tenants.insert(namespace, tenant);
    text
}

/// An administrator's kubeconfig. JSON is YAML, and every reader of kubeconfigs reads YAML.
fn kubeconfig(server: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tenant",
        "clusters": [{ "name": "tenant", "cluster": { "server": server } }],
        "users": [{ "name": "admin", "user": { "token": "admin" } }],
        "contexts": [{ "name": "tenant", "context": { "cluster": "tenant", "user": "admin" } }],
    })
}
