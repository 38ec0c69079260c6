//! Connections to tenant API servers: one client and two watches for each cluster.
//!
//! The kubeconfig comes from the cluster's Secret and is read again at intervals and after failures, so that a rotation is
//! followed. While a tenant cannot be reached its last known objects stay, and [`Tenant::reach`] says that they are old: unknown is
//! never taken for gone.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use kube::{Api, Client, config::Kubeconfig, runtime::watcher};
use parking_lot::RwLock;
use steading_infra::labels;
use steading_runtime::{
    CancellationToken,
    tasks::{Chain, Spawner},
};

use crate::observe::{Index, Kind, Observed};

/// How often the Secret is looked at for a rotation while all is well.
const ROTATION_CHECK: Duration = Duration::from_secs(120);
/// Pause before the next attempt to connect.
const RECONNECT: Duration = Duration::from_millis(500);
/// Longest such pause.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for an answer of a tenant.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a tenant's API server can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Never reached so far; why.
    Connecting(String),
    /// It answers.
    Reachable,
    /// It answered before and does not now; why.
    Unreachable(String),
}

/// What a kubeconfig says about the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// URL of the API server.
    pub server: String,
    /// Its certificate authority, base64 of PEM; empty if the system's are trusted.
    pub ca_data: String,
    /// Whether its certificate is not checked.
    pub insecure: bool,
    /// Version that it told.
    pub version: String,
}

/// What is known of one tenant cluster.
pub struct Tenant {
    /// The cluster's namespace in the infra cluster.
    pub namespace: String,
    /// Its nodes, as last seen.
    pub nodes: Index<Node>,
    /// Its Services, as last seen.
    pub services: Index<Service>,
    state: RwLock<State>,
}

#[derive(Clone)]
struct State {
    reach: Reach,
    client: Option<Client>,
    endpoint: Endpoint,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("namespace", &self.namespace)
            .field("reach", &self.reach())
            .finish_non_exhaustive()
    }
}

impl Tenant {
    /// A tenant that nothing is known of.
    pub fn new(namespace: &str) -> Self {
        let state = State {
            reach: Reach::Connecting("no kubeconfig read yet".into()),
            client: None,
            endpoint: Endpoint::default(),
        };
        Self {
            namespace: namespace.to_owned(),
            nodes: Index::default(),
            services: Index::default(),
            state: RwLock::new(state),
        }
    }

    /// Whether its API server can be reached.
    pub fn reach(&self) -> Reach {
        self.state.read().reach.clone()
    }

    /// Whether what the indexes hold is current.
    pub fn is_reachable(&self) -> bool {
        self.state.read().reach == Reach::Reachable
    }

    /// A client, once a kubeconfig was read.
    pub fn client(&self) -> Option<Client> {
        self.state.read().client.clone()
    }

    /// Where the API server is.
    pub fn endpoint(&self) -> Endpoint {
        self.state.read().endpoint.clone()
    }

    fn set_connected(&self, client: Client, endpoint: Endpoint) {
        let mut state = self.state.write();
        state.client = Some(client);
        state.endpoint = endpoint;
    }

    /// Notes a success or a failure; true if that changed anything.
    fn set_reach(&self, result: Result<(), String>) -> bool {
        let mut state = self.state.write();
        let next = match (result, &state.reach) {
            (Ok(()), _) => Reach::Reachable,
            (Err(why), Reach::Connecting(_)) => Reach::Connecting(why),
            (Err(why), Reach::Reachable | Reach::Unreachable(_)) => Reach::Unreachable(why),
        };
        let changed = std::mem::discriminant(&next) != std::mem::discriminant(&state.reach);
        state.reach = next;
        changed
    }
}

/// Makes a client for a tenant from its kubeconfig.
#[derive(Clone)]
pub struct Connector(Arc<Connect>);

type Connect = dyn Fn(String, Kubeconfig) -> BoxFuture<'static, Result<Client, String>> + Send + Sync;

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Connects as the kubeconfig says, as far as a tenant may say it.
    pub fn from_kubeconfig() -> Self {
        Self::new(|_, kubeconfig| {
            Box::pin(async move {
                steading_runtime::kube::tenant_client(kubeconfig, labels::LIFECYCLE_MANAGER)
                    .await
                    .map_err(|error| format!("the kubeconfig cannot be used: {}", Chain(&error)))
            })
        })
    }

    /// Connects by a function of the cluster's namespace and the kubeconfig.
    pub fn new(
        connect: impl Fn(String, Kubeconfig) -> BoxFuture<'static, Result<Client, String>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(connect))
    }
}

/// Keeps one connection for every Cluster that exists.
pub async fn run(observed: Arc<Observed>, infra: Client, connector: Connector, spawner: Spawner) {
    let cancel = spawner.token().clone();
    let mut changes = observed.subscribe();
    let mut running: HashMap<String, CancellationToken> = HashMap::new();
    loop {
        let wanted: HashMap<String, String> = observed
            .clusters
            .all()
            .into_iter()
            .filter_map(|cluster| {
                let external = cluster.spec.control_plane.external.as_ref()?;
                let secret = if external.kubeconfig_secret.is_empty() {
                    labels::KUBECONFIG_SECRET
                } else {
                    &external.kubeconfig_secret
                };
                Some((cluster.metadata.name.clone()?, secret.to_owned()))
            })
            .collect();
        running.retain(|namespace, stop| {
            let keep = wanted.contains_key(namespace);
            if !keep {
                stop.cancel();
                observed.remove_tenant(namespace);
            }
            keep
        });
        for (namespace, secret) in wanted {
            if running.contains_key(&namespace) {
                continue;
            }
            let (stop, tenant) = (cancel.child_token(), Arc::new(Tenant::new(&namespace)));
            observed.insert_tenant(Arc::clone(&tenant));
            let link = Link {
                observed: Arc::clone(&observed),
                infra: infra.clone(),
                connector: connector.clone(),
                tenant,
                secret,
            };
            running.insert(namespace.clone(), stop.clone());
            spawner.spawn_finite(&format!("tenant {namespace}"), async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = link.run() => {}
                }
            });
        }
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) if change.kind == Kind::Cluster => break,
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

/// The task of one tenant.
struct Link {
    observed: Arc<Observed>,
    infra: Client,
    connector: Connector,
    tenant: Arc<Tenant>,
    secret: String,
}

impl Link {
    async fn run(self) {
        let mut pause = RECONNECT;
        loop {
            let why = match self.connect().await {
                Ok((client, version)) => {
                    pause = RECONNECT;
                    self.follow(client, &version).await
                }
                Err(why) => why,
            };
            self.reach(Err(why));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    fn reach(&self, result: Result<(), String>) {
        if self.tenant.set_reach(result) {
            tracing::info!(cluster = %self.tenant.namespace, reach = ?self.tenant.reach(), "tenant api server");
            self.observed.notify(Kind::Tenant, &self.tenant.namespace, "");
        }
    }

    /// Reads the Secret; its kubeconfig and its version.
    async fn kubeconfig(&self) -> Result<(Kubeconfig, String), String> {
        let secrets: Api<Secret> = Api::namespaced(self.infra.clone(), &self.tenant.namespace);
        let secret = secrets
            .get_opt(&self.secret)
            .await
            .map_err(|error| format!("secret {} cannot be read: {error}", self.secret))?
            .ok_or_else(|| format!("secret {} does not exist", self.secret))?;
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        let bytes = secret.data.as_ref().and_then(|data| data.get(labels::KUBECONFIG_KEY));
        let text = bytes
            .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
            .unwrap_or_default();
        if text.is_empty() {
            return Err(format!(
                "secret {} has no text under {}",
                self.secret,
                labels::KUBECONFIG_KEY
            ));
        }
        let parsed =
            Kubeconfig::from_yaml(text).map_err(|error| format!("the kubeconfig cannot be parsed: {error}"))?;
        Ok((parsed, version))
    }

    async fn connect(&self) -> Result<(Client, String), String> {
        let (kubeconfig, version) = self.kubeconfig().await?;
        let mut endpoint = endpoint_of(&kubeconfig);
        let client = (self.connector.0)(self.tenant.namespace.clone(), kubeconfig).await?;
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, client.apiserver_version());
        let info = answer.await.map_err(|_| "the api server does not answer".to_owned())?;
        endpoint.version = info
            .map_err(|error| format!("the api server does not answer: {error}"))?
            .git_version;
        self.tenant.set_connected(client.clone(), endpoint);
        Ok((client, version))
    }

    /// Watches until something breaks or the Secret changes; says why.
    async fn follow(&self, client: Client, version: &str) -> String {
        let mut nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).boxed();
        let mut services = watcher(Api::<Service>::all(client), watcher::Config::default()).boxed();
        let mut check = tokio::time::interval(ROTATION_CHECK);
        check.tick().await;
        let namespace = &self.tenant.namespace;
        loop {
            tokio::select! {
                event = nodes.next() => match event {
                    Some(Ok(event)) => {
                        for (_, name) in self.tenant.nodes.apply(event) {
                            self.observed.notify(Kind::TenantNode, namespace, &name);
                        }
                    }
                    Some(Err(error)) => return format!("the watch of nodes broke: {error}"),
                    None => return "the watch of nodes ended".into(),
                },
                event = services.next() => match event {
                    Some(Ok(event)) => {
                        for (space, name) in self.tenant.services.apply(event) {
                            self.observed.notify(Kind::TenantService, namespace, &format!("{space}/{name}"));
                        }
                    }
                    Some(Err(error)) => return format!("the watch of services broke: {error}"),
                    None => return "the watch of services ended".into(),
                },
                _ = check.tick() => {
                    // An infra cluster that does not answer says nothing about the tenant.
                    if let Ok((_, now)) = self.kubeconfig().await && now != version {
                        return "the kubeconfig was rotated".into();
                    }
                }
            }
            if self.tenant.nodes.is_synced() && self.tenant.services.is_synced() {
                self.reach(Ok(()));
            }
        }
    }
}

fn endpoint_of(kubeconfig: &Kubeconfig) -> Endpoint {
    let context = kubeconfig.current_context.as_deref();
    let context = kubeconfig
        .contexts
        .iter()
        .find(|c| Some(c.name.as_str()) == context)
        .and_then(|c| c.context.as_ref());
    let named = context.and_then(|context| kubeconfig.clusters.iter().find(|c| c.name == context.cluster));
    let cluster = named.or(kubeconfig.clusters.first()).and_then(|c| c.cluster.as_ref());
    cluster.map_or_else(Endpoint::default, |cluster| Endpoint {
        server: cluster.server.clone().unwrap_or_default(),
        ca_data: cluster.certificate_authority_data.clone().unwrap_or_default(),
        insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
        version: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_was_reached_becomes_unreachable_not_connecting() {
        let tenant = Tenant::new("a--b");
        assert!(!tenant.set_reach(Err("no secret".into())));
        assert_eq!(tenant.reach(), Reach::Connecting("no secret".into()));
        assert!(tenant.set_reach(Ok(())));
        assert!(tenant.set_reach(Err("broke".into())));
        assert_eq!(tenant.reach(), Reach::Unreachable("broke".into()));
    }
}
