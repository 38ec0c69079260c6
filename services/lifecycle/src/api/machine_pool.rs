//! Machine pools as objects of the infra cluster.

use kube::Api;
use steading_api::{error::RpcError, lifecycle::v1::MachinePool as Message, types::v1::ErrorReason};
use steading_infra::{
    crd::{Cluster, MachinePool, MachineTemplate, Project},
    labels,
};
use steading_model::{
    ids::Id,
    name::{ClusterName, MachinePoolName},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::collection::{Collection, Keys, Scope, kube_error};

use super::{
    KEYS,
    convert::{nested, pool as convert, write_meta},
};
use crate::{
    context::Context,
    domain::version::check_skew,
    reconcile::project::{Counted, usage},
};

/// The collection.
#[derive(Clone, Debug)]
pub struct Pools {
    /// What calls have at hand.
    pub context: Context,
}

/// Parses the name of a pool.
///
/// # Errors
/// If it is none.
pub fn parse(path: &str, name: &str) -> Result<MachinePoolName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

/// The scope and place of a parent that may be `projects/-/clusters/-`: selector and namespace, `None` for all.
///
/// # Errors
/// If it is no such parent.
pub fn place(parent: &str) -> Result<(String, Option<String>), RpcError> {
    if parent == "projects/-/clusters/-" {
        return Ok((String::new(), None));
    }
    if let Some(project) = parent
        .strip_suffix("/clusters/-")
        .and_then(|p| p.strip_prefix("projects/"))
        .filter(|p| Id::parse(*p).is_ok())
    {
        return Ok((format!("{}={project}", labels::PROJECT), None));
    }
    let cluster: ClusterName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
    Ok((String::new(), Some(cluster.namespace())))
}

impl Collection for Pools {
    type Object = MachinePool;
    type Message = Message;

    const KIND: &'static str = "MachinePool";
    const MESSAGE: &'static str = "steading.lifecycle.v1.MachinePool";
    const FIELD: &'static str = "machine_pool";
    const KEYS: Keys = KEYS;

    fn api(&self, name: &str) -> Result<Api<MachinePool>, RpcError> {
        if let Ok(pool) = name.parse::<MachinePoolName>() {
            return Ok(self.context.namespaced(&pool.namespace()));
        }
        Ok(match place(name)?.1 {
            Some(namespace) => self.context.namespaced(&namespace),
            None => self.context.all(),
        })
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        Ok(Scope {
            selector: place(parent)?.0,
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse("name", name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let cluster: ClusterName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
        let id = Id::parse(id).map_err(|e| RpcError::from(Violations::one("machine_pool_id", e.to_string())))?;
        Ok(MachinePoolName::new(cluster, id).to_string())
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &MachinePool) -> Option<Message> {
        convert::message(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &Message,
        current: Option<&MachinePool>,
    ) -> Result<MachinePool, RpcError> {
        let name = parse("name", name)?;
        let spec = match convert::spec(&name, message) {
            Ok(spec) => spec,
            Err(found) => return Err(nested(Self::FIELD, found).err().unwrap_or_else(RpcError::internal)),
        };
        let mut object = current
            .cloned()
            .unwrap_or_else(|| MachinePool::new(&name.object_name(), spec.clone()));
        let template_changes = current.is_none_or(|current| current.spec.machine_template != spec.machine_template);
        object.spec = spec;
        if let Some(current) = current.filter(|current| current.spec.replicas.is_none()) {
            // The pool keeps its number for whoever left it out, until this call says another.
            let last = current.status.as_ref().and_then(|status| status.desired_replicas);
            if message.replicas == last.unwrap_or_default() {
                object.spec.replicas = None;
            }
        }
        object.metadata.namespace = Some(name.namespace());
        if current.is_none() {
            let cluster = self.check_cluster(&name).await?;
            check_version(&object, Some(&cluster))?;
            object.metadata.finalizers = Some(vec![labels::MACHINE_POOL_FINALIZER.into()]);
        }
        if template_changes {
            self.check_template(&name, &object, &message.machine_template).await?;
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
        write_meta(&mut object.metadata, (&message.labels, &message.annotations), &own);
        Ok(object)
    }

    async fn before_write(
        &self,
        name: &str,
        object: &MachinePool,
        current: Option<&MachinePool>,
    ) -> Result<(), RpcError> {
        self.check_quota(&parse("name", name)?, object, current).await
    }
}

fn check_version(object: &MachinePool, cluster: Option<&Cluster>) -> Result<(), RpcError> {
    let server = cluster.and_then(|cluster| cluster.status.as_ref()?.kubernetes_version.as_deref());
    check_skew(&object.spec.kubernetes_version, server).map_err(|why| {
        let field = "machine_pool.kubernetes_version";
        RpcError::new(ErrorReason::InvalidState, format!("{field}: {why}")).with_field(field, why)
    })
}

impl Pools {
    async fn check_cluster(&self, name: &MachinePoolName) -> Result<Cluster, RpcError> {
        let (cluster, clusters) = (name.cluster.to_string(), self.context.all::<Cluster>());
        let found = clusters
            .get_opt(&name.namespace())
            .await
            .map_err(|e| kube_error("Cluster", &cluster, &e))?;
        let found = found.ok_or_else(|| RpcError::not_found("Cluster", &cluster))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(
                RpcError::new(ErrorReason::ResourceDeleting, format!("{cluster} is being deleted"))
                    .with_resource("Cluster", cluster),
            );
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
        let found = templates
            .get_opt(&object_name)
            .await
            .map_err(|e| kube_error("MachineTemplate", template, &e))?;
        if found.is_some_and(|found| found.metadata.deletion_timestamp.is_none()) {
            return Ok(());
        }
        Err(
            RpcError::new(ErrorReason::ReferenceNotFound, format!("{template} does not exist"))
                .with_field("machine_pool.machine_template", "does not exist")
                .with_resource("MachineTemplate", template),
        )
    }

    /// Refuses what would go beyond the project's quota. Counted by what pools want, as far as it is seen; of two calls at the same moment
    /// both may pass, and then the reconciler makes no more machines than the quota allows.
    async fn check_quota(
        &self,
        name: &MachinePoolName,
        object: &MachinePool,
        current: Option<&MachinePool>,
    ) -> Result<(), RpcError> {
        let wanted = |pool: &MachinePool| {
            let last = pool.status.as_ref().and_then(|status| status.desired_replicas);
            i64::from(pool.spec.replicas.or(last).unwrap_or_default())
        };
        let more = wanted(object) - current.map_or(0, wanted);
        if more <= 0 {
            return Ok(());
        }
        let project = name.cluster.project_name().to_string();
        let projects: Api<Project> = self.context.all();
        let found = projects
            .get_opt(&name.cluster.project)
            .await
            .map_err(|e| kube_error("Project", &project, &e))?;
        let quota = found.map(|project| project.spec.quota).unwrap_or_default();
        let used = usage(&self.context.observed, &name.cluster.project, Counted::Wanted);
        let status = current.and_then(|pool| pool.status.clone()).unwrap_or_default();
        let bytes = |text: Option<&String>| {
            text.and_then(|t| t.parse::<Quantity>().ok())
                .map_or(0, |q| i64::try_from(q.bytes()).unwrap_or(i64::MAX))
        };
        let number = |text: Option<&String>| text.and_then(|t| t.parse::<i64>().ok());
        let adds = [
            (
                "machines",
                number(quota.get("machines")),
                number(used.get("machines")).unwrap_or_default(),
                1,
            ),
            (
                "vcpus",
                number(quota.get("vcpus")),
                number(used.get("vcpus")).unwrap_or_default(),
                i64::from(status.machine_vcpus.unwrap_or_default()),
            ),
            (
                "memory",
                quota.get("memory").map(|text| bytes(Some(text))),
                bytes(used.get("memory")),
                bytes(status.machine_memory.as_ref()),
            ),
            (
                "storage",
                quota.get("storage").map(|text| bytes(Some(text))),
                bytes(used.get("storage")),
                bytes(status.machine_storage.as_ref()),
            ),
        ];
        for (what, limit, used, each) in adds {
            if limit.is_some_and(|limit| used.saturating_add(each.saturating_mul(more)) > limit) {
                let text = format!("the quota of {project} for {what} would be exceeded");
                return Err(RpcError::new(ErrorReason::QuotaExceeded, text).with_quota(project, what));
            }
        }
        Ok(())
    }
}

async fn namespace(context: &Context, cluster: &Cluster, name: &str) -> Result<(), RpcError> {
    let spaces = context.all::<k8s_openapi::api::core::v1::Namespace>();
    if spaces
        .get_opt(name)
        .await
        .map_err(|e| kube_error("Namespace", name, &e))?
        .is_some()
    {
        return Ok(());
    }
    let body = crate::plan::cluster::namespace(cluster, name);
    match spaces.create(&kube::api::PostParams::default(), &body).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(kube_error("Namespace", name, &error)),
    }
}
