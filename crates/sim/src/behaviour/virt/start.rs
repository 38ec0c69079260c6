//! From a VM to its VMI: DataVolumes, instance type and preference, ControllerRevisions.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use steading_infra::{
    cdi::{DataVolume, DataVolumePhase},
    kubevirt::{
        VirtualMachine, VirtualMachineInstance,
        virtual_machine::{ControllerRevisionRef, InstancetypeStatusRef, Matcher, VirtualMachineStatus},
    },
    labels,
};
use steading_kubesim::Key;

use super::Virt;
use crate::behaviour::{
    drive::unless_there,
    timers::owned_by,
    virt_api::{
        self,
        types::{self, Found},
    },
};

/// Annotation of a VMI: the generation of the VM that it is made from.
pub(super) const GENERATION: &str = "kubevirt.io/vm-generation";
/// Labels of a revision: what it holds.
const HELD: &str = "instancetype.kubevirt.io/object";

/// Why a VM cannot be brought on: reason and message of its condition `Failure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String, pub(super) String);

impl Failure {
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self(reason.to_owned(), message.into())
    }
}

impl Virt {
    /// Makes a VM's VMI.
    pub(super) async fn start(&self, key: &Key, vm: &VirtualMachine) -> kube::Result<Result<(), Failure>> {
        let whole = json!(vm);
        let found = match types::find(&self.context.client, &whole).await? {
            Ok(found) => found,
            Err(missing) => return Ok(Err(Failure::new(missing.reason, missing.message))),
        };
        let failed = |why: String| Failure::new("FailedCreate", format!("Failure while starting VMI: {why}"));
        let mut vmi = match instance(key, vm, &whole, &found) {
            Ok(vmi) => vmi,
            Err(why) => return Ok(Err(failed(why))),
        };
        let generation = vm.metadata.generation.unwrap_or(1);
        let name = revision_of(vm, generation);
        let data = json!({ "spec": pinned(vm, &whole) });
        let revision = json!({ "metadata": { "name": name }, "data": data });
        self.make_revision(key, vm, revision).await?;
        let status = vmi.status.get_or_insert_default();
        status
            .other
            .insert("virtualMachineRevisionName".to_owned(), json!(name));
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        match unless_there(api.create(&PostParams::default(), &vmi).await) {
            Err(kube::Error::Api(refused)) if (400..500).contains(&refused.code) => Ok(Err(failed(refused.message))),
            outcome => outcome.map(|_| Ok(())),
        }
    }

    /// Keeps what the VM's matchers name as revisions, and says so in its status.
    pub(super) async fn keep_revisions(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        status: &mut VirtualMachineStatus,
    ) -> kube::Result<Result<(), Failure>> {
        let kept = |matcher: Option<&Matcher>, known: Option<&InstancetypeStatusRef>| {
            matcher.is_none_or(|matcher| is_kept(matcher, known))
        };
        if kept(vm.spec.instancetype.as_ref(), status.instancetype_ref.as_ref())
            && kept(vm.spec.preference.as_ref(), status.preference_ref.as_ref())
        {
            return Ok(Ok(()));
        }
        let found = match types::find(&self.context.client, &json!(vm)).await? {
            Ok(found) => found,
            Err(missing) => return Ok(Err(Failure::new(missing.reason, missing.message))),
        };
        let parts = [
            (
                vm.spec.instancetype.as_ref(),
                found.instancetype,
                &mut status.instancetype_ref,
            ),
            (
                vm.spec.preference.as_ref(),
                found.preference,
                &mut status.preference_ref,
            ),
        ];
        for (matcher, object, known) in parts {
            let (Some(matcher), Some(object)) = (matcher, object) else {
                continue;
            };
            if is_kept(matcher, known.as_ref()) {
                continue;
            }
            let name = match &matcher.revision_name {
                Some(name) => name.clone(),
                None => self.keep(key, vm, &object).await?,
            };
            *known = Some(InstancetypeStatusRef {
                name: Some(matcher.name.clone()),
                kind: matcher.kind.clone(),
                controller_revision_ref: Some(ControllerRevisionRef { name }),
                ..InstancetypeStatusRef::default()
            });
        }
        Ok(Ok(()))
    }

    /// Keeps an instance type or a preference as it is now; gives the name of its revision.
    async fn keep(&self, key: &Key, vm: &VirtualMachine, object: &Value) -> kube::Result<String> {
        let meta = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (of, uid) = (text(&meta["name"]), text(&meta["uid"]));
        let generation = meta["generation"].as_i64().unwrap_or(1);
        let name = format!("{}-{of}-v1beta1-{uid}-{generation}", vm.name_any());
        let mut data = object.clone();
        if let Some(meta) = data["metadata"].as_object_mut() {
            meta.retain(|field, _| {
                !matches!(
                    field.as_str(),
                    "labels" | "annotations" | "finalizers" | "ownerReferences" | "managedFields"
                )
            });
        }
        let labels = json!({
            format!("{HELD}-generation"): generation.to_string(), format!("{HELD}-kind"): object["kind"],
            format!("{HELD}-name"): of, format!("{HELD}-uid"): uid, format!("{HELD}-version"): "v1beta1",
        });
        let revision = json!({ "metadata": { "name": name, "labels": labels }, "data": data });
        self.make_revision(key, vm, revision).await?;
        Ok(name)
    }

    async fn make_revision(&self, key: &Key, vm: &VirtualMachine, mut revision: Value) -> kube::Result<()> {
        revision["apiVersion"] = json!("apps/v1");
        revision["kind"] = json!("ControllerRevision");
        revision["revision"] = json!(0);
        revision["metadata"]["namespace"] = json!(key.namespace);
        revision["metadata"]["ownerReferences"] = json!([owned_by(vm)]);
        let revision: ControllerRevision = serde_json::from_value(revision).map_err(kube::Error::SerdeError)?;
        let api: Api<ControllerRevision> = self.api(&key.namespace);
        unless_there(api.create(&PostParams::default(), &revision).await).map(|_| ())
    }

    /// Makes the VM's DataVolumes; whether all are filled.
    pub(super) async fn data_volumes(&self, key: &Key, vm: &VirtualMachine) -> kube::Result<bool> {
        let api: Api<DataVolume> = self.api(&key.namespace);
        let mut filled = true;
        for template in &vm.spec.data_volume_templates {
            let name = template.metadata.name.clone().unwrap_or_default();
            if let Some(volume) = self.volumes.get(&Key::new(&key.namespace, &name)) {
                filled &= is_filled(&volume);
                continue;
            }
            filled = false;
            let mut volume = DataVolume {
                metadata: template.metadata.clone(),
                spec: template.spec.clone(),
                status: None,
            };
            volume.metadata.namespace = Some(key.namespace.clone());
            volume.metadata.owner_references = Some(vec![owned_by(vm)]);
            volume
                .labels_mut()
                .insert(labels::KUBEVIRT_CREATED_BY.to_owned(), vm.uid().unwrap_or_default());
            unless_there(api.create(&PostParams::default(), &volume).await)?;
        }
        Ok(filled)
    }
}

/// Whether a DataVolume can be used, or waits just for somebody to use it.
pub(super) fn is_filled(volume: &DataVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_ref());
    phase.is_some_and(|phase| {
        *phase == DataVolumePhase::Succeeded || matches!(phase.as_str(), "WaitForFirstConsumer" | "PendingPopulation")
    })
}

fn is_kept(matcher: &Matcher, known: Option<&InstancetypeStatusRef>) -> bool {
    known.is_some_and(|known| {
        let revision = known.controller_revision_ref.as_ref().map(|found| found.name.as_str());
        known.name.as_deref() == Some(&matcher.name)
            && (matcher.kind.is_none() || matcher.kind == known.kind)
            && revision.is_some()
            && (matcher.revision_name.is_none() || matcher.revision_name.as_deref() == revision)
    })
}

/// Name of the revision that holds a VM's spec of a generation.
pub(super) fn revision_of(vm: &VirtualMachine, generation: i64) -> String {
    format!("revision-start-vm-{}-{generation}", vm.uid().unwrap_or_default())
}

/// The VM's spec, with its matchers pinned to the revisions in use.
fn pinned(vm: &VirtualMachine, whole: &Value) -> Value {
    let mut spec = whole["spec"].clone();
    let status = vm.status.clone().unwrap_or_default();
    for (matcher, known) in [
        ("instancetype", status.instancetype_ref),
        ("preference", status.preference_ref),
    ] {
        let revision = known.and_then(|known| known.controller_revision_ref);
        if let (Some(revision), Some(matcher)) = (revision, spec.get_mut(matcher)) {
            matcher["revisionName"] = json!(revision.name);
        }
    }
    spec
}

/// The VMI of a VM; why it cannot be, if so. virt-api completes it.
fn instance(key: &Key, vm: &VirtualMachine, whole: &Value, found: &Found) -> Result<VirtualMachineInstance, String> {
    let template = &whole["spec"]["template"];
    let mut vmi = json!({ "metadata": template["metadata"], "spec": template["spec"] });
    if vmi["metadata"].is_null() {
        vmi["metadata"] = json!({});
    }
    virt_api::attach(&mut vmi["spec"]);
    let conflicts = types::apply("spec", &mut vmi, found);
    if !conflicts.is_empty() {
        let fields = conflicts.join(", ");
        return Err(format!("VMI conflicts with instancetype spec in fields: [{fields}]"));
    }
    let mut vmi: VirtualMachineInstance = serde_json::from_value(vmi).map_err(|error| error.to_string())?;
    let meta = &mut vmi.metadata;
    meta.name = Some(key.name.clone());
    meta.generate_name = None;
    meta.namespace = Some(key.namespace.clone());
    meta.owner_references = Some(vec![owned_by(vm)]);
    meta.finalizers = Some(vec![labels::KUBEVIRT_VM_FINALIZER.to_owned()]);
    let annotations = meta.annotations.get_or_insert_default();
    for (key, value) in types::origins(whole) {
        annotations.insert(key, value.as_str().unwrap_or_default().to_owned());
    }
    let generation = vm.metadata.generation.unwrap_or(1);
    annotations.insert(GENERATION.to_owned(), generation.to_string());
    Ok(vmi)
}

#[cfg(test)]
mod tests {
    use steading_infra::samples::{mk_vm, mk_vm_of_instancetype};

    use super::*;

    #[test]
    fn a_matcher_is_kept_while_it_names_the_same() {
        let matcher = |name: &str| Matcher {
            name: name.to_owned(),
            ..Matcher::default()
        };
        let known = InstancetypeStatusRef {
            name: Some("small".to_owned()),
            controller_revision_ref: Some(ControllerRevisionRef { name: "r".to_owned() }),
            ..InstancetypeStatusRef::default()
        };
        assert!(is_kept(&matcher("small"), Some(&known)));
        assert!(!is_kept(&matcher("large"), Some(&known)));
        assert!(!is_kept(&matcher("small"), None));
    }

    #[test]
    fn an_instance_carries_its_origin() {
        let key = Key::new("ns", "m");
        let vm = mk_vm_of_instancetype("ns", "m", "small");
        let found = Found {
            instancetype: Some(json!({ "spec": { "cpu": { "guest": 2 }, "memory": { "guest": "1Gi" } } })),
            preference: None,
        };
        let vmi = instance(&key, &vm, &json!(vm), &found).unwrap();
        let origin = vmi.annotations().get("kubevirt.io/cluster-instancetype-name").cloned();
        assert_eq!(origin.as_deref(), Some("small"));
        assert_eq!(vmi.owner_references()[0].name, "m");
        let sized = mk_vm("ns", "m");
        assert!(instance(&key, &sized, &json!(sized), &found).is_err());
    }
}
