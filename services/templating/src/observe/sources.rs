//! Fills the sources from watches.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use steading_controller::{Source, object::slim};
use steading_infra::{
    cdi::DataVolume,
    crd::{MachinePool, machine_template::MachineTemplate},
    kubevirt::{VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
};
use steading_runtime::tasks::TaskGroup;

use super::{
    entry::entry,
    image::{image, volume},
    index::Observed,
    revisions::revision,
    usage::{machine, pool},
};

impl Observed {
    /// Watches every kind until the group ends.
    pub fn spawn(&self, group: &TaskGroup, kube: &Client) {
        fill(group, kube, &self.templates, |object: MachineTemplate| {
            Some(slim(object))
        });
        fill(group, kube, &self.images, image);
        fill(group, kube, &self.volumes, |object: DataVolume| volume(&object));
        fill(group, kube, &self.revisions, |object: ControllerRevision| {
            revision(&object)
        });
        let of_type = |object: VirtualMachineClusterInstancetype| entry(&object, &object.spec);
        fill(group, kube, &self.instance_types, of_type);
        let of_preference = |object: VirtualMachineClusterPreference| entry(&object, &object.spec);
        fill(group, kube, &self.preferences, of_preference);
        fill(group, kube, &self.machines, |object: VirtualMachine| machine(&object));
        fill(group, kube, &self.pools, |object: MachinePool| pool(&object));
    }
}

fn fill<K, T>(
    group: &TaskGroup,
    kube: &Client,
    source: &Source<T>,
    project: impl Fn(K) -> Option<T> + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let run = source.clone().run(kube.clone(), project, group.token());
    group.spawn(source.name(), run);
}
