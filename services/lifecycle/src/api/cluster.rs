//! `ClusterService`.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, ResourceExt, api::ListParams};
use steading_api::{
    error::RpcError,
    lifecycle::v1::{
        Cluster as Message, CreateClusterRequest, DeleteClusterRequest, GetClusterKubeconfigRequest,
        GetClusterKubeconfigResponse, GetClusterRequest, ListClustersRequest, ListClustersResponse,
        UpdateClusterRequest, UpgradeClusterRequest, WatchClustersRequest, WatchClustersResponse,
        cluster::ControlPlane,
        cluster_service_server::{ClusterService, ClusterServiceServer},
    },
    types::v1::ErrorReason,
};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool, Project},
    labels,
};
use steading_model::{
    ids::Id,
    name::{ClusterName, ProjectName},
    violation::Violations,
};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{
        self, Collection, CreateRequest, DeleteRequest, Keys, ListRequest, Scope, UpdateRequest, WatchRequest,
        kube_error,
    },
    tasks::Chain,
};
use tonic::{Request, Response, Status};

use super::{
    KEYS,
    convert::{ResponseStream, cluster as convert, nested, responses, write_meta},
    project::has_children,
    status::infra_error,
};
use crate::{
    apply::{consent, namespace as own_namespace},
    context::Context,
    domain::kubeconfig,
    plan::ownership::NamespaceOwnership,
    reconcile::project::{Counted, usage},
};

/// Clusters as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Clusters {
    context: Context,
}

fn parse(path: &str, name: &str) -> Result<ClusterName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

impl Collection for Clusters {
    type Object = Cluster;
    type Message = Message;

    const KIND: &'static str = "Cluster";
    const MESSAGE: &'static str = "steading.lifecycle.v1.Cluster";
    const FIELD: &'static str = "cluster";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<Cluster>, RpcError> {
        Ok(self.context.all())
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        if parent == "projects/-" {
            return Ok(Scope::default());
        }
        let project: ProjectName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
        Ok(Scope {
            selector: format!("{}={}", labels::PROJECT, project.object_name()),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse("name", name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let project: ProjectName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
        let id = Id::parse(id).map_err(|e| RpcError::from(Violations::one("cluster_id", e.to_string())))?;
        Ok(format!("{project}/clusters/{id}"))
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Cluster) -> Option<Message> {
        convert::message(object)
    }

    async fn object(&self, name: &str, message: &Message, current: Option<&Cluster>) -> Result<Cluster, RpcError> {
        let name = parse("name", name)?;
        if matches!(message.control_plane, Some(ControlPlane::Managed(_))) {
            let text = "managed control planes cannot be made yet; give an external one";
            return Err(RpcError::new(ErrorReason::CapabilityMissing, text)
                .with_field("cluster.managed", text)
                .with_precondition(
                    "CAPABILITY",
                    "managed control plane",
                    "is not served yet; see docs/status.md",
                ));
        }
        let spec = match convert::spec(&name, message) {
            Ok(spec) => spec,
            Err(found) => return Err(nested(Self::FIELD, found).err().unwrap_or_else(RpcError::internal)),
        };
        if let Some(ControlPlane::External(external)) = &message.control_plane {
            check_kubeconfig(&external.kubeconfig)?;
        }
        if current.is_none() {
            self.check_project(&name).await?;
            self.check_namespace(&name).await?;
        }
        let mut object = current
            .cloned()
            .unwrap_or_else(|| Cluster::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let own = [
            (labels::PROJECT, name.project.as_str()),
            (labels::CLUSTER, name.cluster.as_str()),
        ];
        write_meta(&mut object.metadata, (&message.labels, &message.annotations), &own);
        if current.is_none() {
            object.metadata.finalizers = Some(vec![labels::CLUSTER_FINALIZER.into()]);
        }
        Ok(object)
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
            .map_err(|e| kube_error(Self::KIND, &name.to_string(), &e))?;
        let Some(found) = found else { return Ok(()) };
        let label = |key: &str| found.labels().get(key).map(String::as_str);
        let is_labelled = label(labels::PROJECT) == Some(name.project.as_str())
            && label(labels::CLUSTER) == Some(name.cluster.as_str());
        if is_labelled {
            return Ok(());
        }
        Err(foreign_namespace(
            &name.to_string(),
            &space,
            NamespaceOwnership::Foreign,
        ))
    }

    async fn check_project(&self, name: &ClusterName) -> Result<(), RpcError> {
        let project_name = name.project_name().to_string();
        let projects: Api<Project> = self.context.all();
        let project = projects
            .get_opt(&name.project)
            .await
            .map_err(|e| kube_error("Project", &project_name, &e))?;
        let missing = || RpcError::not_found("Project", &project_name);
        let project = project.ok_or_else(missing)?;
        if project.metadata.deletion_timestamp.is_some() {
            return Err(RpcError::new(
                ErrorReason::ResourceDeleting,
                format!("{project_name} is being deleted"),
            )
            .with_resource("Project", &project_name));
        }
        let used = usage(&self.context.observed, &name.project, Counted::Wanted);
        let count = |map: &BTreeMap<String, String>| map.get("clusters").and_then(|n| n.parse::<i64>().ok());
        let limit = count(&project.spec.quota);
        if limit.is_some_and(|limit| count(&used).unwrap_or_default() >= limit) {
            let text = format!("{project_name} may have {} clusters", limit.unwrap_or_default());
            return Err(RpcError::new(ErrorReason::QuotaExceeded, &text).with_quota(project_name, "clusters"));
        }
        Ok(())
    }

    /// Stores a kubeconfig that came with a request. Also done when a create is replayed, as the first try may have ended before.
    async fn keep_kubeconfig(&self, name: &str, kubeconfig: Vec<u8>) -> Result<(), RpcError> {
        let cluster = parse("name", name)?;
        let space = cluster.namespace();
        let stored: Api<Cluster> = self.context.all();
        let object = stored.get(&space).await.map_err(|e| kube_error(Self::KIND, name, &e))?;
        let secret = object
            .spec
            .control_plane
            .external
            .as_ref()
            .map(|e| e.kubeconfig_secret.as_str())
            .filter(|s| !s.is_empty());
        let failed = |error: steading_infra::error::InfraError| {
            tracing::warn!(%error, name, "the kubeconfig could not be stored");
            RpcError::new(
                ErrorReason::InfraUnavailable,
                "the kubeconfig could not be stored; repeat the request",
            )
        };
        let ownership = own_namespace::ensure(&self.context, &object).await.map_err(|error| {
            tracing::warn!(error = %Chain(&error), name, "the namespace could not be made");
            RpcError::new(
                ErrorReason::InfraUnavailable,
                "the kubeconfig could not be stored; repeat the request",
            )
        })?;
        if !ownership.is_usable() {
            return Err(foreign_namespace(name, &space, ownership));
        }
        let body = Secret {
            metadata: ObjectMeta {
                name: Some(secret.unwrap_or(labels::KUBECONFIG_SECRET).to_owned()),
                namespace: Some(space.clone()),
                labels: Some(BTreeMap::from([
                    (labels::PROJECT.to_owned(), cluster.project.to_string()),
                    (labels::CLUSTER.to_owned(), cluster.cluster.to_string()),
                    (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned()),
                ])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                labels::KUBECONFIG_KEY.to_owned(),
                ByteString(kubeconfig),
            )])),
            ..Secret::default()
        };
        apply::apply(
            &self.context.namespaced::<Secret>(&space),
            FieldManager::Lifecycle,
            &body,
        )
        .await
        .map_err(failed)?;
        Ok(())
    }
}

/// The refusal to use a namespace that is not the cluster's.
fn foreign_namespace(name: &str, space: &str, ownership: NamespaceOwnership) -> RpcError {
    let text = match ownership {
        NamespaceOwnership::OfFormer => {
            format!("namespace {space} was made for another cluster of this name; delete it first")
        }
        NamespaceOwnership::Foreign
        | NamespaceOwnership::Absent
        | NamespaceOwnership::Made
        | NamespaceOwnership::Lent => format!(
            "namespace {space} exists and is not this cluster's; label it {} and {} to have it used",
            labels::PROJECT,
            labels::CLUSTER
        ),
    };
    RpcError::new(ErrorReason::InvalidState, &text)
        .with_resource(Clusters::KIND, name)
        .with_precondition("NAMESPACE", space, text)
}

fn kubeconfig_of(cluster: Option<&Message>) -> Vec<u8> {
    match cluster.and_then(|cluster| cluster.control_plane.as_ref()) {
        Some(ControlPlane::External(external)) => external.kubeconfig.clone(),
        Some(ControlPlane::Managed(_)) | None => Vec::new(),
    }
}

/// Whether an update is about the kubeconfig: its mask is absent or names it or what it is part of.
fn covers_kubeconfig(mask: Option<&prost_types::FieldMask>) -> bool {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    paths.is_empty()
        || paths
            .iter()
            .any(|path| ["*", "external", "external.kubeconfig"].contains(&path.as_str()))
}

/// The service.
pub fn service(context: &Context) -> ClusterServiceServer<ClusterApi> {
    ClusterServiceServer::new(ClusterApi {
        clusters: Clusters {
            context: context.clone(),
        },
    })
}

/// The service's methods.
#[derive(Clone, Debug)]
pub struct ClusterApi {
    clusters: Clusters,
}

#[tonic::async_trait]
impl ClusterService for ClusterApi {
    type WatchClustersStream = ResponseStream<WatchClustersResponse>;

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.clusters, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (clusters, next_page_token) = collection::list(&self.clusters, &call, &list).await?;
        Ok(Response::new(ListClustersResponse {
            clusters,
            next_page_token,
        }))
    }

    async fn create_cluster(&self, request: Request<CreateClusterRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let kubeconfig = kubeconfig_of(r.cluster.as_ref());
        let create = CreateRequest {
            parent: r.parent,
            id: r.cluster_id,
            message: r.cluster,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        let made = collection::create(&self.clusters, &call, &create).await?;
        if !kubeconfig.is_empty() && !create.validate_only {
            self.clusters.keep_kubeconfig(&made.name, kubeconfig).await?;
        }
        Ok(Response::new(made))
    }

    async fn update_cluster(&self, request: Request<UpdateClusterRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let kubeconfig = kubeconfig_of(r.cluster.as_ref());
        let update = UpdateRequest {
            message: r.cluster,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        let updated = collection::update(&self.clusters, &call, &update).await?;
        if !kubeconfig.is_empty() && !update.validate_only && covers_kubeconfig(update.mask.as_ref()) {
            self.clusters.keep_kubeconfig(&updated.name, kubeconfig).await?;
        }
        Ok(Response::new(updated))
    }

    async fn delete_cluster(&self, request: Request<DeleteClusterRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let mut r = request.into_inner();
        let space = self.clusters.object_name(&r.name)?;
        if !r.force {
            call.authorize(Action::new(Verb::Delete, Clusters::KIND, &r.name))
                .await?;
            let pools: Api<MachinePool> = self.clusters.context.namespaced(&space);
            let found = pools
                .list(&ListParams::default().limit(5))
                .await
                .map_err(|e| kube_error("MachinePool", &r.name, &e))?;
            let pools = found
                .items
                .iter()
                .map(|pool| format!("{}/machinePools/{}", r.name, pool.name_any()));
            let volumes = self.clusters.context.observed.volumes.list(&space);
            let volumes = volumes
                .iter()
                .take(5)
                .map(|volume| format!("{}/volumes/{}", r.name, volume.name_any()));
            has_children(Clusters::KIND, &r.name, pools.chain(volumes).collect())?;
        } else if !r.validate_only {
            call.authorize(Action::new(Verb::Delete, Clusters::KIND, &r.name))
                .await?;
            let clusters: Api<Cluster> = self.clusters.context.all();
            r.etag = consent::give_at(&clusters, &space, &r.etag)
                .await
                .map_err(|error| infra_error(Clusters::KIND, &r.name, &error))?;
        }
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&self.clusters, &call, &self.clusters.context.clock, &delete).await?,
        ))
    }

    async fn watch_clusters(
        &self,
        request: Request<WatchClustersRequest>,
    ) -> Result<Response<Self::WatchClustersStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.clusters, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchClustersResponse {
            r#type: event.kind.into(),
            cluster: event.message,
            resume_token: event.resume_token,
        })))
    }

    async fn get_cluster_kubeconfig(
        &self,
        request: Request<GetClusterKubeconfigRequest>,
    ) -> Result<Response<GetClusterKubeconfigResponse>, Status> {
        let call = CallContext::from_request(&request);
        let name = request.into_inner().name;
        let space = self.clusters.object_name(&name)?;
        call.authorize(Action::new(Verb::Custom("kubeconfig"), Clusters::KIND, &name))
            .await?;
        let context = &self.clusters.context;
        let cluster: Option<Cluster> = context
            .all()
            .get_opt(&space)
            .await
            .map_err(|e| kube_error(Clusters::KIND, &name, &e))?;
        let cluster = cluster.ok_or_else(|| RpcError::not_found(Clusters::KIND, &name))?;
        let external = cluster
            .spec
            .control_plane
            .external
            .unwrap_or_default()
            .kubeconfig_secret;
        let secret_name = if external.is_empty() {
            labels::KUBECONFIG_SECRET.to_owned()
        } else {
            external
        };
        let secrets: Api<Secret> = context.namespaced(&space);
        let secret = secrets
            .get_opt(&secret_name)
            .await
            .map_err(|e| kube_error(Clusters::KIND, &name, &e))?;
        let bytes = secret
            .and_then(|secret| secret.data?.remove(labels::KUBECONFIG_KEY))
            .map(|bytes| bytes.0);
        let kubeconfig = bytes.ok_or_else(|| {
            RpcError::new(ErrorReason::InvalidState, format!("{name} has no kubeconfig yet"))
                .with_resource(Clusters::KIND, &name)
        })?;
        Ok(Response::new(GetClusterKubeconfigResponse {
            kubeconfig,
            expire_time: None,
        }))
    }

    async fn upgrade_cluster(&self, request: Request<UpgradeClusterRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let name = request.into_inner().name;
        self.clusters.object_name(&name)?;
        call.authorize(Action::new(Verb::Custom("upgrade"), Clusters::KIND, &name))
            .await?;
        Err(RpcError::not_implemented("steading.lifecycle.v1.ClusterService/UpgradeCluster").into())
    }
}
