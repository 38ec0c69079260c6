//! Plays whoever runs the tenants' control planes: an API server for every Cluster with an external one, and its kubeconfig.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams, runtime::watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use steading_infra::{crd::Cluster, labels};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, unless_there, work_off},
    gc, kubelet, scheduler, workloads,
};
use crate::apiserver::{ApiServer, ApiServerConfig, Flavour, Key, PodDeletion};

/// Pause before the kubeconfig of a cluster without a namespace is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Tenants' pod addresses are in 10.200/16: apart from those of the infra cluster.
const POD_NETWORK: u8 = 200;

/// The tenants' API servers, by namespace in the infra cluster. Clones share them.
#[derive(Clone, Default)]
pub struct Tenants(Arc<Mutex<BTreeMap<String, Tenant>>>);

struct Tenant {
    server: ApiServer,
    /// Ends the tenant's controllers when it is dropped.
    _controllers: JoinSet<()>,
}

impl Tenants {
    /// A tenant's API server.
    pub fn get(&self, namespace: &str) -> Option<ApiServer> {
        self.0.lock().get(namespace).map(|t| t.server.clone())
    }

    /// The namespaces that have one.
    pub fn namespaces(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Gives a namespace its API server, with controllers that end with `cancel`.
    fn ensure(&self, context: &Context, namespace: &str, cancel: &CancellationToken) {
        let mut tenants = self.0.lock();
        if tenants.contains_key(namespace) {
            return;
        }
        let server = ApiServer::new(ApiServerConfig {
            time: context.time.clone(),
            flavour: Flavour::Tenant,
            seed: context.seed ^ namespace.bytes().map(u64::from).sum::<u64>(),
            pod_deletion: PodDeletion::Graceful,
            base_path: path_of(namespace),
            ..ApiServerConfig::default()
        });
        let play = |agent: &str| Context {
            client: server.client_named(agent),
            ..context.clone()
        };
        let mut controllers = JoinSet::new();
        controllers.spawn(scheduler::run(play("kube-scheduler"), cancel.clone()));
        controllers.spawn(kubelet::run(play("kubelet"), POD_NETWORK, cancel.clone()));
        controllers.spawn(workloads::run(play("kube-controller-manager"), cancel.clone()));
        controllers.spawn(gc::run(play("kube-controller-manager"), server.clone(), cancel.clone()));
        tenants.insert(
            namespace.to_owned(),
            Tenant {
                server,
                _controllers: controllers,
            },
        );
    }

    fn remove(&self, namespace: &str) {
        self.0.lock().remove(namespace);
    }
}

/// Below which path a tenant's API server is served.
pub fn path_of(namespace: &str) -> String {
    format!("/tenants/{namespace}")
}

/// Runs until `cancel`. `server_url` is where the simulation is served, such as `http://127.0.0.1:6443`.
pub async fn run(context: Context, tenants: Tenants, server_url: String, cancel: CancellationToken) {
    let (clusters, seen) = follow(Api::<Cluster>::all(context.client.clone()), watcher::Config::default());
    let keys = seen.map(|s| s.key);
    work_off(&context.time, cancel.clone(), keys.boxed(), |key| {
        let (context, clusters, tenants, url, cancel) = (
            context.clone(),
            clusters.clone(),
            tenants.clone(),
            server_url.clone(),
            cancel.clone(),
        );
        async move { sync(&context, &clusters, &tenants, &url, &cancel, &key).await }
    })
    .await;
}

async fn sync(
    context: &Context,
    clusters: &Cache<Cluster>,
    tenants: &Tenants,
    url: &str,
    cancel: &CancellationToken,
    key: &Key,
) -> kube::Result<Again> {
    let namespace = &key.name;
    let Some(cluster) = clusters.get(key) else {
        tenants.remove(namespace);
        return Ok(None);
    };
    let Some(external) = &cluster.spec.control_plane.external else {
        return Ok(None);
    };
    tenants.ensure(context, namespace, cancel);
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let name = match external.kubeconfig_secret.as_str() {
        "" => labels::KUBECONFIG_SECRET,
        name => name,
    };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let mut secret = Secret::default();
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.labels = Some(
        cluster
            .labels()
            .iter()
            .filter(|(k, _)| k.starts_with(labels::GROUP))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    );
    let text = kubeconfig(&format!("{url}{}", path_of(namespace))).to_string();
    secret.data = Some(
        [(
            labels::KUBECONFIG_KEY.to_owned(),
            k8s_openapi::ByteString(text.into_bytes()),
        )]
        .into(),
    );
    match unless_there(secrets.create(&PostParams::default(), &secret).await) {
        Ok(_) => Ok(None),
        // The namespace is made by somebody else.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(Some(RETRY)),
        Err(error) => Err(error),
    }
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
