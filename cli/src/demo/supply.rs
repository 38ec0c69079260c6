//! A tenant cluster that is there already: its kubeconfig becomes the Secret that lifecycle looks for.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use steading_infra::labels;

/// Who the demonstration is to the infra cluster's API server.
const FIELD_MANAGER: &str = "steading-demo";
/// How long lifecycle may take to make the cluster's namespace.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A kubeconfig, and the infra cluster to put it into.
pub struct TenantSupply {
    infra: Client,
    kubeconfig: String,
}

impl TenantSupply {
    /// Reads the kubeconfig.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(path: &Path, infra: Client) -> anyhow::Result<Self> {
        let kubeconfig =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
        Ok(Self { infra, kubeconfig })
    }

    /// Puts the Secret into the cluster's namespace as soon as that is there. It is deleted with the namespace.
    ///
    /// # Errors
    /// What the API server says, and a namespace that does not come.
    pub async fn put(&self, namespace: &str) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.infra.clone(), namespace);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": labels::KUBECONFIG_SECRET },
            "stringData": { labels::KUBECONFIG_KEY: self.kubeconfig },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            match secrets
                .patch(labels::KUBECONFIG_SECRET, &params, &Patch::Apply(&secret))
                .await
            {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() && tokio::time::Instant::now() < deadline => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    bail!("the namespace {namespace} is not there after {}s", DEADLINE.as_secs());
                }
                Err(error) => return Err(error).context("cannot put the tenant's kubeconfig into the infra cluster"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
