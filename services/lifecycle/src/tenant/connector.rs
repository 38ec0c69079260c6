//! How tenants are reached.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use kube::{Client, config::Kubeconfig};
use steading_infra::labels;
use steading_runtime::tasks::Chain;

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

    pub(super) fn connect(
        &self,
        namespace: &str,
        kubeconfig: Kubeconfig,
    ) -> BoxFuture<'static, Result<Client, String>> {
        (self.0)(namespace.to_owned(), kubeconfig)
    }
}
