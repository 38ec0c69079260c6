//! Plays the workload controllers of a tenant cluster: Deployments, their ReplicaSets and pods, and disruption budgets.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::Selector,
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, key_of, unless_gone, unless_there, work_off},
};
use steading_kubesim::Key;

/// Label that tells the pods of a Deployment's revisions apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Most pods that one look at a ReplicaSet creates; the rest follow with the next.
const BURST: usize = 100;
/// Pause before the next burst.
const AGAIN: Duration = Duration::from_millis(10);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Work {
    Deployment(Key),
    ReplicaSet(Key),
    Budget(Key),
}

#[derive(Clone)]
struct Workloads {
    context: Context,
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    budgets: Cache<PodDisruptionBudget>,
}

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    let client = || context.client.clone();
    let (deployments, seen_deployments) = follow(Api::<Deployment>::all(client()), watcher::Config::default());
    let (sets, seen_sets) = follow(Api::<ReplicaSet>::all(client()), watcher::Config::default());
    let (pods, seen_pods) = follow(Api::<Pod>::all(client()), watcher::Config::default());
    let (budgets, seen_budgets) = follow(Api::<PodDisruptionBudget>::all(client()), watcher::Config::default());
    let workloads = Workloads {
        context: context.clone(),
        deployments,
        sets,
        pods,
        budgets,
    };

    let of_deployments = seen_deployments.map(|s| vec![Work::Deployment(s.key)]);
    let of_sets = seen_sets.map(|s| {
        let mut work: Vec<Work> = owner(&*s.object, "Deployment")
            .map(Work::Deployment)
            .into_iter()
            .collect();
        work.push(Work::ReplicaSet(s.key));
        work
    });
    let budgets_of_pod = workloads.budgets.clone();
    let of_pods = seen_pods.map(move |s| {
        let mut work: Vec<Work> = owner(&*s.object, "ReplicaSet")
            .map(Work::ReplicaSet)
            .into_iter()
            .collect();
        let budgets = budgets_of_pod.list(&s.key.namespace);
        let hit = budgets
            .iter()
            .filter(|b| selects(b.spec.as_ref().and_then(|s| s.selector.as_ref()), &s.object));
        work.extend(hit.map(|b| Work::Budget(key_of(&**b))));
        work
    });
    let of_budgets = seen_budgets.map(|s| vec![Work::Budget(s.key)]);
    let work = futures::stream::select_all([
        of_deployments.boxed(),
        of_sets.boxed(),
        of_pods.boxed(),
        of_budgets.boxed(),
    ])
    .flat_map(futures::stream::iter);
    work_off(&context.time, cancel, work.boxed(), |work| {
        let workloads = workloads.clone();
        async move {
            match work {
                Work::Deployment(key) => workloads.sync_deployment(&key).await,
                Work::ReplicaSet(key) => workloads.sync_set(&key).await,
                Work::Budget(key) => workloads.sync_budget(&key).await,
            }
        }
    })
    .await;
}

impl Workloads {
    async fn sync_deployment(&self, key: &Key) -> kube::Result<Again> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(None);
        };
        let Some(spec) = deployment
            .spec
            .as_ref()
            .filter(|_| deployment.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let hash = hash_of(&json!(spec.template));
        let current = format!("{}-{hash}", key.name);
        let wanted = spec.replicas.unwrap_or(1);
        let all = self.sets.select(|s| owner(s, "Deployment").as_ref() == Some(key));
        match all.iter().find(|s| s.name_any() == current) {
            None => {
                unless_there(
                    api.create(
                        &PostParams::default(),
                        &replica_set(&deployment, &current, &hash, wanted)?,
                    )
                    .await,
                )?;
            }
            Some(set) if set.spec.as_ref().and_then(|s| s.replicas) != Some(wanted) => {
                scale(&api, &current, wanted).await?
            }
            Some(_) => {}
        }
        for old in all
            .iter()
            .filter(|s| s.name_any() != current && s.spec.as_ref().and_then(|s| s.replicas) != Some(0))
        {
            scale(&api, &old.name_any(), 0).await?;
        }
        self.tell_deployment(&deployment, &all, &current).await?;
        Ok(None)
    }

    async fn tell_deployment(
        &self,
        deployment: &Deployment,
        sets: &[std::sync::Arc<ReplicaSet>],
        current: &str,
    ) -> kube::Result<()> {
        let sum = |of: fn(&ReplicaSet) -> i32| sets.iter().map(|s| of(s)).sum::<i32>();
        let replicas = sum(|s| s.status.as_ref().map_or(0, |s| s.replicas));
        let ready = sum(|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or_default());
        let updated = sets
            .iter()
            .filter(|s| s.name_any() == current)
            .map(|s| s.status.as_ref().map_or(0, |s| s.replicas))
            .sum::<i32>();
        let status = deployment.status.clone().unwrap_or_default();
        let generation = deployment.metadata.generation;
        let same = status.replicas == Some(replicas)
            && status.ready_replicas == Some(ready)
            && status.updated_replicas == Some(updated)
            && status.observed_generation == generation;
        if same {
            return Ok(());
        }
        let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let now = self.context.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let available = if ready >= wanted { "True" } else { "False" };
        let patch = json!({ "status": {
            "observedGeneration": generation, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "availableReplicas": ready, "unavailableReplicas": (wanted - ready).max(0),
            "conditions": [{ "type": "Available", "status": available, "reason": "MinimumReplicas", "lastTransitionTime": now, "lastUpdateTime": now }],
        }});
        let api: Api<Deployment> =
            Api::namespaced(self.context.client.clone(), &deployment.namespace().unwrap_or_default());
        unless_gone(
            api.patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(())
    }

    async fn sync_set(&self, key: &Key) -> kube::Result<Again> {
        let Some(set) = self.sets.get(key) else { return Ok(None) };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        // One consistent read instead of a cache: pods are counted before any is made.
        let mut own: Vec<Pod> = api.list(&ListParams::default()).await?.items;
        own.retain(|p| owner(p, "ReplicaSet").as_ref() == Some(key) && !is_over(p));
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
        let missing = wanted.saturating_sub(own.len()).min(BURST);
        for _ in 0..missing {
            api.create(&PostParams::default(), &pod_of(&set)?).await?;
        }
        own.sort_by_key(|p| (is_ready(p), p.metadata.creation_timestamp.clone()));
        for surplus in own.iter().take(own.len().saturating_sub(wanted)) {
            unless_gone(api.delete(&surplus.name_any(), &DeleteParams::default()).await)?;
        }
        let (count, ready) = (
            own.len().min(wanted) + missing,
            own.iter().filter(|p| is_ready(p)).count().min(wanted),
        );
        let status = set.status.clone().unwrap_or_default();
        let (count, ready) = (
            i32::try_from(count).unwrap_or(i32::MAX),
            i32::try_from(ready).unwrap_or(i32::MAX),
        );
        if status.replicas != count || status.ready_replicas.unwrap_or_default() != ready {
            let patch = json!({ "status": {
                "replicas": count, "readyReplicas": ready, "availableReplicas": ready,
                "fullyLabeledReplicas": count, "observedGeneration": set.metadata.generation,
            }});
            let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
            unless_gone(
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            )?;
        }
        Ok((missing == BURST).then_some(AGAIN))
    }

    async fn sync_budget(&self, key: &Key) -> kube::Result<Again> {
        let Some(budget) = self.budgets.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &budget.spec else { return Ok(None) };
        let pods = self.pods.list(&key.namespace);
        let expected: Vec<_> = pods
            .iter()
            .filter(|p| selects(spec.selector.as_ref(), p) && !is_over(p))
            .collect();
        let healthy = i32::try_from(expected.iter().filter(|p| is_ready(p)).count()).unwrap_or(i32::MAX);
        let expected = i32::try_from(expected.len()).unwrap_or(i32::MAX);
        let desired = match (&spec.min_available, &spec.max_unavailable) {
            (Some(min), _) => share(min, expected),
            (None, Some(max)) => expected - share(max, expected),
            (None, None) => 0,
        };
        let allowed = (healthy - desired).max(0);
        let status = budget.status.clone().unwrap_or_default();
        let seen = (
            status.disruptions_allowed,
            status.current_healthy,
            status.desired_healthy,
            status.expected_pods,
        );
        if seen == (Some(allowed), Some(healthy), Some(desired), Some(expected))
            && status.observed_generation == budget.metadata.generation
        {
            return Ok(None);
        }
        let patch = json!({ "status": {
            "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
            "observedGeneration": budget.metadata.generation,
        }});
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.context.client.clone(), &key.namespace);
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
    }
}

async fn scale(api: &Api<ReplicaSet>, name: &str, replicas: i32) -> kube::Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    unless_gone(api.patch(name, &PatchParams::default(), &patch).await)?;
    Ok(())
}

fn replica_set(deployment: &Deployment, name: &str, hash: &str, replicas: i32) -> kube::Result<ReplicaSet> {
    let spec = json!(deployment.spec);
    let mut template = spec["template"].clone();
    template["metadata"]["labels"][TEMPLATE_HASH] = Value::from(hash);
    let mut selector = spec["selector"].clone();
    selector["matchLabels"][TEMPLATE_HASH] = Value::from(hash);
    let object = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": name, "namespace": deployment.namespace(), "labels": template["metadata"]["labels"],
            "ownerReferences": [deployment.controller_owner_ref(&())],
        },
        "spec": { "replicas": replicas, "selector": selector, "template": template },
    });
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}

fn pod_of(set: &ReplicaSet) -> kube::Result<Pod> {
    let mut object = json!(set.spec.as_ref().and_then(|s| s.template.as_ref()));
    object["apiVersion"] = Value::from("v1");
    object["kind"] = Value::from("Pod");
    object["metadata"]["generateName"] = Value::from(format!("{}-", set.name_any()));
    object["metadata"]["namespace"] = json!(set.namespace());
    object["metadata"]["ownerReferences"] = json!([set.controller_owner_ref(&())]);
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}

/// The controller of an object, if it is of this kind.
fn owner<K: Resource>(object: &K, kind: &str) -> Option<Key> {
    let owner = object
        .owner_references()
        .iter()
        .find(|o| o.controller == Some(true) && o.kind == kind)?;
    Some(Key::new(&object.namespace().unwrap_or_default(), &owner.name))
}

/// Whether a selector takes a pod; none takes nothing, an empty one everything.
fn selects(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    let Some(selector) = selector else { return false };
    let labels: BTreeMap<String, String> = pod.labels().clone();
    Selector::try_from(selector.clone()).is_ok_and(|s| kube::core::SelectorExt::matches(&s, &labels))
}

/// Whether a pod counts no longer: it goes, or it has ended.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    !is_over(pod) && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A number, or a percentage of `of`, rounded up as Kubernetes does for budgets.
fn share(value: &IntOrString, of: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or_default();
            (of * percent + 99) / 100
        }
    }
}

/// Ten hexadecimal digits of a template; FNV-1a, which is the same in every run.
fn hash_of(template: &Value) -> String {
    let hash = template.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:010x}", hash >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up() {
        let percent = |p: &str| IntOrString::String(p.to_owned());
        assert_eq!(
            [
                share(&percent("50%"), 3),
                share(&percent("100%"), 3),
                share(&IntOrString::Int(2), 3)
            ],
            [2, 3, 2]
        );
    }

    #[test]
    fn a_selector_takes_what_has_its_labels() {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        let selector = |app: &str| LabelSelector {
            match_labels: Some([("app".to_owned(), app.to_owned())].into()),
            ..LabelSelector::default()
        };
        assert!(selects(Some(&selector("web")), &pod) && !selects(Some(&selector("db")), &pod) && !selects(None, &pod));
    }
}
