//! Making and ending machines: the token, the user-data Secret, then the VirtualMachine, and back.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Node, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::{Value, json};
use steading_controller::{Fresh, fresh::Deletion};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool, cluster::BootstrapKind},
    error::InfraError,
    kubevirt::{VirtualMachine, VirtualMachineInstance},
    labels,
};

use steading_runtime::tasks::Chain;

use super::{render::PoolPlace, token};
use crate::{
    context::Context,
    domain::{
        bootstrap::{CustomFault, Token, bootstrap_kubeconfig, custom_user_data, letters, token_id, user_data},
        rendering::Rendering,
    },
    error::Error,
    plan::recheck::is_node_of,
    tenant::Tenant,
};

/// Makes one machine. Repeating it after a crash at any point is safe: the token and the Secret are written over, and a
/// VirtualMachine that exists is left as it is.
///
/// # Errors
/// If the infra cluster or the tenant refuses or cannot be reached.
pub async fn create_machine(
    context: &Context,
    place: &PoolPlace,
    cluster: &Cluster,
    pool: &MachinePool,
    rendering: &Rendering,
    tenant: &Tenant,
    machine: &str,
) -> Result<(), Error> {
    let namespace = place.cluster.namespace();
    let mut vm = virtual_machine(place, pool, rendering, machine);
    let token = Token {
        id: token_id(&namespace, machine),
        secret: letters(&rand::random::<[u8; 16]>(), 16),
    };
    let expires = token::expiry(context, cluster);
    token::put(cluster, tenant, machine, &token, expires).await?;

    vm["metadata"]["annotations"][labels::TOKEN_EXPIRES] = json!(expires.to_string());
    let endpoint = tenant.endpoint();
    let user_data = match cluster.spec.bootstrap.kind {
        BootstrapKind::Custom => custom_user_data(
            &cluster.spec.bootstrap.user_data,
            &rendering.user_data,
            machine,
            &endpoint,
            &token,
        ),
        BootstrapKind::Kubelet => user_data(&rendering.user_data, machine, &bootstrap_kubeconfig(&endpoint, &token))
            .map_err(CustomFault::from),
    };
    let user_data =
        user_data.map_err(|fault| Error::Malformed(format!("the machine's user data is not valid: {fault}")))?;
    let name = format!("{machine}{}", labels::USER_DATA_SUFFIX);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.clone()),
            labels: Some(machine_labels(place, machine, None)),
            // A crash before the machine exists leaves it to the next one of that name, or to the pool's end.
            owner_references: pool.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            (labels::USER_DATA_KEY.to_owned(), ByteString(user_data.into_bytes())),
            (token::JOIN_TOKEN_KEY.to_owned(), ByteString(token.text().into_bytes())),
        ])),
        ..Secret::default()
    };
    apply::apply(
        &context.namespaced::<Secret>(&namespace),
        FieldManager::Lifecycle,
        &secret,
    )
    .await?;

    let resource = ApiResource::erase::<VirtualMachine>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.kube.clone(), &namespace, &resource);
    let object: DynamicObject = serde_json::from_value(vm)
        .map_err(|error| Error::Malformed(format!("the rendered machine is malformed: {error}")))?;
    let params = PostParams {
        field_manager: Some(FieldManager::Lifecycle.as_str().into()),
        ..PostParams::default()
    };
    match api.create(&params, &object).await.map_err(InfraError::from) {
        Ok(_) => {
            tracing::info!(namespace, machine, pool = %place.name.id, "machine made");
            Ok(())
        }
        Err(InfraError::AlreadyExists(_)) => Ok(()),
        Err(error) => {
            if matches!(error, InfraError::Invalid(_) | InfraError::Forbidden(_)) {
                // Best effort: the pool owns it as well.
                let secrets = context.namespaced::<Secret>(&namespace);
                if let Err(error) = apply::delete(&secrets, &secret.name_any(), None).await {
                    tracing::debug!(namespace, machine, error = %Chain(&error), "the user data of a refused machine stays");
                }
            }
            Err(error.into())
        }
    }
}

fn machine_labels(place: &PoolPlace, machine: &str, revision: Option<&str>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (labels::PROJECT.to_owned(), place.cluster.project.to_string()),
        (labels::CLUSTER.to_owned(), place.cluster.cluster.to_string()),
        (labels::POOL.to_owned(), place.name.id.to_string()),
        (labels::MACHINE.to_owned(), machine.to_owned()),
        (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned()),
    ]);
    if let Some(revision) = revision {
        all.insert(labels::REVISION.to_owned(), revision.to_owned());
    }
    all
}

fn merge_labels(target: &mut Value, labels: &BTreeMap<String, String>) {
    if !target["labels"].is_object() {
        target["labels"] = json!({});
    }
    for (key, value) in labels {
        target["labels"][key] = json!(value);
    }
}

/// The VirtualMachine of a machine as it is posted.
fn virtual_machine(place: &PoolPlace, pool: &MachinePool, rendering: &Rendering, machine: &str) -> Value {
    let mut vm = rendering.machine(&place.name.id, machine);
    vm["apiVersion"] = json!("kubevirt.io/v1");
    vm["kind"] = json!("VirtualMachine");
    vm["metadata"]["name"] = json!(machine);
    vm["metadata"]["namespace"] = json!(place.cluster.namespace());
    vm["metadata"]["finalizers"] = json!([labels::MACHINE_FINALIZER]);
    merge_labels(
        &mut vm["metadata"],
        &machine_labels(place, machine, Some(&rendering.revision)),
    );
    vm["metadata"]["annotations"][labels::TEMPLATE_REVISION] = json!(rendering.template_revision);
    if !pool.spec.kubernetes_version.is_empty() {
        vm["metadata"]["annotations"]["steading.dev/kubernetes-version"] = json!(pool.spec.kubernetes_version);
    }
    merge_labels(
        &mut vm["spec"]["template"]["metadata"],
        &machine_labels(place, machine, None),
    );
    if vm["spec"]["runStrategy"].is_null() {
        vm["spec"]["runStrategy"] = json!("Always");
    }
    if vm["spec"]["template"]["spec"]["evictionStrategy"].is_null() {
        vm["spec"]["template"]["spec"]["evictionStrategy"] = json!("External");
    }
    vm["spec"]["template"]["spec"]["hostname"] = json!(machine);
    vm
}

/// Removes the tenant node of a machine; none is fine, and another computer's of the same name stays. Whether it is gone: one that
/// changed meanwhile is to be looked at again.
///
/// # Errors
/// If the tenant refuses or cannot be reached.
pub async fn delete_node(tenant: &Tenant, machine: &str) -> Result<bool, Error> {
    let Some(client) = tenant.client() else {
        return Ok(true);
    };
    let fault = |error| Error::tenant(&tenant.namespace, error);
    let nodes: Api<Node> = Api::all(client);
    let Some(node) = Fresh::get(&nodes, machine).await.map_err(fault)? else {
        return Ok(true);
    };
    if !is_node_of(&node, machine) {
        tracing::warn!(cluster = %tenant.namespace, machine, "the node of this name is not the machine's and stays");
        return Ok(true);
    }
    Ok(match node.delete(&nodes).await.map_err(fault)? {
        Deletion::Accepted | Deletion::Gone => true,
        Deletion::Changed => false,
    })
}

/// Deletes the VirtualMachine as it was read; it goes when its finalizers do.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn delete_vm(context: &Context, vm: Fresh<VirtualMachine>) -> Result<Deletion, Error> {
    let api = context.namespaced::<VirtualMachine>(&vm.namespace().unwrap_or_default());
    Ok(vm.delete(&api).await?)
}

/// Deletes just this instance; KubeVirt makes another one.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn restart(context: &Context, instance: Fresh<VirtualMachineInstance>) -> Result<Deletion, Error> {
    let (namespace, machine) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let uid = instance.uid();
    let instances = context.namespaced::<VirtualMachineInstance>(&namespace);
    let ended = instance.delete(&instances).await?;
    if ended == Deletion::Accepted {
        tracing::info!(namespace, machine, instance = uid, "machine restarts");
    }
    Ok(ended)
}

/// Ends a machine as it was read: secrets, then the finalizer.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn finish(context: &Context, vm: Fresh<VirtualMachine>) -> Result<Deletion, Error> {
    let (namespace, machine) = (vm.namespace().unwrap_or_default(), vm.name_any());
    // Until the finalizer is off, no other machine can have the name and with it the Secret.
    let secret = format!("{machine}{}", labels::USER_DATA_SUFFIX);
    match apply::delete(&context.namespaced::<Secret>(&namespace), &secret, None).await {
        Ok(()) | Err(InfraError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let api = context.namespaced::<VirtualMachine>(&namespace);
    let ended = vm
        .without_finalizer(&api, FieldManager::Lifecycle.as_str(), labels::MACHINE_FINALIZER)
        .await?;
    if ended != Deletion::Changed {
        tracing::info!(namespace, machine, "machine gone");
    }
    Ok(ended)
}
