//! Kubeconfigs of tenant clusters: stored beside the cluster, never shown with it.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;
use steading_api::{error::RpcError, lifecycle::v1 as proto};
use steading_infra::{
    apply::{self, FieldManager},
    crd::Cluster,
    labels,
};
use steading_model::name::ClusterName;
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::kube_error,
};

use super::clusters::Clusters;
use crate::{apply::namespace, error::Refusal};

/// Name of the Secret that holds a cluster's kubeconfig.
fn secret_of(cluster: &Cluster) -> &str {
    let external = cluster.spec.control_plane.external.as_ref();
    let named = external.map(|external| external.kubeconfig_secret.as_str());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or(labels::KUBECONFIG_SECRET)
}

impl Clusters {
    /// Stores a kubeconfig that came with a request.
    ///
    /// # Errors
    /// If the cluster's namespace is somebody else's, or the infra cluster refuses or cannot be reached.
    pub(super) async fn keep_kubeconfig(
        &self,
        name: &ClusterName,
        cluster: &Cluster,
        kubeconfig: &[u8],
    ) -> Result<(), Refusal> {
        let ownership = namespace::ensure(&self.context, cluster).await;
        let ownership = ownership.map_err(Refusal::KubeconfigNotStored)?;
        if !ownership.is_usable() {
            return Err(Refusal::ForeignNamespace {
                cluster: name.to_string(),
                namespace: name.namespace(),
                ownership,
            });
        }
        let own = [
            (labels::PROJECT, name.project.as_str()),
            (labels::CLUSTER, name.cluster.as_str()),
            (labels::MANAGED_BY, labels::MANAGED_BY_STEADING),
        ];
        let body = Secret {
            metadata: ObjectMeta {
                name: Some(secret_of(cluster).to_owned()),
                namespace: Some(name.namespace()),
                labels: Some(own.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                labels::KUBECONFIG_KEY.to_owned(),
                ByteString(kubeconfig.to_vec()),
            )])),
            ..Secret::default()
        };
        let secrets: Api<Secret> = self.context.namespaced(&name.namespace());
        let stored = apply::apply(&secrets, FieldManager::Lifecycle, &body).await;
        stored
            .map(drop)
            .map_err(|error| Refusal::KubeconfigNotStored(error.into()))
    }

    /// Reads a cluster's kubeconfig.
    ///
    /// # Errors
    /// If the cluster does not exist or has none, or the caller may not.
    pub(super) async fn kubeconfig(
        &self,
        call: &CallContext,
        request: &proto::GetClusterKubeconfigRequest,
    ) -> Result<proto::GetClusterKubeconfigResponse, RpcError> {
        let name: ClusterName = request.name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        call.authorize(Action::new(
            Verb::Custom("kubeconfig"),
            ClusterName::KIND,
            &request.name,
        ))
        .await?;
        let fault = |error: &kube::Error| kube_error(ClusterName::KIND, &request.name, error);
        let clusters: Api<Cluster> = self.context.all();
        let cluster = clusters.get_opt(&name.object_name()).await.map_err(|e| fault(&e))?;
        let cluster = cluster.ok_or_else(|| RpcError::not_found(ClusterName::KIND, &name))?;
        let secrets: Api<Secret> = self.context.namespaced(&name.namespace());
        let secret = secrets.get_opt(secret_of(&cluster)).await.map_err(|e| fault(&e))?;
        let bytes = secret.and_then(|secret| secret.data?.remove(labels::KUBECONFIG_KEY));
        let ByteString(kubeconfig) = bytes.ok_or_else(|| Refusal::NoKubeconfig(name.to_string()))?;
        Ok(proto::GetClusterKubeconfigResponse {
            kubeconfig,
            expire_time: None,
        })
    }
}
