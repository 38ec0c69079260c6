//! Topology spread: how many matching pods each domain has, and what one more would do.
//!
//! As kube-scheduler's `PodTopologySpread`: strict constraints filter by the skew over all domains that count; loose ones
//! score by the pods in the domains of the nodes that passed the filters.

use std::sync::Arc;

use crate::{
    domain::constraints::SpreadConstraint,
    observe::Workload,
    solve::{
        filter::{selected, untolerated},
        problem::{Class, Domains, NodeOrd, NodeView, Problem},
        score::FULL,
    },
};

/// Node label whose domains are single nodes: its pods are counted on each node, whether the node counts or not.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Counts for all spread constraints of one workload.
#[derive(Debug, Clone)]
pub struct SpreadState {
    tables: Vec<SpreadTable>,
}

/// Counts for one constraint.
#[derive(Debug, Clone)]
pub struct SpreadTable {
    constraint: SpreadConstraint,
    domains: Arc<Domains>,
    /// Whether each node counts.
    eligible: Vec<bool>,
    /// Whether each node has the keys of all constraints of the same strictness.
    complete: Vec<bool>,
    /// Matching pods on the nodes of each domain that count.
    counts: Vec<i64>,
    /// Nodes of each domain that count.
    nodes: Vec<i64>,
    /// Matching pods on each node.
    on_node: Vec<i64>,
    /// Whether the workload itself is counted by the constraint.
    counts_itself: bool,
    /// Pods of the emptiest domain.
    lowest: i64,
}

/// One row of a table: a domain's value, its pods, its nodes.
pub type Row<'t> = (&'t str, i64, i64);

impl SpreadState {
    /// Counts.
    pub fn count(problem: &Problem, class: &Class) -> Self {
        let constraints = class.workload.constraints.spread.iter().zip(&class.spread);
        let tables = constraints.map(|(constraint, counts)| {
            let mut table = SpreadTable::empty(problem, &class.workload, constraint);
            for count in counts.iter() {
                table.add(count.node, number(count.live));
            }
            table.lowest = table.minimum();
            table
        });
        Self {
            tables: tables.collect(),
        }
    }

    /// Counts a workload of another kind or the same as placed on a node.
    pub fn add(&mut self, problem: &Problem, placed: &Workload, ord: NodeOrd) {
        for table in &mut self.tables {
            if problem.has(&table.constraint.group, placed) {
                table.add(ord, 1);
                table.lowest = table.minimum();
            }
        }
    }

    /// A table for each constraint, in their order.
    pub fn tables(&self) -> &[SpreadTable] {
        &self.tables
    }

    /// Whether one more pod on the node keeps all strict constraints.
    pub fn allows(&self, ord: NodeOrd) -> bool {
        self.strict().all(|table| {
            let domain = table.domains.of(ord);
            domain.is_some_and(|domain| table.skew_if_placed(domain) <= i64::from(table.constraint.max_skew))
        })
    }

    /// Why one more pod on the node breaks a strict constraint.
    ///
    /// # Errors
    /// Which skew it would have.
    pub fn judge(&self, ord: NodeOrd) -> Result<(), String> {
        for table in self.strict() {
            let Some(domain) = table.domains.of(ord) else {
                return Err(format!("label {} is absent", table.key()));
            };
            let (skew, limit) = (table.skew_if_placed(domain), table.constraint.max_skew);
            if skew > i64::from(limit) {
                let value = table.domains.values.get(domain).map_or("", AsRef::as_ref);
                return Err(format!(
                    "skew over {} would be {skew} in {value}, at most {limit} is allowed",
                    table.key()
                ));
            }
        }
        Ok(())
    }

    /// Fewer matching pods in the domains are better: `100·(max + min − s)/max` over the nodes that fit; a node that lacks a
    /// key is the last resort. Zeros if there is no loose constraint.
    pub fn score(&self, feasible: &[NodeOrd]) -> Vec<i64> {
        let loose: Vec<&SpreadTable> = self.tables.iter().filter(|table| !table.constraint.strict).collect();
        let Some(first) = loose.first() else {
            return vec![0; feasible.len()];
        };
        let complete = |ord: &NodeOrd| first.complete.get(ord.0).copied().unwrap_or(false);
        let qualified: Vec<bool> = feasible.iter().map(complete).collect();
        let mut costs = vec![0.0; feasible.len()];
        for table in loose {
            let weight = table.weight(feasible, &qualified);
            // One less than the skew that is allowed waters small differences down.
            let tolerance = f64::from(table.constraint.max_skew - 1);
            for (cost, ord) in costs.iter_mut().zip(feasible) {
                *cost += exact(table.pods_near(*ord)) * weight + tolerance;
            }
        }
        let costs: Vec<i64> = costs.iter().map(|cost| rounded(*cost)).collect();
        let known = || {
            costs
                .iter()
                .zip(&qualified)
                .filter(|(_, qualified)| **qualified)
                .map(|(cost, _)| *cost)
        };
        let (most, least) = (known().max().unwrap_or(0), known().min().unwrap_or(0));
        let points = |(cost, qualified): (&i64, &bool)| match (qualified, most) {
            (false, _) => 0,
            (true, 0) => FULL,
            (true, most) => FULL * (most + least - cost) / most,
        };
        costs.iter().zip(&qualified).map(points).collect()
    }

    fn strict(&self) -> impl Iterator<Item = &SpreadTable> {
        self.tables.iter().filter(|table| table.constraint.strict)
    }
}

impl SpreadTable {
    fn empty(problem: &Problem, workload: &Workload, constraint: &SpreadConstraint) -> Self {
        let domains = problem.domains(&constraint.topology_key);
        let same_kind = || {
            workload
                .constraints
                .spread
                .iter()
                .filter(|other| other.strict == constraint.strict)
        };
        let keys: Vec<Arc<Domains>> = same_kind().map(|other| problem.domains(&other.topology_key)).collect();
        let mut table = Self {
            constraint: constraint.clone(),
            eligible: Vec::with_capacity(problem.node_count()),
            complete: Vec::with_capacity(problem.node_count()),
            counts: vec![0; domains.values.len()],
            nodes: vec![0; domains.values.len()],
            on_node: vec![0; problem.node_count()],
            counts_itself: problem.has(&constraint.group, workload),
            lowest: 0,
            domains,
        };
        for (ord, view) in problem.nodes() {
            let complete = keys.iter().all(|domains| domains.of(ord).is_some());
            let eligible = complete && included(view, workload, constraint);
            if let Some(nodes) = table
                .domains
                .of(ord)
                .filter(|_| eligible)
                .and_then(|d| table.nodes.get_mut(d))
            {
                *nodes += 1;
            }
            table.eligible.push(eligible);
            table.complete.push(complete);
        }
        table
    }

    fn add(&mut self, ord: NodeOrd, pods: i64) {
        if let Some(here) = self.on_node.get_mut(ord.0) {
            *here += pods;
        }
        if self.eligible.get(ord.0) == Some(&true)
            && let Some(count) = self.domains.of(ord).and_then(|domain| self.counts.get_mut(domain))
        {
            *count += pods;
        }
    }

    /// The topology key.
    pub fn key(&self) -> &str {
        &self.constraint.topology_key
    }

    /// The domains that count, in order of their value.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let all = self.domains.values.iter().zip(self.counts.iter().zip(&self.nodes));
        let mut rows: Vec<Row<'_>> = all
            .filter(|(_, (_, nodes))| **nodes > 0)
            .map(|(value, (count, nodes))| (value.as_ref(), *count, *nodes))
            .collect();
        rows.sort_unstable();
        rows
    }

    /// Difference between the fullest and the emptiest domain.
    pub fn skew(&self) -> i64 {
        let rows = self.rows();
        rows.iter()
            .map(|(_, count, _)| *count)
            .max()
            .map_or(0, |most| most - self.lowest)
    }

    /// Whether the skew is within the limit.
    pub fn satisfied(&self) -> bool {
        self.skew() <= i64::from(self.constraint.max_skew)
    }

    /// Pods in a domain beyond the emptiest one's, if one more were placed there. Kubernetes' rule of the filter.
    fn skew_if_placed(&self, domain: usize) -> i64 {
        self.counts.get(domain).copied().unwrap_or_default() + i64::from(self.counts_itself) - self.lowest
    }

    /// With fewer domains than `minDomains` the emptiest one is taken to be a missing one.
    fn minimum(&self) -> i64 {
        let present = || self.counts.iter().zip(&self.nodes).filter(|(_, nodes)| **nodes > 0);
        if number(present().count()) < i64::from(self.constraint.min_domains) {
            return 0;
        }
        present().map(|(count, _)| *count).min().unwrap_or_default()
    }

    /// Few large domains fill faster than many small ones: the logarithm of the number of domains among the nodes.
    fn weight(&self, feasible: &[NodeOrd], qualified: &[bool]) -> f64 {
        let qualified = feasible.iter().zip(qualified).filter(|(_, qualified)| **qualified);
        let size = if self.key() == HOSTNAME {
            qualified.count()
        } else {
            let mut seen = vec![false; self.domains.values.len()];
            for (ord, _) in qualified {
                if let Some(seen) = self.domains.of(*ord).and_then(|domain| seen.get_mut(domain)) {
                    *seen = true;
                }
            }
            seen.into_iter().filter(|seen| *seen).count()
        };
        exact(number(size) + 2).ln()
    }

    fn pods_near(&self, ord: NodeOrd) -> i64 {
        let count = if self.key() == HOSTNAME {
            self.on_node.get(ord.0)
        } else {
            self.domains.of(ord).and_then(|domain| self.counts.get(domain))
        };
        count.copied().unwrap_or_default()
    }
}

/// Whether the constraint's policies count a node.
fn included(view: &NodeView, workload: &Workload, constraint: &SpreadConstraint) -> bool {
    let constraints = &workload.constraints;
    (!constraint.honours_affinity || selected(&view.node, constraints))
        && (!constraint.honours_taints
            || ((!view.node.cordoned || constraints.tolerates(&crate::observe::node::cordon()))
                && untolerated(&view.node, constraints).is_none()))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as a fraction: there are fewer pods than 2⁵².
#[allow(clippy::cast_precision_loss, reason = "counts of pods are far below 2^52")]
fn exact(count: i64) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a sum of pods times a logarithm is far below 2^52"
)]
fn rounded(cost: f64) -> i64 {
    cost.round() as i64
}
