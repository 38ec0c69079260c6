//! The tasks that follow tenants, one for each Cluster.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use kube::{Api, Client, ResourceExt};
use rand::RngExt;
use steading_infra::labels;
use steading_runtime::{
    CancellationToken,
    clock::Clock,
    metrics::Metrics,
    tasks::{Chain, Spawner},
};
use tokio::sync::{Notify, broadcast::error::RecvError};

use super::{
    Connector, KindHealth, TenantKind,
    claims::{ServerClaim, described, owner},
    feed::Feed,
    metrics::TenantMetrics,
    projection,
    state::{Tenant, Unreached},
};
use crate::{
    domain::kubeconfig::{self, TenantKubeconfig},
    observe::{Kind, Observed},
};

/// How often a Secret of another name than the usual one is read again; only those of the usual name are watched.
const UNWATCHED_SECRET: Duration = Duration::from_secs(60);
/// How often a watched Secret is read again all the same.
const WATCHED_SECRET: Duration = Duration::from_secs(900);
/// How often a cluster whose API server is another's looks whether it still is.
const CLAIM_CHECK: Duration = Duration::from_secs(30);
/// Pause before the second attempt to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between attempts.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Longest wait for an answer while connecting.
const ANSWER: Duration = Duration::from_secs(10);
/// How often tenants are counted for the metrics.
const COUNT: Duration = Duration::from_secs(5);
/// Longest text of an error that is kept.
const WHY: usize = 300;

/// A task that runs, and what ends it or wakes it.
struct Running {
    stop: CancellationToken,
    wake: Arc<Notify>,
    secret: String,
}

/// Keeps one actor for every Cluster that exists.
pub async fn run(
    observed: Arc<Observed>,
    infra: Client,
    connector: Connector,
    clock: Clock,
    metrics: Metrics,
    spawner: Spawner,
) {
    let metrics = TenantMetrics::new(&metrics);
    let mut count = tokio::time::interval(COUNT);
    let cancel = spawner.token().clone();
    let mut changes = observed.subscribe();
    let mut running: HashMap<String, Running> = HashMap::new();
    loop {
        let wanted = wanted(&observed);
        running.retain(|namespace, actor| {
            let keep = wanted.get(namespace) == Some(&actor.secret);
            if !keep {
                actor.stop.cancel();
                observed.remove_tenant(namespace);
            }
            keep
        });
        for (namespace, secret) in wanted {
            if running.contains_key(&namespace) {
                continue;
            }
            let (stop, wake) = (cancel.child_token(), Arc::new(Notify::new()));
            let tenant = Arc::new(Tenant::new(&namespace));
            observed.insert_tenant(Arc::clone(&tenant));
            let actor = Actor {
                observed: Arc::clone(&observed),
                infra: infra.clone(),
                connector: connector.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                wake: Arc::clone(&wake),
                tenant,
                secret: secret.clone(),
            };
            let token = stop.clone();
            running.insert(namespace.clone(), Running { stop, wake, secret });
            spawner.spawn_finite(&format!("tenant {namespace}"), async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = actor.run() => {}
                }
            });
        }
        loop {
            let change = tokio::select! {
                () = cancel.cancelled() => return,
                _ = count.tick() => {
                    metrics.count(&observed.tenants());
                    continue;
                }
                change = changes.recv() => change,
            };
            match change {
                Ok(change) if change.kind == Kind::Cluster => break,
                Ok(change) if change.kind == Kind::Kubeconfig => {
                    if let Some(actor) = running.get(&change.namespace) {
                        actor.wake.notify_one();
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    for actor in running.values() {
                        actor.wake.notify_one();
                    }
                    break;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Namespace and Secret of each Cluster whose control plane somebody else runs.
fn wanted(observed: &Observed) -> HashMap<String, String> {
    let clusters = observed.clusters.all();
    let external = clusters.iter().filter_map(|cluster| {
        let external = cluster.spec.control_plane.external.as_ref()?;
        let secret = if external.kubeconfig_secret.is_empty() {
            labels::KUBECONFIG_SECRET
        } else {
            &external.kubeconfig_secret
        };
        crate::plan::ownership::is_named_rightly(cluster).then(|| (cluster.name_any(), secret.to_owned()))
    });
    external.collect()
}

/// The task of one tenant.
struct Actor {
    observed: Arc<Observed>,
    infra: Client,
    connector: Connector,
    clock: Clock,
    metrics: TenantMetrics,
    wake: Arc<Notify>,
    tenant: Arc<Tenant>,
    secret: String,
}

impl Actor {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            // Tenant data reaches many libraries from here. What one tenant makes panic ends its own attempt and nothing else.
            let attempt = AssertUnwindSafe(self.attempt(&mut pause)).catch_unwind().await;
            let why = attempt.unwrap_or_else(|_| {
                self.metrics.process.task_panicked("tenant");
                tracing::error!(cluster = %self.tenant.namespace, "the task of a tenant panicked; it is tried again");
                Unreached::Failed("an internal error; see the log".into())
            });
            let wait = match &why {
                Unreached::Failed(_) => pause,
                Unreached::Duplicate(_) => CLAIM_CHECK,
            };
            self.nothing_is_current(&why);
            self.reach(Err(why));
            tokio::select! {
                () = tokio::time::sleep(wait.mul_f64(rand::rng().random_range(0.8..1.2))) => {}
                () = self.wake.notified() => {}
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Connects and follows until that ends; says why.
    async fn attempt(&self, pause: &mut Duration) -> Unreached {
        match self.connect().await {
            Ok((client, version)) => {
                *pause = FIRST_PAUSE;
                self.follow(client, &version).await
            }
            Err(why) => why,
        }
    }

    fn reach(&self, result: Result<(), Unreached>) {
        if self.tenant.set_reach(result) {
            tracing::info!(cluster = %self.tenant.namespace, reach = ?self.tenant.reach(), "tenant api server");
            self.observed.notify(Kind::Tenant, &self.tenant.namespace, "");
        }
    }

    fn kind(&self, kind: TenantKind, health: KindHealth) {
        if !self.tenant.set_kind(kind, health) {
            return;
        }
        let kinds = self.tenant.kinds();
        tracing::info!(cluster = %self.tenant.namespace, kind = kind.as_str(), health = ?kinds.get(&kind), "tenant watch");
        // A server is reachable as long as one kind can be followed.
        let mut stale = kinds.values().filter_map(|health| match health {
            KindHealth::Stale { why, .. } => Some(why.clone()),
            KindHealth::Live { .. } | KindHealth::Syncing => None,
        });
        if kinds.values().any(KindHealth::is_live) {
            self.reach(Ok(()));
        } else if let Some(why) = stale.next().filter(|_| stale.count() + 1 == kinds.len()) {
            self.reach(Err(Unreached::Failed(why)));
        }
        self.observed.notify(Kind::Tenant, &self.tenant.namespace, "");
    }

    /// Without a connection every kind is as it was.
    fn nothing_is_current(&self, why: &Unreached) {
        let (Unreached::Failed(why) | Unreached::Duplicate(why)) = why;
        for kind in [TenantKind::Nodes, TenantKind::Services] {
            let since = self.clock.now();
            self.tenant.set_kind(
                kind,
                KindHealth::Stale {
                    since,
                    why: why.clone(),
                },
            );
        }
    }

    /// Reads the Secret; its kubeconfig and its version. `Ok(None)` if the infra cluster does not say.
    async fn read_secret(&self) -> Result<Option<(Secret, String)>, String> {
        let secrets: Api<Secret> = Api::namespaced(self.infra.clone(), &self.tenant.namespace);
        let found = secrets.get_opt(&self.secret).await;
        let Some(secret) = found.map_err(|error| format!("secret {} cannot be read: {error}", self.secret))? else {
            return Ok(None);
        };
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        Ok(Some((secret, version)))
    }

    async fn connect(&self) -> Result<(Client, String), Unreached> {
        let failed = |why: String| Unreached::Failed(why.chars().take(WHY).collect());
        let Some((secret, version)) = self.read_secret().await.map_err(failed)? else {
            self.tenant.drop_client();
            return Err(failed(format!("secret {} does not exist", self.secret)));
        };
        let bytes = secret.data.as_ref().and_then(|data| data.get(labels::KUBECONFIG_KEY));
        let parsed = bytes
            .ok_or_else(|| format!("secret {} has no key {}", self.secret, labels::KUBECONFIG_KEY))
            .and_then(|bytes| kubeconfig::parse(&bytes.0).map_err(|fault| fault.to_string()));
        let TenantKubeconfig {
            kubeconfig,
            mut endpoint,
        } = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                self.tenant.drop_client();
                return Err(failed(why));
            }
        };
        let client = self
            .connector
            .connect(&self.tenant.namespace, kubeconfig)
            .await
            .map_err(failed)?;
        let answer = tokio::time::timeout(ANSWER, client.apiserver_version()).await;
        let info = answer
            .map_err(|_| failed("the api server does not answer".into()))?
            .map_err(|error| failed(format!("the api server does not answer: {}", Chain(&error))))?;
        endpoint.version = info.git_version;
        let uid = self.server_uid(&client).await;
        if let Some(why) = uid.as_deref().and_then(|uid| self.claimed_by_another(uid)) {
            self.tenant.drop_client();
            return Err(Unreached::Duplicate(why));
        }
        self.tenant.set_connected(client.clone(), endpoint, uid);
        Ok((client, version))
    }

    /// Uid of `kube-system`; `None` if the tenant does not let it be read.
    async fn server_uid(&self, client: &Client) -> Option<String> {
        let spaces: Api<Namespace> = Api::all(client.clone());
        let read = tokio::time::timeout(ANSWER, spaces.get_metadata_opt("kube-system")).await;
        read.ok()?.ok()??.metadata.uid
    }

    /// Claims an API server for this cluster; why it may not have it.
    fn claimed_by_another(&self, uid: &str) -> Option<String> {
        let own = &self.tenant.namespace;
        let claims: Vec<ServerClaim> = self
            .observed
            .clusters
            .all()
            .iter()
            .filter(|cluster| {
                let seen = self
                    .observed
                    .tenant(&cluster.name_any())
                    .and_then(|tenant| tenant.uid());
                let stored = cluster.status.as_ref().and_then(|status| status.tenant_uid.clone());
                cluster.name_any() == *own || seen.or(stored).as_deref() == Some(uid)
            })
            .map(|cluster| ServerClaim {
                created: cluster.creation_timestamp().map(|time| time.0).unwrap_or_default(),
                cluster: cluster.name_any(),
            })
            .collect();
        let owner = owner(&claims)?;
        (owner.cluster != *own).then(|| described(&owner.cluster, own))
    }

    /// Follows each kind for itself until the Secret changes or the API server turns out to be another's; says why.
    async fn follow(&self, client: Client, version: &str) -> Unreached {
        self.reach(Ok(()));
        let namespace = self.tenant.namespace.as_str();
        let nodes = Feed {
            kind: TenantKind::Nodes,
            api: Api::<Node>::all(client.clone()),
            cache: &self.tenant.nodes,
            most: projection::MAX_NODES,
            project: projection::node,
            clock: &self.clock,
        };
        let services = Feed {
            kind: TenantKind::Services,
            api: Api::<Service>::all(client),
            cache: &self.tenant.services,
            most: projection::MAX_SERVICES,
            project: projection::service,
            clock: &self.clock,
        };
        let node_changed = |_: &str, name: &str| self.observed.notify(Kind::TenantNode, namespace, name);
        let service_changed = |space: &str, name: &str| {
            self.observed
                .notify(Kind::TenantService, namespace, &format!("{space}/{name}"));
        };
        tokio::select! {
            () = nodes.follow(node_changed, |kind, health| self.kind(kind, health)) => {}
            () = services.follow(service_changed, |kind, health| self.kind(kind, health)) => {}
            why = self.ends(version) => return why,
        }
        Unreached::Failed("the watches ended".into())
    }

    /// Waits for what ends the use of a client.
    async fn ends(&self, version: &str) -> Unreached {
        let check = if self.secret == labels::KUBECONFIG_SECRET {
            WATCHED_SECRET
        } else {
            UNWATCHED_SECRET
        };
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(check) => {}
            }
            match self.read_secret().await {
                Ok(Some((_, now))) if now == version => {}
                Ok(Some(_)) => return Unreached::Failed("the kubeconfig has changed; connecting again".into()),
                Ok(None) => {
                    self.tenant.drop_client();
                    return Unreached::Failed(format!("secret {} does not exist", self.secret));
                }
                // An infra cluster that does not answer says nothing about the tenant.
                Err(_) => {}
            }
            if let Some(why) = self.tenant.uid().and_then(|uid| self.claimed_by_another(&uid)) {
                self.tenant.drop_client();
                return Unreached::Duplicate(why);
            }
        }
    }
}
