//! From a VM to its VMI: DataVolumes, instance type and preference, ControllerRevisions.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use steading_infra::{
    cdi::{DataVolume, DataVolumePhase},
    kubevirt::{
        Cpu, VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineClusterPreference,
        VirtualMachineInstance, VirtualMachineInstancetype, VirtualMachinePreference,
        instancetype::InstancetypeSpec,
        virtual_machine::{Matcher, PrintableStatus},
    },
    labels,
};

use super::Virt;
use crate::{
    apiserver::Key,
    behaviour::{drive::unless_there, timers::owned_by},
};

/// Annotation of a VMI: the instance type that it was made from.
pub(super) const INSTANCETYPE: &str = "kubevirt.io/cluster-instancetype-name";
/// Annotation of a VMI: the preference that it was made from.
const PREFERENCE: &str = "kubevirt.io/cluster-preference-name";

/// What a start has come to.
pub(super) enum Start {
    /// The VMI was made.
    Made,
    /// It has to wait; the word for the VM's status.
    Waits(PrintableStatus, Option<Duration>),
    /// It cannot be made: reason and message of the condition `Failure`.
    Fails(&'static str, String),
}

impl Virt {
    pub(super) async fn start(&self, key: &Key, vm: &VirtualMachine) -> kube::Result<Start> {
        if let Some(waits) = self.data_volumes(key, vm).await? {
            return Ok(waits);
        }
        let Some(template) = vm.spec.template.clone() else {
            return Ok(Start::Fails("InvalidTemplate", "the VM has no template".to_owned()));
        };
        let mut spec = template.spec;
        let mut meta = template.metadata.unwrap_or_default();
        let annotations = meta.annotations.get_or_insert_default();
        if let Some(matcher) = &vm.spec.instancetype {
            let Some(found) = self.instancetype(key, matcher).await? else {
                return Ok(Start::Fails(
                    "FailedFindInstancetype",
                    format!("instancetype {:?} not found", matcher.name),
                ));
            };
            let topology = self.topology(key, vm.spec.preference.as_ref()).await?;
            spec.domain.cpu = Some(cpu(&found, &topology, spec.domain.cpu.take()));
            spec.domain.memory.get_or_insert_default().guest = Some(found.memory.guest.clone());
            spec.node_selector.extend(found.node_selector.clone());
            annotations.extend(found.annotations.clone());
            annotations.insert(INSTANCETYPE.to_owned(), matcher.name.clone());
            self.revision(key, vm, &matcher.name, &json!(found)).await?;
        }
        if let Some(matcher) = &vm.spec.preference {
            annotations.insert(PREFERENCE.to_owned(), matcher.name.clone());
            self.revision(key, vm, &matcher.name, &json!({})).await?;
        }
        let start = format!(
            "revision-start-vm-{}-{}",
            vm.uid().unwrap_or_default(),
            vm.metadata.generation.unwrap_or(1)
        );
        self.make_revision(key, vm, start, json!({ "spec": vm.spec })).await?;
        annotations.insert(
            "kubevirt.io/vm-generation".to_owned(),
            vm.metadata.generation.unwrap_or(1).to_string(),
        );
        let labels = meta.labels.get_or_insert_default();
        labels.insert(labels::KUBEVIRT_VM_NAME.to_owned(), key.name.clone());
        meta.name = Some(key.name.clone());
        meta.namespace = Some(key.namespace.clone());
        meta.owner_references = Some(vec![owned_by(vm)]);
        meta.finalizers = Some(vec![labels::KUBEVIRT_VMI_FINALIZER.to_owned()]);
        let mut vmi = VirtualMachineInstance {
            metadata: meta,
            ..VirtualMachineInstance::default()
        };
        vmi.spec.spec = spec;
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        unless_there(api.create(&PostParams::default(), &vmi).await)?;
        Ok(Start::Made)
    }

    /// Makes the VM's DataVolumes; `None` when everything that it boots from is filled.
    async fn data_volumes(&self, key: &Key, vm: &VirtualMachine) -> kube::Result<Option<Start>> {
        let api: Api<DataVolume> = self.api(&key.namespace);
        for template in &vm.spec.data_volume_templates {
            let name = template.metadata.name.clone().unwrap_or_default();
            if self.volumes.get(&Key::new(&key.namespace, &name)).is_some() {
                continue;
            }
            let mut volume = DataVolume {
                metadata: template.metadata.clone(),
                spec: template.spec.clone(),
                status: None,
            };
            volume.metadata.namespace = Some(key.namespace.clone());
            volume.metadata.owner_references = Some(vec![owned_by(vm)]);
            volume
                .metadata
                .labels
                .get_or_insert_default()
                .insert("kubevirt.io/created-by".to_owned(), vm.uid().unwrap_or_default());
            unless_there(api.create(&PostParams::default(), &volume).await)?;
        }
        let boot = vm
            .spec
            .template
            .iter()
            .flat_map(|template| template.spec.volumes.iter());
        for volume in boot.filter(|volume| !volume.is_hotpluggable()) {
            let Some(claim) = volume.claim_name() else { continue };
            let claim = Key::new(&key.namespace, claim);
            let made_here = vm
                .spec
                .data_volume_templates
                .iter()
                .any(|template| template.metadata.name.as_deref() == Some(claim.name.as_str()));
            let phase = self
                .volumes
                .get(&claim)
                .map(|volume| volume.status.clone().unwrap_or_default().phase);
            match phase {
                Some(Some(DataVolumePhase::Succeeded)) => {}
                Some(Some(DataVolumePhase::Failed)) => {
                    return Ok(Some(Start::Waits(PrintableStatus::DataVolumeError, None)));
                }
                Some(_) => return Ok(Some(Start::Waits(PrintableStatus::Provisioning, None))),
                None if made_here => return Ok(Some(Start::Waits(PrintableStatus::Provisioning, None))),
                None if self.claims.get(&claim).is_some() => {}
                None => {
                    return Ok(Some(Start::Waits(
                        PrintableStatus::ErrorPvcNotFound,
                        Some(Duration::from_secs(1)),
                    )));
                }
            }
        }
        Ok(None)
    }

    async fn instancetype(&self, key: &Key, matcher: &Matcher) -> kube::Result<Option<InstancetypeSpec>> {
        if is_namespaced(matcher) {
            let api: Api<VirtualMachineInstancetype> = self.api(&key.namespace);
            return Ok(api.get_opt(&matcher.name).await?.map(|found| found.spec.spec));
        }
        let api: Api<VirtualMachineClusterInstancetype> = Api::all(self.context.client.clone());
        Ok(api.get_opt(&matcher.name).await?.map(|found| found.spec.spec))
    }

    /// The preferred CPU topology; KubeVirt's default is sockets.
    async fn topology(&self, key: &Key, matcher: Option<&Matcher>) -> kube::Result<String> {
        let Some(matcher) = matcher else {
            return Ok("sockets".to_owned());
        };
        let spec = if is_namespaced(matcher) {
            let api: Api<VirtualMachinePreference> = self.api(&key.namespace);
            api.get_opt(&matcher.name).await?.map(|found| found.spec.spec)
        } else {
            let api: Api<VirtualMachineClusterPreference> = Api::all(self.context.client.clone());
            api.get_opt(&matcher.name).await?.map(|found| found.spec.spec)
        };
        Ok(spec
            .and_then(|spec| spec.cpu?.preferred_cpu_topology)
            .unwrap_or_else(|| "sockets".to_owned()))
    }

    async fn revision(&self, key: &Key, vm: &VirtualMachine, of: &str, data: &Value) -> kube::Result<()> {
        self.make_revision(key, vm, revision_name(vm, of), data.clone()).await
    }

    async fn make_revision(&self, key: &Key, vm: &VirtualMachine, name: String, data: Value) -> kube::Result<()> {
        let revision = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data,
            "metadata": { "name": name, "namespace": key.namespace, "ownerReferences": [owned_by(vm)] },
        });
        let revision: ControllerRevision = serde_json::from_value(revision).map_err(kube::Error::SerdeError)?;
        let api: Api<ControllerRevision> = self.api(&key.namespace);
        unless_there(api.create(&PostParams::default(), &revision).await).map(|_| ())
    }
}

/// Name of the ControllerRevision that holds what an instance type or preference was when the VM began to use it.
pub(super) fn revision_name(vm: &VirtualMachine, of: &str) -> String {
    format!("{}-{of}-v1beta1-{}-1", vm.name_any(), vm.uid().unwrap_or_default())
}

fn is_namespaced(matcher: &Matcher) -> bool {
    matcher.kind.as_deref().is_some_and(|kind| {
        kind.eq_ignore_ascii_case("VirtualMachineInstancetype") || kind.eq_ignore_ascii_case("VirtualMachinePreference")
    })
}

fn cpu(of: &InstancetypeSpec, topology: &str, own: Option<Cpu>) -> Cpu {
    let mut cpu = Cpu {
        model: of.cpu.model.clone(),
        ..own.unwrap_or_default()
    };
    let all = Some(of.cpu.guest);
    (cpu.sockets, cpu.cores, cpu.threads) = match topology {
        "cores" | "preferCores" => (Some(1), all, Some(1)),
        "threads" | "preferThreads" => (Some(1), Some(1), all),
        _ => (all, Some(1), Some(1)),
    };
    cpu
}
