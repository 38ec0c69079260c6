//! KubeVirt's subresources: start, stop, restart, migrate of a VM; `evacuate/cancel` of a VM or VMI.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use steading_infra::kubevirt::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration};

use super::status::clear;
use crate::{
    apiserver::{ApiError, ApiServer, SubresourceHandler, SubresourceRequest},
    behaviour::Context,
};

const GROUP: &str = "subresources.kubevirt.io";

/// Registers them.
pub(super) fn install(server: &ApiServer, context: &Context) {
    let handler: Arc<dyn SubresourceHandler> = Arc::new(Subresources {
        client: context.client.clone(),
    });
    for sub in ["start", "stop", "restart", "migrate", "evacuate/cancel"] {
        server.add_subresource(GROUP, "virtualmachines", sub, handler.clone());
    }
    server.add_subresource(GROUP, "virtualmachineinstances", "evacuate/cancel", handler);
}

/// Answers all of them.
struct Subresources {
    client: Client,
}

impl SubresourceHandler for Subresources {
    fn handle(&self, request: SubresourceRequest) -> BoxFuture<'_, Result<(u16, Value), ApiError>> {
        Box::pin(async move {
            let namespace = request.info.namespace.clone().unwrap_or_default();
            let name = request.info.name.clone().unwrap_or_default();
            match request.info.subresource.as_deref().unwrap_or_default() {
                "start" => self.set_strategy(&namespace, &name, "Always").await?,
                "stop" => self.set_strategy(&namespace, &name, "Halted").await?,
                "restart" => self.restart(&namespace, &name).await?,
                "migrate" => self.migrate(&namespace, &name).await?,
                "evacuate/cancel" => self.cancel_evacuation(&namespace, &name, &request.body).await?,
                _ => return Err(ApiError::no_such_path()),
            }
            Ok((202, Value::Null))
        })
    }
}

impl Subresources {
    async fn set_strategy(&self, namespace: &str, name: &str, strategy: &str) -> Result<(), ApiError> {
        let api: Api<VirtualMachine> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({ "spec": { "runStrategy": strategy } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(passed_on)
    }

    async fn restart(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(ApiError::new(409, "Conflict", "VM is not running: Halted"))
            }
            Err(error) => Err(passed_on(error)),
        }
    }

    async fn migrate(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let api: Api<VirtualMachineInstanceMigration> = Api::namespaced(self.client.clone(), namespace);
        let migration = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "generateName": "kubevirt-migrate-vm-" }, "spec": { "vmiName": name },
        });
        let migration = serde_json::from_value(migration).map_err(|error| ApiError::internal(error.to_string()))?;
        api.create(&PostParams::default(), &migration)
            .await
            .map(|_| ())
            .map_err(passed_on)
    }

    async fn cancel_evacuation(&self, namespace: &str, name: &str, body: &Value) -> Result<(), ApiError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        let mut vmi = api.get(name).await.map_err(passed_on)?;
        let mut status = vmi.status.take().unwrap_or_default();
        let node = body["evacuationNodeName"].as_str().unwrap_or_default();
        if node.is_empty() || status.evacuation_node_name.as_deref() != Some(node) {
            return Err(ApiError::internal(format!(
                "evacuationNodeName {node:?} is not that of the VMI"
            )));
        }
        status.evacuation_node_name = None;
        clear(&mut status.conditions, "EvictionRequested");
        vmi.status = Some(status);
        api.replace(&vmi.name_any(), &PostParams::default(), &vmi)
            .await
            .map(|_| ())
            .map_err(passed_on)
    }
}

fn passed_on(error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => ApiError::new(status.code, &status.reason, status.message.clone()),
        other => ApiError::internal(other.to_string()),
    }
}
