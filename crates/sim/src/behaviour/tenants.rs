//! Plays whoever runs the tenants' control planes: every Cluster with an external one gets an API server, and the API server's kubeconfig.
//!
//! Two sources: API servers in memory, made when they are wanted, or real control planes that others have started and that are handed in.
//! Either way a scheduler and kubelets for the tenant's pods are played on them; what else a controller manager does is played only in memory.

mod given;
mod memory;
mod registry;
mod wipe;

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams, runtime::watcher};
use steading_infra::{crd::Cluster, labels};
use tokio_util::sync::CancellationToken;

use self::registry::Host;
pub use self::registry::{BELOW, ControlPlane, Kind, Reached, Tenants, path_of};
use super::{
    Context,
    drive::{Again, Cache, follow, unless_there, work_off},
};
use steading_kubesim::Key;

/// Pause before the kubeconfig of a cluster without a namespace is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Pause before a cluster that found no free control plane looks again.
const WAIT: Duration = Duration::from_secs(1);
/// Where tenants' control planes come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// In-memory API servers, served below this URL (such as `http://127.0.0.1:6443`) by [`steading_kubesim::http::with_named`].
    Memory(String),
    /// These, each for one Cluster at a time. When a Cluster is gone, its control plane is emptied and is free for the next one.
    Given(Vec<ControlPlane>),
}

#[derive(Clone)]
struct Landlord {
    host: Host,
    clusters: Cache<Cluster>,
    homes: Homes,
}

#[derive(Clone)]
enum Homes {
    Memory(String),
    Given(given::Pool),
}

/// Runs until `cancel`.
pub async fn run(context: Context, tenants: Tenants, source: Source, cancel: CancellationToken) {
    let (clusters, seen) = follow(Api::<Cluster>::all(context.client.clone()), watcher::Config::default());
    let landlord = Landlord {
        homes: match source {
            Source::Memory(url) => Homes::Memory(url),
            Source::Given(planes) => Homes::Given(given::Pool::new(&context, planes)),
        },
        host: Host {
            context: context.clone(),
            tenants,
            cancel: cancel.clone(),
        },
        clusters,
    };
    work_off(&context.time, cancel, seen.map(|seen| seen.key).boxed(), |key| {
        let landlord = landlord.clone();
        async move { landlord.sync(&key).await }
    })
    .await;
}

impl Landlord {
    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let namespace = &key.name;
        let Some(cluster) = self.clusters.get(key) else {
            self.host.tenants.remove(namespace);
            if let Homes::Given(pool) = &self.homes {
                pool.release(namespace).await?;
            }
            return Ok(None);
        };
        let Some(external) = &cluster.spec.control_plane.external else {
            return Ok(None);
        };
        let name = match external.kubeconfig_secret.as_str() {
            "" => labels::KUBECONFIG_SECRET,
            name => name,
        };
        let going = cluster.metadata.deletion_timestamp.is_some();
        let (kubeconfig, mark) = match &self.homes {
            Homes::Memory(url) => (memory::ensure(&self.host, namespace, url), None),
            Homes::Given(pool) => match pool.claim(namespace, name, going).await? {
                given::Claim::Plane(plane) => {
                    given::ensure(&self.host, namespace, &plane).await?;
                    (plane.kubeconfig, Some(plane.name))
                }
                given::Claim::NotOurs => return Ok(None),
                given::Claim::NoneFree => return Ok(Some(WAIT)),
            },
        };
        if going {
            return Ok(None);
        }
        self.publish(&cluster, name, kubeconfig, mark).await
    }

    async fn publish(
        &self,
        cluster: &Cluster,
        name: &str,
        kubeconfig: String,
        mark: Option<String>,
    ) -> kube::Result<Again> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        let own = cluster
            .labels()
            .iter()
            .filter(|(name, _)| name.starts_with(labels::GROUP));
        let mut marked: BTreeMap<String, String> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        marked.extend(mark.map(|plane| (given::CONTROL_PLANE.to_owned(), plane)));
        secret.metadata.labels = Some(marked);
        let content = k8s_openapi::ByteString(kubeconfig.into_bytes());
        secret.data = Some([(labels::KUBECONFIG_KEY.to_owned(), content)].into());
        let secrets: Api<Secret> = Api::namespaced(self.host.context.client.clone(), &cluster.name_any());
        match unless_there(secrets.create(&PostParams::default(), &secret).await) {
            Ok(_) => Ok(None),
            // The namespace is made by somebody else.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(Some(RETRY)),
            Err(error) => Err(error),
        }
    }
}
