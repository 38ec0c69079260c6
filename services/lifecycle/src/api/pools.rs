//! The collection of machine pools.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;
use steading_api::{error::RpcError, lifecycle::v1 as proto};
use steading_infra::{
    crd::{Cluster, MachinePool, MachineTemplate},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::{
    name::{ClusterName, MachinePoolName, MachineTemplateName, Within},
    violation::Violations,
};
use steading_runtime::standard::{Acts, Collection, Decision, Keys, Presence, Revises, Writable, kube_error};

use super::{
    convert::pool as convert,
    metadata::{KEYS, write_meta},
    presence::of_cluster,
};
use crate::{
    context::Context,
    domain::{pool::MAX_REPLICAS, version::check_skew},
    error::Refusal,
};

/// Machines that an error names at most.
const NAMED_MACHINES: u32 = 5;

/// Machine pools as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Pools {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for Pools {
    type Object = MachinePool;
    type Resource = proto::MachinePool;
    type Name = MachinePoolName;

    const KEYS: Keys = KEYS;

    fn api(&self, namespace: Option<&str>) -> Api<MachinePool> {
        namespace.map_or_else(|| self.context.all(), |namespace| self.context.namespaced(namespace))
    }

    fn resource(&self, object: &MachinePool) -> Option<proto::MachinePool> {
        convert::message(object)
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        of_cluster(&self.context, within).await
    }
}

impl Writable for Pools {
    async fn object(
        &self,
        name: &MachinePoolName,
        resource: &proto::MachinePool,
        current: Option<&MachinePool>,
    ) -> Result<MachinePool, RpcError> {
        let spec = convert::spec(name, resource).map_err(|violations| Refusal::Invalid {
            field: "machine_pool",
            violations,
        })?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| MachinePool::new(&name.object_name(), spec.clone()));
        let template_changes = current.is_none_or(|current| current.spec.machine_template != spec.machine_template);
        object.spec = spec;
        if let Some(current) = current.filter(|current| current.spec.replicas.is_none()) {
            // The pool keeps its number for whoever left it out, until this call says another.
            let last = current.status.as_ref().and_then(|status| status.desired_replicas);
            if resource.replicas == last.unwrap_or_default() {
                object.spec.replicas = None;
            }
        }
        object.metadata.namespace = Some(name.namespace());
        if current.is_none() {
            let cluster = self.cluster(name).await?;
            check_version(&object, Some(&cluster))?;
            object.metadata.finalizers = Some(vec![labels::MACHINE_POOL_FINALIZER.into()]);
        }
        if template_changes {
            self.check_template(name, &object, &resource.machine_template).await?;
        }
        if current.is_some_and(|current| current.spec.kubernetes_version != object.spec.kubernetes_version) {
            let cluster = self.context.observed.clusters.get("", &name.namespace());
            check_version(&object, cluster.as_deref())?;
        }
        let own = [
            (labels::PROJECT, name.cluster.project.as_str()),
            (labels::CLUSTER, name.cluster.cluster.as_str()),
            (labels::POOL, name.id.as_str()),
        ];
        write_meta(&mut object.metadata, (&resource.labels, &resource.annotations), &own);
        Ok(object)
    }

    async fn before_write(
        &self,
        name: &MachinePoolName,
        object: &MachinePool,
        current: Option<&MachinePool>,
    ) -> Result<(), RpcError> {
        self.check_quota(name, object, current).await
    }

    async fn children(&self, name: &MachinePoolName, _: &MachinePool) -> Result<Vec<String>, RpcError> {
        let machines: Api<VirtualMachine> = self.context.namespaced(&name.namespace());
        let of_pool = ListParams::default()
            .labels(&format!("{}={}", labels::POOL, name.id))
            .limit(NAMED_MACHINES);
        let found = machines.list_metadata(&of_pool).await;
        let found = found.map_err(|e| kube_error("Machine", &name.to_string(), &e))?;
        let machine = |id: String| format!("{}/machines/{id}", name.cluster);
        Ok(found.items.iter().map(|found| machine(found.name_any())).collect())
    }
}

impl Revises<proto::ScaleMachinePoolRequest> for Pools {
    async fn revise(
        &self,
        request: &proto::ScaleMachinePoolRequest,
        _: &MachinePoolName,
        before: &proto::MachinePool,
    ) -> Result<proto::MachinePool, RpcError> {
        let asked = request
            .replicas
            .filter(|replicas| (0..=MAX_REPLICAS).contains(replicas));
        let Some(replicas) = asked else {
            let text = format!("must be given, between 0 and {MAX_REPLICAS}");
            return Err(Violations::one("replicas", text).into());
        };
        Ok(proto::MachinePool {
            replicas,
            ..before.clone()
        })
    }
}

impl Revises<proto::PauseRolloutRequest> for Pools {
    async fn revise(
        &self,
        _: &proto::PauseRolloutRequest,
        _: &MachinePoolName,
        before: &proto::MachinePool,
    ) -> Result<proto::MachinePool, RpcError> {
        Ok(proto::MachinePool {
            rollout_paused: true,
            ..before.clone()
        })
    }
}

impl Acts<proto::ResumeRolloutRequest> for Pools {
    async fn decide(
        &self,
        _: &proto::ResumeRolloutRequest,
        _: &MachinePoolName,
        current: &MachinePool,
    ) -> Result<Decision, RpcError> {
        let failures = current.status.as_ref().and_then(|status| status.failures.as_ref());
        if !current.spec.rollout.paused && failures.is_none() {
            return Ok(Decision::AlreadySo);
        }
        let mut patch = json!({"spec": {"rollout": {"paused": false}}});
        if failures.is_some() {
            // A pool that stopped because new machines failed begins to count again.
            let now = self.context.clock.now().to_string();
            patch["metadata"] = json!({"annotations": {labels::ROLLOUT_RESUMED: now}});
        }
        Ok(Decision::Merge(patch))
    }
}

fn check_version(object: &MachinePool, cluster: Option<&Cluster>) -> Result<(), Refusal> {
    let server = cluster.and_then(|cluster| cluster.status.as_ref()?.kubernetes_version.as_deref());
    check_skew(&object.spec.kubernetes_version, server).map_err(Refusal::VersionSkew)
}

impl Pools {
    /// The cluster of a new pool, with its namespace.
    async fn cluster(&self, name: &MachinePoolName) -> Result<Cluster, RpcError> {
        let clusters: Api<Cluster> = self.context.all();
        let found = clusters.get_opt(&name.namespace()).await;
        let found = found.map_err(|e| kube_error(ClusterName::KIND, &name.cluster.to_string(), &e))?;
        let found = found.ok_or_else(|| RpcError::not_found(ClusterName::KIND, &name.cluster))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(Refusal::Terminating {
                kind: ClusterName::KIND,
                name: name.cluster.to_string(),
            }
            .into());
        }
        // The namespace is the first thing that the cluster's reconciler makes, and pools need it.
        namespace(&self.context, &found, &name.namespace()).await?;
        Ok(found)
    }

    async fn check_template(
        &self,
        name: &MachinePoolName,
        object: &MachinePool,
        template: &str,
    ) -> Result<(), RpcError> {
        let templates: Api<MachineTemplate> = self.context.all();
        let object_name = format!(
            "{}{}{}",
            name.cluster.project,
            labels::PROJECT_SEPARATOR,
            object.spec.machine_template
        );
        let found = templates.get_opt(&object_name).await;
        let found = found.map_err(|e| kube_error(MachineTemplateName::KIND, template, &e))?;
        if found.is_some_and(|found| found.metadata.deletion_timestamp.is_none()) {
            return Ok(());
        }
        Err(Refusal::ReferenceNotFound {
            path: "machine_pool.machine_template",
            kind: MachineTemplateName::KIND,
            name: template.to_owned(),
        }
        .into())
    }
}

async fn namespace(context: &Context, cluster: &Cluster, name: &str) -> Result<(), RpcError> {
    let spaces = context.all::<Namespace>();
    if spaces
        .get_opt(name)
        .await
        .map_err(|e| kube_error("Namespace", name, &e))?
        .is_some()
    {
        return Ok(());
    }
    let body = crate::plan::cluster::namespace(cluster, name);
    match spaces.create(&PostParams::default(), &body).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(kube_error("Namespace", name, &error)),
    }
}
