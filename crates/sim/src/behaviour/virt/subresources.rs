//! KubeVirt's subresources: what `virtctl` and operators call beside the API of the objects.
//!
//! start, stop, restart, migrate, addvolume, removevolume, expand-spec and evacuate/cancel of a VM; addvolume, removevolume, pause, unpause
//! and evacuate/cancel of a VMI, of which only the refusals of pause and unpause are played.

mod lifecycle;
mod volumes;

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use steading_infra::kubevirt::{VirtualMachine, VirtualMachineInstance};
use steading_kubesim::{ApiError, ApiServer, BareGroup, SubresourceHandler, SubresourceRequest};

use crate::behaviour::{Context, virt_api};

const GROUP: &str = "subresources.kubevirt.io";
const MACHINES: &str = "virtualmachines";
const INSTANCES: &str = "virtualmachineinstances";

/// What discovery tells of: not all that is answered.
const DISCOVERED: &[&str] = &[
    "expand-vm-spec",
    "virtualmachineinstances/addvolume",
    "virtualmachineinstances/evacuate/cancel",
    "virtualmachineinstances/pause",
    "virtualmachineinstances/removevolume",
    "virtualmachineinstances/unpause",
    "virtualmachines/evacuate/cancel",
    "virtualmachines/expand-spec",
    "virtualmachines/migrate",
    "virtualmachines/restart",
    "virtualmachines/start",
    "virtualmachines/stop",
];

/// Registers them.
pub(super) fn install(server: &ApiServer, context: &Context) {
    let handler: Arc<dyn SubresourceHandler> = Arc::new(Subresources {
        client: context.client.clone(),
    });
    let of_machines = [
        "start",
        "stop",
        "restart",
        "migrate",
        "addvolume",
        "removevolume",
        "expand-spec",
        "evacuate/cancel",
    ];
    for sub in of_machines {
        server.add_subresource(GROUP, MACHINES, sub, handler.clone());
    }
    for sub in ["addvolume", "removevolume", "pause", "unpause", "evacuate/cancel"] {
        server.add_subresource(GROUP, INSTANCES, sub, handler.clone());
    }
    server.add_subresource(GROUP, "expand-vm-spec", "", handler);
    server.add_bare_group(BareGroup {
        name: GROUP,
        versions: &["v1", "v1alpha3"],
        subresources: DISCOVERED,
    });
}

/// Answers all of them.
struct Subresources {
    client: Client,
}

/// One call: of what, and with which options.
struct Call {
    namespace: String,
    name: String,
    /// Whether it is of a VM; otherwise of a VMI.
    of_machine: bool,
    options: Value,
}

impl Call {
    /// Parameters of the writes that it leads to.
    fn params(&self) -> PatchParams {
        let dry = self.options["dryRun"].get(0) == Some(&Value::from("All"));
        PatchParams {
            dry_run: dry,
            ..PatchParams::default()
        }
    }

    fn kind(&self) -> &'static str {
        if self.of_machine {
            "virtualmachine"
        } else {
            "virtualmachineinstance"
        }
    }

    fn conflict(&self, why: &str) -> ApiError {
        let message = format!(
            "Operation cannot be fulfilled on {}.kubevirt.io \"{}\": {why}",
            self.kind(),
            self.name
        );
        ApiError::new(409, "Conflict", message)
    }
}

impl SubresourceHandler for Subresources {
    fn handle(&self, request: SubresourceRequest) -> BoxFuture<'_, Result<(u16, Value), ApiError>> {
        Box::pin(async move {
            let call = Call {
                namespace: request.info.namespace.clone().unwrap_or_default(),
                name: request.info.name.clone().unwrap_or_default(),
                of_machine: request.info.resource == MACHINES,
                options: request.body,
            };
            if request.info.resource == "expand-vm-spec" {
                return self.expand_given(&call).await;
            }
            match request.info.subresource.as_deref().unwrap_or_default() {
                "start" => self.start(&call).await?,
                "stop" => self.stop(&call).await?,
                "restart" => self.restart(&call).await?,
                "migrate" => self.migrate(&call).await?,
                "addvolume" => self.add_volume(&call).await?,
                "removevolume" => self.remove_volume(&call).await?,
                "expand-spec" => return self.expand(&call).await,
                "evacuate/cancel" => {
                    self.cancel_evacuation(&call).await?;
                    return Ok((200, Value::Null));
                }
                sub @ ("pause" | "unpause") => {
                    self.instance(&call).await?;
                    let why = format!("{sub} is not played by the simulation");
                    return Err(call.conflict(&why));
                }
                _ => return Err(ApiError::no_such_path()),
            }
            Ok((202, Value::Null))
        })
    }
}

impl Subresources {
    fn machines(&self, call: &Call) -> Api<VirtualMachine> {
        Api::namespaced(self.client.clone(), &call.namespace)
    }

    fn instances(&self, call: &Call) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.client.clone(), &call.namespace)
    }

    async fn machine(&self, call: &Call) -> Result<VirtualMachine, ApiError> {
        let found = self.machines(call).get_opt(&call.name).await.map_err(passed_on)?;
        found.ok_or_else(|| missing("virtualmachine", &call.name))
    }

    async fn instance(&self, call: &Call) -> Result<VirtualMachineInstance, ApiError> {
        let found = self.instances(call).get_opt(&call.name).await.map_err(passed_on)?;
        found.ok_or_else(|| missing("virtualmachineinstance", &call.name))
    }

    async fn cancel_evacuation(&self, call: &Call) -> Result<(), ApiError> {
        let vmi = if call.of_machine {
            self.machine(call).await?;
            let found = self.instances(call).get_opt(&call.name).await.map_err(passed_on)?;
            found.ok_or_else(|| call.conflict("VMI is not started"))?
        } else {
            self.instance(call).await?
        };
        let marked = vmi.status.and_then(|status| status.evacuation_node_name);
        if marked.is_none() {
            return Ok(());
        }
        let node = call.options["evacuationNodeName"].as_str().unwrap_or_default();
        let path = "/status/evacuationNodeName";
        let patch = json!([{ "op": "test", "path": path, "value": node }, { "op": "remove", "path": path }]);
        let patch: Patch<()> = json_patch(patch)?;
        let outcome = self.instances(call).patch(&call.name, &call.params(), &patch).await;
        outcome
            .map(|_| ())
            .map_err(|error| ApiError::internal(passed_on(error).message))
    }

    async fn expand(&self, call: &Call) -> Result<(u16, Value), ApiError> {
        let vm = json!(self.machine(call).await?);
        let expanded = virt_api::expand(&self.client, vm).await.map_err(passed_on)?;
        expanded.map(|vm| (200, vm)).map_err(ApiError::internal)
    }

    async fn expand_given(&self, call: &Call) -> Result<(u16, Value), ApiError> {
        let mut vm = call.options.clone();
        vm["metadata"]["namespace"] = json!(call.namespace);
        let expanded = virt_api::expand(&self.client, vm).await.map_err(passed_on)?;
        expanded.map(|vm| (200, vm)).map_err(ApiError::bad_request)
    }
}

fn json_patch<K: serde::Serialize>(patch: Value) -> Result<Patch<K>, ApiError> {
    serde_json::from_value(patch)
        .map(Patch::Json)
        .map_err(|error| ApiError::internal(error.to_string()))
}

fn missing(kind: &str, name: &str) -> ApiError {
    ApiError::new(404, "NotFound", format!("{kind}.kubevirt.io \"{name}\" not found"))
}

fn passed_on(error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => ApiError::new(status.code, &status.reason, status.message.clone()),
        other => ApiError::internal(other.to_string()),
    }
}
