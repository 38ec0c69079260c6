//! The collection of clusters.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use steading_api::{
    error::RpcError,
    lifecycle::v1::{self as proto, cluster::ControlPlane},
};
use steading_infra::{
    cdi::DataVolume,
    crd::{Cluster, MachinePool, Project},
    labels,
};
use steading_model::{
    name::{ClusterName, ProjectName, Within},
    violation::Violations,
};
use steading_runtime::standard::{Collection, Keys, Presence, Writable, kube_error};

use super::{
    convert::cluster as convert,
    metadata::{KEYS, write_meta},
};
use crate::{
    apply::consent,
    context::Context,
    domain::kubeconfig,
    error::Refusal,
    observe::usage::{Counted, usage},
    plan::ownership::NamespaceOwnership,
};

/// Pools and volumes that an error names at most, of each.
const NAMED_CHILDREN: u32 = 5;

/// Clusters as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for Clusters {
    type Object = Cluster;
    type Resource = proto::Cluster;
    type Name = ClusterName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<Cluster> {
        self.context.all()
    }

    fn resource(&self, object: &Cluster) -> Option<proto::Cluster> {
        convert::message(object)
    }

    async fn parent(&self, within: &Within<ProjectName>) -> Result<Presence, kube::Error> {
        let Within::One(project) = within else {
            return Ok(Presence::Present);
        };
        let projects: Api<Project> = self.context.all();
        let found = projects.get_metadata_opt(&project.object_name()).await?;
        Ok(Presence::of(found.as_ref().map(|found| &found.metadata)))
    }
}

impl Writable for Clusters {
    async fn object(
        &self,
        name: &ClusterName,
        resource: &proto::Cluster,
        current: Option<&Cluster>,
    ) -> Result<Cluster, RpcError> {
        if matches!(resource.control_plane, Some(ControlPlane::Managed(_))) {
            return Err(Refusal::ManagedControlPlane.into());
        }
        let spec = convert::spec(name, resource).map_err(|violations| Refusal::Invalid {
            field: "cluster",
            violations,
        })?;
        if let Some(ControlPlane::External(external)) = &resource.control_plane {
            check_kubeconfig(&external.kubeconfig)?;
        }
        if current.is_none() {
            self.check_namespace(name).await?;
        }
        let mut object = current
            .cloned()
            .unwrap_or_else(|| Cluster::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let own = [
            (labels::PROJECT, name.project.as_str()),
            (labels::CLUSTER, name.cluster.as_str()),
        ];
        write_meta(&mut object.metadata, (&resource.labels, &resource.annotations), &own);
        if current.is_none() {
            object.metadata.finalizers = Some(vec![labels::CLUSTER_FINALIZER.into()]);
        }
        Ok(object)
    }

    async fn before_write(&self, name: &ClusterName, _: &Cluster, current: Option<&Cluster>) -> Result<(), RpcError> {
        match current {
            Some(_) => Ok(()),
            None => self.check_quota(name).await,
        }
    }

    async fn after_write(
        &self,
        name: &ClusterName,
        stored: &Cluster,
        resource: &proto::Cluster,
    ) -> Result<(), RpcError> {
        match &resource.control_plane {
            Some(ControlPlane::External(external)) if !external.kubeconfig.is_empty() => {
                Ok(self.keep_kubeconfig(name, stored, &external.kubeconfig).await?)
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn children(&self, name: &ClusterName, _: &Cluster) -> Result<Vec<String>, RpcError> {
        let namespace = name.namespace();
        let pools: Api<MachinePool> = self.context.namespaced(&namespace);
        let found = pools.list_metadata(&ListParams::default().limit(NAMED_CHILDREN)).await;
        let found = found.map_err(|e| kube_error("MachinePool", &name.to_string(), &e))?;
        let pools = found.items.iter();
        let pools = pools.map(|pool| format!("{name}/machinePools/{}", pool.name_any()));
        let volumes: Api<DataVolume> = self.context.namespaced(&namespace);
        let of_volumes = ListParams::default().labels(labels::VOLUME).limit(NAMED_CHILDREN);
        let found: Vec<PartialObjectMeta<DataVolume>> = match volumes.list_metadata(&of_volumes).await {
            Ok(found) => found.items,
            // Without CDI there are no volumes.
            Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
            Err(error) => return Err(kube_error("Volume", &name.to_string(), &error)),
        };
        let volumes = found.iter();
        let volumes = volumes.map(|volume| format!("{name}/volumes/{}", volume.name_any()));
        Ok(pools.chain(volumes).collect())
    }

    async fn prepare_delete(&self, name: &ClusterName, current: &Cluster, force: bool) -> Result<bool, RpcError> {
        if !force {
            return Ok(false);
        }
        let given = consent::give_to(&self.context.all(), current).await;
        Ok(given.map_err(Refusal::infra(ClusterName::KIND, name))?)
    }
}

fn check_kubeconfig(bytes: &[u8]) -> Result<(), RpcError> {
    if bytes.is_empty() {
        return Ok(());
    }
    kubeconfig::parse(bytes)
        .map(drop)
        .map_err(|fault| Violations::one("cluster.external.kubeconfig", fault.to_string()).into())
}

impl Clusters {
    /// A namespace that is somebody else's is not taken.
    async fn check_namespace(&self, name: &ClusterName) -> Result<(), RpcError> {
        let space = name.namespace();
        let spaces: Api<Namespace> = self.context.all();
        let found = spaces
            .get_opt(&space)
            .await
            .map_err(|e| kube_error(ClusterName::KIND, &name.to_string(), &e))?;
        let Some(found) = found else { return Ok(()) };
        let label = |key: &str| found.labels().get(key).map(String::as_str);
        let is_labelled = label(labels::PROJECT) == Some(name.project.as_str())
            && label(labels::CLUSTER) == Some(name.cluster.as_str());
        if is_labelled {
            return Ok(());
        }
        Err(Refusal::ForeignNamespace {
            cluster: name.to_string(),
            namespace: space,
            ownership: NamespaceOwnership::Foreign,
        }
        .into())
    }

    async fn check_quota(&self, name: &ClusterName) -> Result<(), RpcError> {
        let project_name = name.project_name();
        let projects: Api<Project> = self.context.all();
        let project = projects.get_opt(&project_name.object_name()).await;
        let project = project.map_err(|e| kube_error(ProjectName::KIND, &project_name.to_string(), &e))?;
        let limit = project.and_then(|project| project.spec.quota.get("clusters")?.parse::<i64>().ok());
        let used = usage(&self.context.observed, &name.project, Counted::Wanted);
        let used = used.get("clusters").and_then(|count| count.parse::<i64>().ok());
        if limit.is_some_and(|limit| used.unwrap_or_default() >= limit) {
            return Err(Refusal::QuotaExceeded {
                project: project_name.to_string(),
                what: "clusters",
            }
            .into());
        }
        Ok(())
    }
}
