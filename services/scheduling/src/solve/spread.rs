//! Topology spread: how many matching pods each domain has, and what one more would do.

use std::collections::BTreeMap;

use kube::core::SelectorExt;

use crate::{
    domain::placement::SpreadConstraint,
    snapshot::{NodeOrd, Snapshot, SnapshotNode, Workload},
    solve::filter::{failing_requirement, untolerated},
};

/// Counts for all spread constraints of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadState {
    tables: Vec<SpreadTable>,
}

/// Counts for one constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadTable {
    /// The constraint.
    pub constraint: SpreadConstraint,
    /// Matching pods of each domain that counts, by value of the topology key.
    pub counts: BTreeMap<String, i64>,
    /// Nodes of each domain that count.
    pub nodes: BTreeMap<String, i64>,
    /// Whether the workload itself is counted by the constraint.
    counts_itself: bool,
}

impl SpreadState {
    /// Counts anew.
    pub fn count(snapshot: &Snapshot, workload: &Workload) -> Self {
        let tables = workload
            .constraints
            .spread
            .iter()
            .map(|constraint| table(snapshot, workload, constraint))
            .collect();
        Self { tables }
    }

    /// Counts the workload as placed on a node.
    pub fn add(&mut self, snapshot: &Snapshot, workload: &Workload, ord: NodeOrd) {
        let Some(node) = snapshot.node(ord) else { return };
        for table in &mut self.tables {
            if table.counts_itself
                && eligible(node, workload, &table.constraint)
                && let Some(count) = node
                    .labels
                    .get(table.key())
                    .and_then(|domain| table.counts.get_mut(domain))
            {
                *count += 1;
            }
        }
    }

    /// A table for each constraint, in their order.
    pub fn tables(&self) -> &[SpreadTable] {
        &self.tables
    }

    /// Whether one more pod on the node keeps all strict constraints.
    ///
    /// # Errors
    /// If not: which skew it would have.
    pub fn judge(&self, node: &SnapshotNode) -> Result<(), String> {
        for table in self.tables.iter().filter(|t| t.constraint.strict) {
            let Some(domain) = node.labels.get(table.key()) else {
                return Err(format!("label {} is absent", table.key()));
            };
            let skew = table.skew_if_placed(domain);
            let limit = i64::from(table.constraint.source.max_skew);
            if skew > limit {
                return Err(format!(
                    "skew over {} would be {skew} in {domain}, at most {limit} is allowed",
                    table.key()
                ));
            }
        }
        Ok(())
    }
}

impl SpreadTable {
    /// The topology key.
    pub fn key(&self) -> &str {
        &self.constraint.source.topology_key
    }

    /// Difference between the fullest and the emptiest domain.
    pub fn skew(&self) -> i64 {
        self.counts.values().max().map_or(0, |max| max - self.minimum())
    }

    /// Pods in a domain beyond the emptiest one's, if one more were placed there. Kubernetes' rule of the filter.
    pub fn skew_if_placed(&self, domain: &str) -> i64 {
        let count = self.counts.get(domain).copied().unwrap_or_default();
        count + i64::from(self.counts_itself) - self.minimum()
    }

    /// With fewer domains than `minDomains` the emptiest one is taken to be a missing one.
    fn minimum(&self) -> i64 {
        let wanted = self.constraint.source.min_domains.unwrap_or(1);
        let there = i32::try_from(self.counts.len()).unwrap_or(i32::MAX);
        if there < wanted {
            0
        } else {
            self.counts.values().copied().min().unwrap_or_default()
        }
    }
}

fn table(snapshot: &Snapshot, workload: &Workload, constraint: &SpreadConstraint) -> SpreadTable {
    let key = &constraint.source.topology_key;
    let mut table = SpreadTable {
        constraint: constraint.clone(),
        counts: BTreeMap::new(),
        nodes: BTreeMap::new(),
        counts_itself: constraint.selector.matches(&workload.labels),
    };
    let mut counting = vec![false; snapshot.node_count()];
    for (ord, node) in snapshot.nodes() {
        if eligible(node, workload, constraint)
            && let Some(domain) = node.labels.get(key)
        {
            table.counts.entry(domain.clone()).or_default();
            *table.nodes.entry(domain.clone()).or_default() += 1;
            if let Some(flag) = counting.get_mut(ord.0) {
                *flag = true;
            }
        }
    }
    for pod in snapshot.pods() {
        let Some(node) = pod
            .node
            .filter(|ord| counting.get(ord.0) == Some(&true))
            .and_then(|ord| snapshot.node(ord))
        else {
            continue;
        };
        let counts = !pod.terminating
            && pod.workload.namespace == workload.namespace
            && constraint.selector.matches(&pod.workload.labels);
        if counts && let Some(count) = node.labels.get(key).and_then(|domain| table.counts.get_mut(domain)) {
            *count += 1;
        }
    }
    table
}

/// Whether a node counts for a constraint: it has the keys of all constraints, and the policies include it.
fn eligible(node: &SnapshotNode, workload: &Workload, constraint: &SpreadConstraint) -> bool {
    let constraints = &workload.constraints;
    let same_kind = constraints.spread.iter().filter(|c| c.strict == constraint.strict);
    let has_keys = same_kind
        .into_iter()
        .all(|c| node.labels.contains_key(&c.source.topology_key));
    let selected = || {
        constraints
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value))
    };
    let wanted = || {
        constraints
            .node_affinity
            .as_ref()
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            .is_none_or(|required| {
                required
                    .node_selector_terms
                    .iter()
                    .any(|t| failing_requirement(node, t).is_none())
            })
    };
    let tolerated = || !node.cordoned && untolerated(node, &constraints.tolerations).is_none();
    has_keys
        && (!constraint.honours_affinity || (selected() && wanted()))
        && (!constraint.honours_taints || tolerated())
}
