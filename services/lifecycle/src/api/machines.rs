//! The collection of machines: VirtualMachines, joined by what is seen of their instances and nodes. Custom methods write intents
//! of the API on a machine, or revoke them; a machine's end begins with a drain.

use futures::{StreamExt, stream::BoxStream};
use kube::{Api, ResourceExt};
use steading_api::{convert::timestamp, error::RpcError, lifecycle::v1 as proto, standard::Meta};
use steading_infra::{
    intent::{self, Action as Intended, Details, intents},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::{
    name::{ClusterName, MachineName, Within},
    violation::Violations,
};
use steading_runtime::standard::{Acts, Collection, Decision, Keys, Presence};
use tokio::sync::broadcast::error::RecvError;

use super::{convert::machine as convert, metadata::KEYS, presence::of_cluster};
use crate::{
    context::Context,
    error::Refusal,
    observe::{Change, Kind},
};

/// Longest reason that is kept with a machine, in bytes.
const MAX_REASON: usize = 1024;

/// Machines as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Machines {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for Machines {
    type Object = VirtualMachine;
    type Resource = proto::Machine;
    type Name = MachineName;

    const KEYS: Keys = KEYS;

    fn api(&self, namespace: Option<&str>) -> Api<VirtualMachine> {
        namespace.map_or_else(|| self.context.all(), |namespace| self.context.namespaced(namespace))
    }

    fn resource(&self, object: &VirtualMachine) -> Option<proto::Machine> {
        convert::message(&self.context, object)
    }

    fn meta(&self, object: &VirtualMachine) -> Meta {
        let meta = KEYS.meta(&object.metadata);
        let asked = || convert::asked_to_go(&self.context, object).map(timestamp);
        Meta {
            delete_time: meta.delete_time.or_else(asked),
            ..meta
        }
    }

    fn selector(&self, _: &Within<ClusterName>) -> String {
        labels::MACHINE.to_owned()
    }

    fn intent(&self, object: &VirtualMachine) -> String {
        let own = intents(object.annotations()).into_iter();
        let own = own.filter(|one| one.owner == intent::API).map(|one| one.key());
        own.collect::<Vec<_>>().join(" ")
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        of_cluster(&self.context, within).await
    }

    fn stirred(&self, within: &Within<ClusterName>) -> BoxStream<'static, Result<VirtualMachine, RpcError>> {
        let (observed, changes) = (self.context.observed.clone(), self.context.observed.subscribe());
        let (namespace, within) = (within.namespace(), within.clone());
        let is_within = move |change: &Change| {
            namespace.as_ref().is_none_or(|wanted| *wanted == change.namespace)
                && ClusterName::from_namespace(&change.namespace).is_some_and(|cluster| match &within {
                    Within::Everywhere => true,
                    Within::Project(project) => cluster.project == *project,
                    Within::One(wanted) => cluster == *wanted,
                })
        };
        let stream = futures::stream::unfold(changes, move |mut changes| {
            let (observed, is_within) = (observed.clone(), is_within.clone());
            async move {
                loop {
                    match changes.recv().await {
                        Err(RecvError::Closed) => return None,
                        Err(RecvError::Lagged(_)) => return Some((Err(Refusal::WatchOverrun.into()), changes)),
                        Ok(change) if is_of_machine(change.kind) && is_within(&change) => {
                            if let Some(vm) = observed.vms.get(&change.namespace, &change.name) {
                                return Some((Ok((*vm).clone()), changes));
                            }
                        }
                        Ok(_) => {}
                    }
                }
            }
        });
        stream.boxed()
    }
}

/// Whether a change of this kind may change how the machine of its name looks.
fn is_of_machine(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::VirtualMachine | Kind::VirtualMachineInstance | Kind::TenantNode
    )
}

impl Machines {
    /// The details of an intent that a call asks for.
    fn details(&self, reason: &str, request_id: &str) -> Result<Details, RpcError> {
        if reason.len() > MAX_REASON {
            return Err(Violations::one("reason", format!("must have at most {MAX_REASON} bytes")).into());
        }
        Ok(Details {
            reason: reason.to_owned(),
            since: Some(self.context.clock.now()),
            request_id: (!request_id.is_empty()).then(|| request_id.to_owned()),
            ..Details::default()
        })
    }
}

/// The API's own intent of an action, unless it is there already.
fn once(vm: &VirtualMachine, action: Intended, details: &Details) -> Decision {
    let key = intent::key(action, intent::API);
    if vm.annotations().contains_key(&key) {
        return Decision::AlreadySo;
    }
    let value = serde_json::to_string(details).unwrap_or_default();
    Decision::annotate([(key.as_str(), Some(value))])
}

/// Whether a restart of this request was carried out already.
fn is_replay(vm: &VirtualMachine, details: &Details) -> bool {
    let last = vm.annotations().get(labels::LAST_RESTART);
    let last = last.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let last = last.and_then(|value| value["requestId"].as_str().map(str::to_owned));
    last.is_some() && last == details.request_id
}

impl Acts<proto::ReplaceMachineRequest> for Machines {
    async fn decide(
        &self,
        request: &proto::ReplaceMachineRequest,
        _: &MachineName,
        current: &VirtualMachine,
    ) -> Result<Decision, RpcError> {
        let details = self.details(&request.reason, &request.request_id)?;
        Ok(once(current, Intended::Replace, &details))
    }
}

impl Acts<proto::DrainMachineRequest> for Machines {
    async fn decide(
        &self,
        request: &proto::DrainMachineRequest,
        _: &MachineName,
        current: &VirtualMachine,
    ) -> Result<Decision, RpcError> {
        let details = self.details(&request.reason, &request.request_id)?;
        if !request.undo {
            return Ok(once(current, Intended::Drain, &details));
        }
        // Whoever asked for the drain, this call takes it back; the machine's reconciler then uncordons.
        let drains = intents(current.annotations()).into_iter();
        let drains = drains.filter(|one| one.action == Intended::Drain);
        let keys: Vec<String> = drains.map(|one| one.key()).collect();
        if keys.is_empty() {
            return Ok(Decision::AlreadySo);
        }
        Ok(Decision::annotate(keys.iter().map(|key| (key.as_str(), None))))
    }
}

impl Acts<proto::RestartMachineRequest> for Machines {
    async fn decide(
        &self,
        request: &proto::RestartMachineRequest,
        _: &MachineName,
        current: &VirtualMachine,
    ) -> Result<Decision, RpcError> {
        let details = self.details(&request.reason, &request.request_id)?;
        if is_replay(current, &details) {
            return Ok(Decision::AlreadySo);
        }
        Ok(once(current, Intended::Restart, &details))
    }
}

impl Acts<proto::DeleteMachineRequest> for Machines {
    async fn decide(
        &self,
        request: &proto::DeleteMachineRequest,
        _: &MachineName,
        current: &VirtualMachine,
    ) -> Result<Decision, RpcError> {
        let details = self.details("", &request.request_id)?;
        let present = intents(current.annotations());
        let is_forced = present.iter().any(|one| one.action == Intended::ForceDelete);
        // A pool or cluster may revoke its own deletion; a call's stays.
        let stays = present
            .iter()
            .any(|one| one.action == Intended::Delete && one.owner == intent::API);
        if current.metadata.deletion_timestamp.is_some() || is_forced {
            return Ok(Decision::AlreadySo);
        }
        Ok(match request.force {
            true => once(current, Intended::ForceDelete, &details),
            false if stays => Decision::AlreadySo,
            false => once(current, Intended::Delete, &details),
        })
    }
}
