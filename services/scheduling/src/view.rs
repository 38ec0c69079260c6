//! The live view: one source for each kind, and the scheduling index that follows them.
//!
//! ```text
//!  nodes, pods, namespaces,   ┐  source: list, watch, health   ┌► world (problems for the solver)
//!  claims, volumes, VMIs,     ├──────────────────────────────► ┤
//!  KubeVirt, policies         ┘  index: projections, changes   └► infra nodes, watched live
//! ```
//!
//! Nothing here asks the API server for all objects of a kind because somebody calls. Who answers from the view says how
//! fresh it is ([`View::warnings`]); before everything was listed once there is no answer at all.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Client, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use steading_controller::{
    Health, Index, ObjectRef, Source, SourceConfig, Sources, Version,
    changes::{Change, Cursor},
    metrics::ControllerMetrics,
};
use steading_infra::kubevirt::{KubeVirt, VirtualMachineInstance};
use steading_runtime::CancellationToken;
use tokio::sync::watch;

use crate::{
    domain::{footprint::VirtConfig, interner::Interner, selector::Labels},
    observe::{ObservedClaim, ObservedInstance, ObservedNode, ObservedPod, ObservedVolume, PodKey, virt_config},
    world::World,
};

/// Name of the service in metrics.
const SERVICE: &str = "scheduling";
/// Key of the index of instances: the node off which KubeVirt wants them.
const EVACUATING: &str = "evacuating-from";

/// How often it is looked whether the first lists are there: seconds after a start, and never again.
const POLL: Duration = Duration::from_millis(20);

/// A node with the object itself, which a resource shows more of than the solver needs. There are a thousand at most.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEntry {
    /// The object without what nobody shows: images and managed fields.
    pub object: Node,
    /// Its projection.
    pub observed: Arc<ObservedNode>,
}

/// The sources and the index. Cheap to clone; [`View::run`] fills it.
#[derive(Debug, Clone)]
pub struct View {
    nodes: Source<NodeEntry>,
    pods: Source<ObservedPod>,
    namespaces: Source<Labels>,
    claims: Source<ObservedClaim>,
    volumes: Source<ObservedVolume>,
    instances: Source<ObservedInstance>,
    kubevirt: Source<VirtConfig>,
    sources: Sources,
    world: Arc<RwLock<World>>,
    interner: Arc<Mutex<Interner>>,
    /// Rises with everything that changes what a node holds.
    changes: watch::Sender<u64>,
    /// Tells this process's changes from another's.
    life: u64,
}

impl View {
    /// Nothing is seen yet.
    pub fn new(metrics: &ControllerMetrics, config: &SourceConfig) -> Self {
        let sources = Sources::default();
        let view = Self {
            nodes: source("nodes", config, Index::new(), metrics),
            pods: source("pods", config, Index::new(), metrics),
            namespaces: source("namespaces", config, Index::new(), metrics),
            claims: source("persistentvolumeclaims", config, Index::new(), metrics),
            volumes: source("persistentvolumes", config, Index::new(), metrics),
            instances: source("virtualmachineinstances", config, evacuating(), metrics),
            kubevirt: source("kubevirts", config, Index::new(), metrics),
            sources: sources.clone(),
            world: Arc::default(),
            interner: Arc::default(),
            changes: watch::Sender::new(0),
            life: rand::random(),
        };
        sources.add(&view.nodes);
        sources.add(&view.pods);
        sources.add(&view.namespaces);
        sources.add(&view.claims);
        sources.add(&view.volumes);
        sources.add(&view.instances);
        sources.add(&view.kubevirt);
        view
    }

    /// Fills the view until cancelled.
    pub async fn run(self, kube: Client, cancel: CancellationToken) {
        let interner = || self.interner.clone();
        let (of_node, of_pod, of_instance, of_namespace) = (interner(), interner(), interner(), interner());
        let node = move |mut object: Node| {
            object.metadata.managed_fields = None;
            if let Some(status) = &mut object.status {
                status.images = None;
            }
            let observed = Arc::new(ObservedNode::of(&object, &mut of_node.lock()));
            Some(NodeEntry { object, observed })
        };
        let pod = move |object: Pod| ObservedPod::of(&object, &mut of_pod.lock());
        let instance =
            move |object: VirtualMachineInstance| Some(ObservedInstance::of(&object, &mut of_instance.lock()));
        let namespace = move |object: Namespace| {
            let mut interner = of_namespace.lock();
            Some(
                object
                    .metadata
                    .labels
                    .as_ref()
                    .map(|l| Labels::new(l, |t| interner.text(t)))
                    .unwrap_or_default(),
            )
        };
        let cancelled = || cancel.clone();
        tokio::join!(
            fill(&self.nodes, &kube, node, cancelled()),
            fill(&self.pods, &kube, pod, cancelled()),
            fill(&self.namespaces, &kube, namespace, cancelled()),
            fill(
                &self.claims,
                &kube,
                |object: PersistentVolumeClaim| ObservedClaim::of(&object),
                cancelled()
            ),
            fill(
                &self.volumes,
                &kube,
                |object: PersistentVolume| ObservedVolume::of(&object),
                cancelled()
            ),
            fill(&self.instances, &kube, instance, cancelled()),
            fill(
                &self.kubevirt,
                &kube,
                |object: KubeVirt| Some(virt_config(&object)),
                cancelled()
            ),
            self.follow(&self.nodes, cancelled(), |world, change| match &change.after {
                Some(entry) => world.put_node(entry.observed.clone()),
                None => world.remove_node(&change.object.name),
            }),
            self.follow(&self.pods, cancelled(), |world, change| match &change.after {
                Some(pod) => world.put_pod(pod.clone()),
                None => world.remove_pod(&key_of(change)),
            }),
            self.follow(&self.namespaces, cancelled(), |world, change| match &change.after {
                Some(labels) => world.put_namespace(&change.object.name, Labels::clone(labels)),
                None => world.remove_namespace(&change.object.name),
            }),
            self.follow(&self.claims, cancelled(), |world, change| match &change.after {
                Some(claim) => world.put_claim(claim),
                None => world.remove_claim(&key_of(change)),
            }),
            self.follow(&self.volumes, cancelled(), |world, change| match &change.after {
                Some(volume) => world.put_volume(volume.clone()),
                None => world.remove_volume(&change.object.name),
            }),
            self.follow(&self.instances, cancelled(), |_, _| {}),
        );
    }

    /// Applies the changes of a source to the world, from the beginning; from a new beginning where it fell behind the log.
    async fn follow<T: PartialEq + Send + Sync + 'static>(
        &self,
        source: &Source<T>,
        cancel: CancellationToken,
        apply: impl Fn(&mut World, &Change<T>),
    ) {
        let index = source.index();
        let mut changed = index.changed();
        let mut known: HashSet<ObjectRef> = HashSet::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let news = cursor.and_then(|cursor| index.since(cursor).ok());
            let changes: Vec<Change<T>> = if let Some(changes) = news {
                cursor = changes.last().map(|(last, _)| *last).or(cursor);
                changes.into_iter().map(|(_, change)| change).collect()
            } else {
                let (all, end) = index.snapshot();
                cursor = Some(end);
                let mut gone = std::mem::take(&mut known);
                let mut changes = Vec::with_capacity(all.len());
                for (object, value) in all {
                    gone.remove(&object);
                    changes.push(change_of(object, Some(value)));
                }
                changes.extend(gone.into_iter().map(|object| change_of(object, None)));
                changes
            };
            for change in &changes {
                if change.after.is_some() {
                    known.insert(change.object.clone());
                } else {
                    known.remove(&change.object);
                }
            }
            if !changes.is_empty() {
                self.apply(&changes, &apply);
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                end = changed.changed() => if end.is_err() { return },
            }
        }
    }

    fn apply<T>(&self, changes: &[Change<T>], apply: &impl Fn(&mut World, &Change<T>)) {
        {
            let mut world = self.world.write();
            for change in changes {
                apply(&mut world, change);
            }
        }
        self.changes.send_modify(|number| *number += 1);
    }

    /// Asks the index.
    pub fn ask<A>(&self, question: impl FnOnce(&World) -> A) -> A {
        question(&self.world.read())
    }

    /// KubeVirt's configuration; its defaults while none is seen.
    pub fn virt_config(&self) -> VirtConfig {
        let all = self.kubevirt.index().all();
        all.first()
            .map(|(_, config)| VirtConfig::clone(config))
            .unwrap_or_default()
    }

    /// Whether KubeVirt can migrate an instance.
    pub fn migratable(&self, namespace: &str, name: &str) -> bool {
        self.instances
            .index()
            .get(namespace, name)
            .is_some_and(|instance| instance.migratable)
    }

    /// Machines on a node that KubeVirt has marked for evacuation.
    pub fn evacuating(&self, node: &str) -> usize {
        self.instances.index().count_by(EVACUATING, node)
    }

    /// The nodes, in order of their names.
    pub fn nodes(&self) -> Vec<Arc<NodeEntry>> {
        self.nodes.index().all().into_iter().map(|(_, entry)| entry).collect()
    }

    /// A number that rises with every change of a node or of what is on it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A number that no other process's view has.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The sources, for readiness.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether there is something to answer from: nodes and pods were listed once, and every other kind was, too, or has failed.
    /// A kind that is forbidden or not installed takes away only what it would have told.
    pub fn is_synced(&self) -> bool {
        let tried = |(_, health): &(&str, Health)| !matches!(health, Health::Syncing);
        self.nodes.health().is_listed() && self.pods.health().is_listed() && self.sources.report().iter().all(tried)
    }

    /// Waits until there is something to answer from.
    pub async fn synced(&self) {
        while !self.is_synced() {
            tokio::time::sleep(POLL).await;
        }
    }

    /// What is not fresh, for the reader of an answer; empty if everything is.
    pub fn warnings(&self) -> Vec<String> {
        let report = self.sources.report().into_iter();
        report.filter_map(|(name, health)| warning(name, &health)).collect()
    }
}

fn warning(name: &str, health: &Health) -> Option<String> {
    match health {
        Health::Live { .. } => None,
        Health::Syncing => Some(format!("{name} have not been listed yet; the answer leaves them out")),
        Health::Stale { why, .. } => Some(format!("the view of {name} is stale: {why}")),
    }
}

fn source<T: PartialEq + Send + Sync + 'static>(
    name: &'static str,
    config: &SourceConfig,
    index: Index<T>,
    metrics: &ControllerMetrics,
) -> Source<T> {
    Source::new(name, config.clone(), index, metrics.source(SERVICE, name))
}

fn evacuating() -> Index<ObservedInstance> {
    Index::new().with_key(EVACUATING, |_, instance: &ObservedInstance| {
        instance.evacuating_from.iter().map(ToString::to_string).collect()
    })
}

fn fill<K, T>(
    source: &Source<T>,
    kube: &Client,
    project: impl Fn(K) -> Option<T>,
    cancel: CancellationToken,
) -> impl Future<Output = ()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    source.clone().run(kube.clone(), project, cancel)
}

fn key_of<T>(change: &Change<T>) -> PodKey {
    PodKey {
        namespace: change.object.namespace.clone(),
        name: change.object.name.clone(),
    }
}

fn change_of<T>(object: ObjectRef, after: Option<Arc<T>>) -> Change<T> {
    Change {
        object,
        before: None,
        after,
        version: Version::NONE,
    }
}
