//! Pods: what they request, where they may run, and the machine that a launcher runs.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use steading_infra::labels;
use steading_model::{
    ids::Id,
    name::{ClusterName, MachineName},
};

use crate::domain::{
    Amounts, Placement, amounts::Assumed, constraints::Constraints, interner::Interner, selector::Labels,
};

/// Namespace and name of a namespaced object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl PodKey {
    /// Makes a key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        }
    }
}

/// What is to be placed: a machine's pod, or one that could be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// What it requests.
    pub requests: Amounts,
    /// Where it may run.
    pub constraints: Arc<Constraints>,
}

/// A pod that has a node.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedPod {
    /// Its namespace and name.
    pub key: PodKey,
    /// Its labels.
    pub labels: Labels,
    /// What it requests.
    pub requests: Amounts,
    /// Where it may run.
    pub constraints: Arc<Constraints>,
    /// Where it runs.
    pub node: Arc<str>,
    /// Whether it is terminating: it holds resources but no longer counts for spread.
    pub terminating: bool,
    /// The machine that it runs; `None` for other pods.
    pub machine: Option<MachineRef>,
    /// Names of the claims that it mounts.
    pub claims: Vec<Arc<str>>,
}

/// The machine that a launcher pod runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineRef {
    /// Its resource name.
    pub name: MachineName,
    /// Id of its pool; empty if it says none.
    pub pool: String,
}

impl ObservedPod {
    /// Projects a pod; `None` if it holds nothing, because it has ended or has no node.
    pub fn of(pod: &Pod, interner: &mut Interner) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let spec = pod
            .spec
            .as_ref()
            .filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))?;
        let node = spec.node_name.as_deref().filter(|name| !name.is_empty())?;
        let key = PodKey {
            namespace: interner.text(pod.metadata.namespace.as_deref().unwrap_or_default()),
            name: Arc::from(pod.metadata.name.as_deref().unwrap_or_default()),
        };
        let pod_labels = pod.metadata.labels.as_ref();
        let machine = pod_labels.and_then(machine_of);
        let labels = pod_labels
            .map(|l| Labels::new(l, |t| interner.text(t)))
            .unwrap_or_default();
        let claims = spec
            .volumes
            .iter()
            .flatten()
            .filter_map(|v| v.persistent_volume_claim.as_ref());
        Some(Self {
            constraints: interner.constraints(Constraints::compile(&Placement::of_pod(spec), &key.namespace, &labels)),
            key,
            labels,
            requests: requests(spec),
            node: interner.text(node),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            machine,
            claims: claims.map(|claim| Arc::from(claim.claim_name.as_str())).collect(),
        })
    }

    /// The pod as something that could be placed again.
    pub fn workload(&self) -> Workload {
        Workload {
            namespace: self.key.namespace.to_string(),
            labels: self.labels.clone(),
            requests: self.requests.clone(),
            constraints: self.constraints.clone(),
        }
    }
}

/// The machine that a pod with these labels runs, if it is a launcher of ours.
fn machine_of(pod_labels: &BTreeMap<String, String>) -> Option<MachineRef> {
    if pod_labels.get(labels::KUBEVIRT_ROLE).map(String::as_str) != Some("virt-launcher") {
        return None;
    }
    let project = Id::parse(pod_labels.get(labels::PROJECT)?.as_str()).ok()?;
    let cluster = Id::parse(pod_labels.get(labels::CLUSTER)?.as_str()).ok()?;
    let machine = pod_labels.get(labels::MACHINE)?;
    let name = format!("{}/machines/{machine}", ClusterName::new(project, cluster));
    Some(MachineRef {
        name: name.parse().ok()?,
        pool: pod_labels.get(labels::POOL).cloned().unwrap_or_default(),
    })
}

/// Processors and memory that kube-scheduler's scores assume of a container that requests none.
const UNSAID_CPU_MILLIS: i64 = 100;
const UNSAID_MEMORY: i64 = 200 << 20;

fn requests(spec: &PodSpec) -> Amounts {
    let mut all = peak(spec, requests_of);
    let scored = peak(spec, |container| {
        let mut asked = requests_of(container);
        let named = |name: &str| {
            let resources = container.resources.as_ref();
            let lists = resources.and_then(|r| r.requests.as_ref()).into_iter();
            lists
                .chain(resources.and_then(|r| r.limits.as_ref()))
                .any(|list| list.contains_key(name))
        };
        if !named("cpu") {
            asked.cpu_millis = UNSAID_CPU_MILLIS;
        }
        if !named("memory") {
            asked.memory = UNSAID_MEMORY;
        }
        asked
    });
    all.assumed = Assumed {
        cpu_millis: scored.cpu_millis - all.cpu_millis,
        memory: scored.memory - all.memory,
    };
    all.pods = 1;
    all
}

/// Kubernetes' rule for what a pod needs at any one time: its containers and its sidecars (restartable init containers)
/// together, or an init container with the sidecars that were started before it; plus overhead.
fn peak(spec: &PodSpec, asks: impl Fn(&Container) -> Amounts) -> Amounts {
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let asked = asks(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&asked);
            peak.maximum(&sidecars);
        } else {
            let mut during = sidecars.clone();
            during.add(&asked);
            peak.maximum(&during);
        }
    }
    let mut all = sidecars;
    for container in &spec.containers {
        all.add(&asks(container));
    }
    all.maximum(&peak);
    all.add(&Amounts::from_list(spec.overhead.as_ref()));
    all
}

/// Limits stand in for requests that are not given.
fn requests_of(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let mut all = Amounts::from_list(resources.and_then(|r| r.limits.as_ref()));
    all.replace(&Amounts::from_list(requests), |name| {
        requests.is_some_and(|r| r.contains_key(name))
    });
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sidecars_count_beside_the_containers_and_before_later_init_containers() {
        let request = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let spec = |init: serde_json::Value| -> PodSpec {
            serde_json::from_value(json!({"initContainers": init, "overhead": {"cpu": "100m"},
                "containers": [{"name": "c", "resources": request("2")}]}))
            .expect("a spec")
        };
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": request("1")});
        let large = json!({"name": "i", "resources": request("5")});
        for (init, millis) in [
            (json!([large]), 5100),
            (json!([sidecar]), 3100),
            (json!([sidecar, large]), 6100),
            (json!([large, sidecar]), 5100),
        ] {
            assert_eq!(requests(&spec(init.clone())).cpu_millis, millis, "{init}");
        }
    }

    #[test]
    fn limits_stand_in_for_requests_that_are_not_given() {
        let spec = serde_json::from_value(json!({"containers": [{"name": "c", "resources":
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "0"}}}]}))
        .expect("a spec");
        let all = requests(&spec);
        assert_eq!((all.cpu_millis, all.memory), (0, 1 << 30));
    }
}
