//! `MachineService`: pools and machines.

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use steading_api::{
    error::RpcError,
    lifecycle::v1::{
        CreateMachinePoolRequest, DeleteMachinePoolRequest, DeleteMachineRequest, DrainMachineRequest,
        GetMachinePoolRequest, GetMachineRequest, ListMachinePoolsRequest, ListMachinePoolsResponse,
        ListMachinesRequest, ListMachinesResponse, Machine as Message, MachinePool as PoolMessage, PauseRolloutRequest,
        PreviewRolloutRequest, PreviewRolloutResponse, ReplaceMachineRequest, RestartMachineRequest,
        ResumeRolloutRequest, ScaleMachinePoolRequest, UpdateMachinePoolRequest, WatchMachinePoolsRequest,
        WatchMachinePoolsResponse, WatchMachinesRequest, WatchMachinesResponse,
        machine_service_server::{MachineService, MachineServiceServer},
    },
    reflect,
    types::v1::{ErrorReason, WatchEventType},
};
use steading_infra::{
    apply::FieldManager,
    crd::MachinePool,
    intent::{self, Action as Intended, Details, intents},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::{filter::Filter, name::MachineName};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{
        self, Collection, CreateRequest, DeleteRequest, Event, EventStream, Keys, ListRequest, Scope, UpdateRequest,
        WatchRequest, kube_error,
    },
};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::{
    KEYS,
    convert::{ResponseStream, machine as convert, responses},
    machine_pool::{Pools, place},
    project::has_children,
};
use crate::{
    context::Context,
    domain::pool::MAX_REPLICAS,
    observe::{Change, Kind},
    reconcile::pool::preview,
};

/// Longest reason that is kept with a machine.
const MAX_REASON: usize = 1024;

/// Machines as VirtualMachines of the infra cluster. Only reading is the standard way; a machine's end begins with a drain.
#[derive(Clone, Debug)]
pub struct Machines {
    context: Context,
}

impl Collection for Machines {
    type Object = VirtualMachine;
    type Message = Message;

    const KIND: &'static str = "Machine";
    const MESSAGE: &'static str = "steading.lifecycle.v1.Machine";
    const FIELD: &'static str = "machine";
    const KEYS: Keys = KEYS;

    fn api(&self, name: &str) -> Result<Api<VirtualMachine>, RpcError> {
        if let Ok(machine) = name.parse::<MachineName>() {
            return Ok(self.context.namespaced(&machine.namespace()));
        }
        Ok(match place(name)?.1 {
            Some(namespace) => self.context.namespaced(&namespace),
            None => self.context.all(),
        })
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        let (selector, _) = place(parent)?;
        let separator = if selector.is_empty() { "" } else { "," };
        Ok(Scope {
            selector: format!("{}{separator}{selector}", labels::MACHINE),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        let name: MachineName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        Ok(name.object_name())
    }

    fn name_in(&self, _: &str, _: &str) -> Result<String, RpcError> {
        Err(RpcError::internal())
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &VirtualMachine) -> Option<Message> {
        convert::message(&self.context, object)
    }

    async fn object(&self, _: &str, _: &Message, _: Option<&VirtualMachine>) -> Result<VirtualMachine, RpcError> {
        Err(RpcError::internal())
    }
}

/// A custom method that writes or revokes an intent on one machine.
struct Intention {
    name: String,
    reason: String,
    etag: String,
    request_id: String,
    validate_only: bool,
    verb: &'static str,
}

/// Annotations to set or remove.
type Changes = Vec<(String, Option<String>)>;

impl Machines {
    /// Stores what `decide` makes of the machine and of the intent's details; none if it is so already.
    async fn intend(
        &self,
        call: &CallContext,
        wanted: Intention,
        decide: impl Fn(&VirtualMachine, Details) -> Changes + Send,
    ) -> Result<Message, RpcError> {
        let object_name = self.object_name(&wanted.name)?;
        if !wanted.request_id.is_empty() && uuid::Uuid::try_parse(&wanted.request_id).is_err() {
            return Err(RpcError::new(ErrorReason::InvalidField, "request_id: must be a UUID")
                .with_field("request_id", "must be a UUID"));
        }
        if wanted.reason.len() > MAX_REASON {
            let text = format!("must have at most {MAX_REASON} bytes");
            return Err(RpcError::new(ErrorReason::InvalidField, format!("reason: {text}")).with_field("reason", text));
        }
        call.authorize(Action::new(Verb::Custom(wanted.verb), Self::KIND, &wanted.name))
            .await?;
        let api = self.api(&wanted.name)?;
        let found = api
            .get_opt(&object_name)
            .await
            .map_err(|e| kube_error(Self::KIND, &wanted.name, &e))?;
        let missing = || RpcError::not_found(Self::KIND, &wanted.name);
        let vm = found.ok_or_else(missing)?;
        let before = self.message(&vm).ok_or_else(missing)?;
        let details = Details {
            reason: wanted.reason.clone(),
            since: Some(self.context.clock.now()),
            request_id: (!wanted.request_id.is_empty()).then(|| wanted.request_id.clone()),
            ..Details::default()
        };
        let changes = decide(&vm, details);
        let deleting = vm.metadata.deletion_timestamp.is_some();
        if deleting && wanted.verb != "delete" {
            return Err(RpcError::new(
                ErrorReason::ResourceDeleting,
                format!("{} is being deleted", wanted.name),
            )
            .with_resource(Self::KIND, &wanted.name));
        }
        if changes.is_empty() || deleting {
            return Ok(before);
        }
        if !wanted.etag.is_empty() && vm.metadata.resource_version.as_deref() != Some(wanted.etag.as_str()) {
            return Err(RpcError::etag_mismatch(Self::KIND, &wanted.name));
        }
        if wanted.validate_only {
            return Ok(before);
        }
        let map: serde_json::Map<String, serde_json::Value> = changes
            .into_iter()
            .map(|(key, value)| (key, value.map_or(serde_json::Value::Null, serde_json::Value::String)))
            .collect();
        let mut metadata = json!({"annotations": map});
        if !wanted.etag.is_empty() {
            metadata["resourceVersion"] = json!(wanted.etag);
        }
        let params = PatchParams {
            field_manager: Some(FieldManager::Lifecycle.as_str().into()),
            ..PatchParams::default()
        };
        let stored = api
            .patch(&object_name, &params, &Patch::Merge(json!({"metadata": metadata})))
            .await;
        let stored = stored.map_err(|e| kube_error(Self::KIND, &wanted.name, &e))?;
        tracing::info!(name = %wanted.name, verb = wanted.verb, reason = %wanted.reason, "intent of a call stored");
        self.message(&stored).ok_or_else(RpcError::internal)
    }
}

/// The API's own intent of an action, unless it is there already.
fn once(vm: &VirtualMachine, action: Intended, details: Details) -> Changes {
    let key = intent::key(action, intent::API);
    if vm.annotations().contains_key(&key) {
        return Changes::new();
    }
    let value = serde_json::to_string(&details).unwrap_or_default();
    vec![(key, Some(value))]
}

/// Whether a restart of this request was carried out already.
fn is_replay(vm: &VirtualMachine, details: &Details) -> bool {
    let last = vm.annotations().get(labels::LAST_RESTART);
    let last = last.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let last = last.and_then(|value| value["requestId"].as_str().map(str::to_owned));
    last.is_some() && last == details.request_id
}

/// The service.
pub fn service(context: &Context) -> MachineServiceServer<MachineApi> {
    MachineServiceServer::new(MachineApi {
        context: context.clone(),
        pools: Pools {
            context: context.clone(),
        },
        machines: Machines {
            context: context.clone(),
        },
    })
}

/// The service's methods.
#[derive(Clone, Debug)]
pub struct MachineApi {
    context: Context,
    pools: Pools,
    machines: Machines,
}

impl MachineApi {
    /// A pool that stopped because new machines failed begins to count again.
    async fn forget_failures(&self, name: &str) -> Result<(), RpcError> {
        let parsed = super::machine_pool::parse("name", name)?;
        let seen = self
            .context
            .observed
            .pools
            .get(&parsed.namespace(), &parsed.object_name());
        if seen.and_then(|pool| pool.status.as_ref()?.failures.clone()).is_none() {
            return Ok(());
        }
        let now = self.context.clock.now().to_string();
        let patch = json!({"metadata": {"annotations": {labels::ROLLOUT_RESUMED: now}}});
        let params = PatchParams {
            field_manager: Some(FieldManager::Lifecycle.as_str().into()),
            ..PatchParams::default()
        };
        let api: Api<MachinePool> = self.context.namespaced(&parsed.namespace());
        let patched = api.patch(&parsed.object_name(), &params, &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|e| kube_error(Pools::KIND, name, &e))
    }

    /// An update of one field of a pool, as custom methods are.
    async fn change(
        &self,
        call: &CallContext,
        pool: PoolMessage,
        field: &str,
        request_id: String,
        validate_only: bool,
    ) -> Result<Response<PoolMessage>, Status> {
        let mask = prost_types::FieldMask {
            paths: vec![field.to_owned()],
        };
        let update = UpdateRequest {
            message: Some(pool),
            mask: Some(mask),
            request_id,
            validate_only,
        };
        Ok(Response::new(collection::update(&self.pools, call, &update).await?))
    }
}

#[tonic::async_trait]
impl MachineService for MachineApi {
    type WatchMachinePoolsStream = ResponseStream<WatchMachinePoolsResponse>;
    type WatchMachinesStream = ResponseStream<WatchMachinesResponse>;

    async fn get_machine_pool(&self, request: Request<GetMachinePoolRequest>) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.pools, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_machine_pools(
        &self,
        request: Request<ListMachinePoolsRequest>,
    ) -> Result<Response<ListMachinePoolsResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (machine_pools, next_page_token) = collection::list(&self.pools, &call, &list).await?;
        Ok(Response::new(ListMachinePoolsResponse {
            machine_pools,
            next_page_token,
        }))
    }

    async fn create_machine_pool(
        &self,
        request: Request<CreateMachinePoolRequest>,
    ) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: r.parent,
            id: r.machine_pool_id,
            message: r.machine_pool,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(collection::create(&self.pools, &call, &create).await?))
    }

    async fn update_machine_pool(
        &self,
        request: Request<UpdateMachinePoolRequest>,
    ) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.machine_pool,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(collection::update(&self.pools, &call, &update).await?))
    }

    async fn delete_machine_pool(
        &self,
        request: Request<DeleteMachinePoolRequest>,
    ) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let pool = super::machine_pool::parse("name", &r.name)?;
        if !r.force {
            call.authorize(Action::new(Verb::Delete, Pools::KIND, &r.name)).await?;
            let vms: Api<VirtualMachine> = self.context.namespaced(&pool.namespace());
            let selector = ListParams::default()
                .labels(&format!("{}={}", labels::POOL, pool.id))
                .limit(5);
            let found = vms
                .list(&selector)
                .await
                .map_err(|e| kube_error("Machine", &r.name, &e))?;
            has_children(
                Pools::KIND,
                &r.name,
                found
                    .items
                    .iter()
                    .map(|vm| format!("{}/machines/{}", pool.cluster, vm.name_any()))
                    .collect(),
            )?;
        }
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&self.pools, &call, &self.context.clock, &delete).await?,
        ))
    }

    async fn watch_machine_pools(
        &self,
        request: Request<WatchMachinePoolsRequest>,
    ) -> Result<Response<Self::WatchMachinePoolsStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.pools, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchMachinePoolsResponse {
            r#type: event.kind.into(),
            machine_pool: event.message,
            resume_token: event.resume_token,
        })))
    }

    async fn scale_machine_pool(
        &self,
        request: Request<ScaleMachinePoolRequest>,
    ) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        // Checked here, where the field is the request's own.
        let Some(replicas) = r.replicas.filter(|replicas| (0..=MAX_REPLICAS).contains(replicas)) else {
            let text = format!("must be given, between 0 and {MAX_REPLICAS}");
            let error = RpcError::new(ErrorReason::InvalidField, format!("replicas: {text}"));
            return Err(error.with_field("replicas", text).into());
        };
        let pool = PoolMessage {
            name: r.name,
            etag: r.etag,
            replicas,
            ..PoolMessage::default()
        };
        self.change(&call, pool, "replicas", r.request_id, r.validate_only)
            .await
    }

    async fn preview_rollout(
        &self,
        request: Request<PreviewRolloutRequest>,
    ) -> Result<Response<PreviewRolloutResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let name = super::machine_pool::parse("name", &r.name)?;
        call.authorize(Action::new(Verb::Custom("previewRollout"), Pools::KIND, &r.name))
            .await?;
        let api: Api<MachinePool> = self.context.namespaced(&name.namespace());
        let stored = api
            .get_opt(&name.object_name())
            .await
            .map_err(|e| kube_error(Pools::KIND, &r.name, &e))?;
        let stored = stored.ok_or_else(|| RpcError::not_found(Pools::KIND, &r.name))?;
        let wanted = match &r.machine_pool {
            Some(message) => self.pools.object(&r.name, message, Some(&stored)).await?,
            None => stored,
        };
        let found = preview(&self.context, &wanted).await.map_err(|error| {
            RpcError::new(
                ErrorReason::PeerUnavailable,
                format!("the machines cannot be rendered: {error}"),
            )
            .with_resource(Pools::KIND, &r.name)
        })?;
        let machine = |id: &String| format!("{}/machines/{id}", name.cluster);
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Ok(Response::new(PreviewRolloutResponse {
            replaced_machines: found.replaced.iter().map(machine).collect(),
            added_machines: count(found.added),
            removed_machines: found.removed.iter().map(machine).collect(),
            revision: found.revision,
            machine_template_revision: found.template_revision,
            peak_machines: count(found.peak),
        }))
    }

    async fn pause_rollout(&self, request: Request<PauseRolloutRequest>) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let pool = PoolMessage {
            name: r.name,
            etag: r.etag,
            rollout_paused: true,
            ..PoolMessage::default()
        };
        self.change(&call, pool, "rollout_paused", r.request_id, r.validate_only)
            .await
    }

    async fn resume_rollout(&self, request: Request<ResumeRolloutRequest>) -> Result<Response<PoolMessage>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let pool = PoolMessage {
            name: r.name.clone(),
            etag: r.etag,
            ..PoolMessage::default()
        };
        let resumed = self
            .change(&call, pool, "rollout_paused", r.request_id, r.validate_only)
            .await?;
        if !r.validate_only {
            self.forget_failures(&r.name).await?;
        }
        Ok(resumed)
    }

    async fn get_machine(&self, request: Request<GetMachineRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.machines, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: r.parent,
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (machines, next_page_token) = collection::list(&self.machines, &call, &list).await?;
        Ok(Response::new(ListMachinesResponse {
            machines,
            next_page_token,
        }))
    }

    async fn watch_machines(
        &self,
        request: Request<WatchMachinesRequest>,
    ) -> Result<Response<Self::WatchMachinesStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: r.parent,
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = watch_machines(&self.machines, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchMachinesResponse {
            r#type: event.kind.into(),
            machine: event.message,
            resume_token: event.resume_token,
        })))
    }

    async fn replace_machine(&self, request: Request<ReplaceMachineRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let wanted = Intention {
            name: r.name,
            reason: r.reason,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
            verb: "replace",
        };
        Ok(Response::new(
            self.machines
                .intend(&call, wanted, |vm, details| once(vm, Intended::Replace, details))
                .await?,
        ))
    }

    async fn drain_machine(&self, request: Request<DrainMachineRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let undo = r.undo;
        let wanted = Intention {
            name: r.name,
            reason: r.reason,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
            verb: "drain",
        };
        let decide = |vm: &VirtualMachine, details: Details| {
            if !undo {
                return once(vm, Intended::Drain, details);
            }
            // Whoever asked for the drain, this call takes it back; the machine's reconciler then uncordons.
            let drains = intents(vm.annotations()).into_iter();
            let drains = drains.filter(|one| one.action == Intended::Drain);
            drains.map(|one| (one.key(), None)).collect()
        };
        Ok(Response::new(self.machines.intend(&call, wanted, decide).await?))
    }

    async fn restart_machine(&self, request: Request<RestartMachineRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let wanted = Intention {
            name: r.name,
            reason: r.reason,
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
            verb: "restart",
        };
        Ok(Response::new(
            self.machines
                .intend(&call, wanted, |vm, details| {
                    if is_replay(vm, &details) {
                        return Changes::new();
                    }
                    once(vm, Intended::Restart, details)
                })
                .await?,
        ))
    }

    async fn delete_machine(&self, request: Request<DeleteMachineRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let force = r.force;
        let wanted = Intention {
            name: r.name,
            reason: String::new(),
            etag: r.etag,
            request_id: r.request_id,
            validate_only: r.validate_only,
            verb: "delete",
        };
        let decide = |vm: &VirtualMachine, details: Details| {
            let present = intents(vm.annotations());
            let wants = |action| present.iter().any(|one| one.action == action);
            // A pool or cluster may revoke its own deletion; a call's stays.
            let stays = present
                .iter()
                .any(|one| one.action == Intended::Delete && one.owner == intent::API);
            match (force, wants(Intended::ForceDelete)) {
                (_, true) => Changes::new(),
                (true, false) => once(vm, Intended::ForceDelete, details),
                (false, false) if stays => Changes::new(),
                (false, false) => once(vm, Intended::Delete, details),
            }
        };
        match self.machines.intend(&call, wanted, decide).await {
            Err(error) if r.allow_missing && error.reason() == ErrorReason::ResourceNotFound => {
                Ok(Response::new(Message::default()))
            }
            result => Ok(Response::new(result?)),
        }
    }
}

/// What a watch of machines waits for.
enum Next {
    Event(Box<Option<Result<Event<Message>, RpcError>>>),
    Change(Result<Change, RecvError>),
}

/// The watch of VirtualMachines, joined by what happens to their instances and nodes. Resume tokens are the VirtualMachines'.
async fn watch_machines(
    machines: &Machines,
    call: &CallContext,
    request: &WatchRequest,
) -> Result<EventStream<Message>, RpcError> {
    let (_, namespace) = place(&request.parent)?;
    let (selector, _) = place(&request.parent)?;
    let project = selector
        .split_once('=')
        .map(|(_, project)| format!("{project}{}", labels::PROJECT_SEPARATOR));
    let fields = reflect::filter_fields(Machines::MESSAGE);
    let filter = Filter::parse(&request.filter, &fields.iter().map(String::as_str).collect::<Vec<_>>())?;
    let observed = std::sync::Arc::clone(&machines.context.observed);
    let mut changes = observed.subscribe();
    let mut events = collection::watch(machines, call, request).await?;
    let (machines, mut token) = (machines.clone(), request.resume_token.clone());
    Ok(Box::pin(async_stream::try_stream! {
        let mut synced = !token.is_empty();
        loop {
            let next = tokio::select! {
                event = events.next() => Next::Event(Box::new(event)),
                change = changes.recv() => Next::Change(change),
            };
            match next {
                Next::Change(Err(RecvError::Closed)) => return,
                Next::Event(event) => {
                    let Some(event) = *event else { return };
                    let event = event?;
                    token.clone_from(&event.resume_token);
                    synced = synced || event.kind == WatchEventType::Synced;
                    yield event;
                }
                Next::Change(Err(RecvError::Lagged(_))) => {
                    Err(RpcError::new(ErrorReason::WatchOverrun, "the reader was too slow; resume with the last token"))?;
                }
                Next::Change(Ok(change)) => {
                    let here = namespace.as_ref().is_none_or(|n| *n == change.namespace)
                        && project.as_ref().is_none_or(|prefix| change.namespace.starts_with(prefix.as_str()));
                    if !synced || !here || !matches!(change.kind, Kind::VirtualMachineInstance | Kind::TenantNode) {
                        continue;
                    }
                    let vm = observed.vms.get(&change.namespace, &change.name);
                    let Some(message) = vm.and_then(|vm| machines.message(&vm)) else { continue };
                    let passes = filter.is_empty() || filter.matches(&reflect::Filterable(reflect::dynamic(Machines::MESSAGE, &message)?));
                    if passes {
                        yield Event { kind: WatchEventType::Modified, message: Some(message), resume_token: token.clone() };
                    }
                }
            }
        }
    }))
}
