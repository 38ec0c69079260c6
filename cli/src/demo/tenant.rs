//! The tenant's side: workloads in the tenant cluster, through that cluster's own API.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use serde_json::{Value, json};

use super::report::Report;

const NAMESPACE: &str = "default";
/// Who the demonstration is to the tenant's API server.
const FIELD_MANAGER: &str = "steading-demo";
/// Replicas of the web service.
pub const WEB_REPLICAS: usize = 3;
/// Of which this many must be there at any time.
pub const WEB_MIN_AVAILABLE: usize = 2;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long pods and addresses may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// A tenant cluster.
#[derive(Clone)]
pub struct Tenant {
    client: Client,
}

impl Tenant {
    /// Connects with the kubeconfig that the API gave, in base64 as JSON carries bytes.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used.
    pub async fn connect(kubeconfig: &str) -> anyhow::Result<Self> {
        let yaml = String::from_utf8(BASE64_STANDARD.decode(kubeconfig)?)?;
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::from_yaml(&yaml)?, &KubeConfigOptions::default()).await?;
        Ok(Self {
            client: Client::try_from(config)?,
        })
    }

    /// The web service: a Deployment, its disruption budget, a Service with an address.
    ///
    /// # Errors
    /// What the tenant's API server says.
    pub async fn deploy_web(&self) -> anyhow::Result<()> {
        self.apply::<Deployment>("web", deployment("web", WEB_REPLICAS, &json!({})))
            .await?;
        self.apply::<PodDisruptionBudget>(
            "web",
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "web" },
                "spec": { "minAvailable": WEB_MIN_AVAILABLE, "selector": { "matchLabels": { "app": "web" } } },
            }),
        )
        .await?;
        self.apply::<Service>(
            "web",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": {
                    "type": "LoadBalancer", "selector": { "app": "web" },
                    "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
                },
            }),
        )
        .await
    }

    /// The workload that needs the volume, on the machine that has it.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`].
    pub async fn deploy_orders(&self, machine: &str) -> anyhow::Result<()> {
        let pinned = json!({ "kubernetes.io/hostname": machine });
        self.apply::<Deployment>("orders", deployment("orders", 1, &pinned))
            .await
    }

    /// Takes the workloads away and waits until the Service is gone: its load balancer is deleted before it.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`], or after two minutes.
    pub async fn remove_workloads(&self) -> anyhow::Result<()> {
        for name in ["web", "orders"] {
            self.delete::<Deployment>(name).await?;
        }
        self.delete::<PodDisruptionBudget>("web").await?;
        self.delete::<Service>("web").await?;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        while services.get_opt("web").await?.is_some() {
            if tokio::time::Instant::now() > deadline {
                bail!("the Service is not gone after {}s", DEADLINE.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), NAMESPACE);
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {name} in the tenant cluster")),
        }
    }

    async fn apply<K>(&self, name: &str, object: Value) -> anyhow::Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), NAMESPACE);
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("cannot apply {name} in the tenant cluster"))?;
        Ok(())
    }

    /// Waits until every replica of the web service is ready.
    ///
    /// # Errors
    /// After two minutes.
    pub async fn wait_web_ready(&self, report: &Report) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut shown = usize::MAX;
        loop {
            let ready = self.ready_pods("web").await?;
            if ready != shown {
                report.progress(&format!("web: {ready} of {WEB_REPLICAS} replicas ready"));
                shown = ready;
            }
            if ready >= WEB_REPLICAS {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "only {ready} of {WEB_REPLICAS} replicas of web are ready after {}s",
                    DEADLINE.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ready pods of an app that are not terminating.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`].
    pub async fn ready_pods(&self, app: &str) -> anyhow::Result<usize> {
        Ok(self.pods(app).await?.iter().filter(|p| is_ready(p)).count())
    }

    async fn pods(&self, app: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api
            .list(&ListParams::default().labels(&format!("app={app}")))
            .await?
            .items)
    }

    /// The changes of the web service's pods.
    pub fn watch_web(&self) -> impl futures::Stream<Item = watcher::Result<watcher::Event<Pod>>> + Send + 'static {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        watcher::watcher(api, watcher::Config::default().labels("app=web"))
    }

    /// Waits for the web service's address.
    ///
    /// # Errors
    /// After two minutes.
    pub async fn wait_address(&self, report: &Report) -> anyhow::Result<String> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        report.progress("waiting for an address");
        loop {
            let address = self.address().await?;
            if !address.is_empty() {
                return Ok(address);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the Service has no address after {}s", DEADLINE.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The web service's address, empty if it has none.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`].
    pub async fn address(&self) -> anyhow::Result<String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let ingress = api
            .get("web")
            .await?
            .status
            .and_then(|s| s.load_balancer)
            .and_then(|l| l.ingress);
        Ok(ingress
            .into_iter()
            .flatten()
            .find_map(|i| i.ip.or(i.hostname))
            .unwrap_or_default())
    }

    /// Each Node and whether it is ready and open for pods.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`].
    pub async fn nodes(&self) -> anyhow::Result<BTreeMap<String, bool>> {
        let nodes = Api::<Node>::all(self.client.clone())
            .list(&ListParams::default())
            .await?
            .items;
        Ok(nodes
            .into_iter()
            .map(|n| (n.metadata.name.clone().unwrap_or_default(), is_usable(&n)))
            .collect())
    }

    /// The Node that the workload with the volume runs on.
    ///
    /// # Errors
    /// As [`Tenant::deploy_web`].
    pub async fn orders_node(&self) -> anyhow::Result<String> {
        let pods = self.pods("orders").await?;
        let running = pods.iter().find(|p| is_ready(p));
        Ok(running
            .and_then(|p| p.spec.as_ref()?.node_name.clone())
            .unwrap_or_default())
    }
}

fn deployment(name: &str, replicas: usize, node_selector: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "nodeSelector": node_selector,
                    "containers": [{
                        "name": "main", "image": format!("registry.example.test/{name}:1"),
                        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                    }],
                },
            },
        },
    })
}

/// Whether a pod is ready and stays.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn is_usable(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let spec = node.spec.as_ref();
    let uninitialized = spec
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default()
        .iter()
        .any(|t| t.key.contains("uninitialized"));
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
        && !uninitialized
        && spec.and_then(|s| s.unschedulable) != Some(true)
        && spec.is_some_and(|s| s.provider_id.as_deref().unwrap_or_default().starts_with("kubevirt://"))
}
