//! What must hold at the end. Pure: what was seen in, verdicts out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{report::Check, witness::Testimony};
use crate::{
    kinds::id_of,
    output::table::{at, cell_at},
};

/// What the steps left behind, to be checked.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The machine that was given the volume.
    pub machine: String,
    /// The infra node that was drained.
    pub infra_node: String,
    /// The load balancer's address before the drain.
    pub address: String,
    /// Machines that the drain moved.
    pub moved: usize,
    /// What the witness saw.
    pub witness: Testimony,
}

/// What was read after the drain.
#[derive(Debug, Clone)]
pub struct Seen {
    /// All machines of the cluster.
    pub machines: Vec<Value>,
    /// All infra nodes.
    pub infra_nodes: Vec<Value>,
    /// The volume.
    pub volume: Value,
    /// The load balancers.
    pub load_balancers: Vec<Value>,
    /// The tenant's Nodes, and whether each is ready, initialised and open.
    pub nodes: BTreeMap<String, bool>,
    /// The Node of the workload with the volume.
    pub orders_node: String,
    /// The load balancer's address now.
    pub address: String,
}

/// All checks.
pub fn all(seen: &Seen, ending: &Ending, machines: usize) -> Vec<Check> {
    vec![
        check(
            "drainedNodeEmpty",
            "nothing is left on the drained infra node",
            drained(seen, ending),
        ),
        check("machinesSpread", "machines are spread evenly", spread(seen)),
        check("nodesReady", "all Nodes are ready", nodes(seen, machines)),
        check(
            "volumeFollows",
            "the volume is attached to the machine with its workload",
            volume(seen, ending),
        ),
        check(
            "loadBalancerFollows",
            "the load balancer follows",
            load_balancer(seen, ending),
        ),
        check(
            "budgetKept",
            "no pod was evicted against its disruption budget",
            budget(ending.witness),
        ),
    ]
}

/// A verdict.
pub(super) fn check(id: &'static str, name: &'static str, result: Result<String, String>) -> Check {
    let ok = result.is_ok();
    Check {
        id,
        name,
        ok,
        detail: result.unwrap_or_else(|e| e),
    }
}

fn drained(seen: &Seen, ending: &Ending) -> Result<String, String> {
    let node = id_of(&ending.infra_node);
    let left: Vec<_> = seen
        .machines
        .iter()
        .filter(|m| cell_at(m, "infraNode") == node)
        .map(|m| cell_at(m, "name"))
        .collect();
    match (left.is_empty(), ending.moved) {
        (false, _) => Err(format!("still on {node}: {}", left.join(", "))),
        (true, 0) => Err(format!("no machine was moved off {node}")),
        (true, moved) => Ok(format!("{moved} moved off {node}")),
    }
}

/// The skew of each pool over the infra nodes that take machines.
fn spread(seen: &Seen) -> Result<String, String> {
    let open: BTreeSet<String> = seen
        .infra_nodes
        .iter()
        .filter(|n| cell_at(n, "schedulable") == "yes")
        .map(|n| cell_at(n, "name"))
        .collect();
    let mut pools: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    let places: Vec<(String, String)> = seen
        .machines
        .iter()
        .map(|m| (cell_at(m, "machinePool"), cell_at(m, "infraNode")))
        .collect();
    for (pool, node) in &places {
        let counts = pools
            .entry(pool.clone())
            .or_insert_with(|| open.iter().map(|n| (n.as_str(), 0)).collect());
        *counts.entry(node).or_default() += 1;
    }
    let mut spreads = Vec::new();
    for (pool, counts) in &pools {
        let skew = counts.values().max().unwrap_or(&0) - counts.values().min().unwrap_or(&0);
        if skew > 1 {
            return Err(format!("skew {skew} of {pool}: {counts:?}"));
        }
        spreads.push(format!("{pool} skew {skew}"));
    }
    if spreads.is_empty() {
        Err("there are no machines".to_owned())
    } else {
        Ok(spreads.join(", "))
    }
}

fn nodes(seen: &Seen, machines: usize) -> Result<String, String> {
    let bad: Vec<_> = seen
        .nodes
        .iter()
        .filter(|(_, usable)| !**usable)
        .map(|(name, _)| name.as_str())
        .collect();
    let wanted: BTreeSet<_> = seen.machines.iter().map(|m| cell_at(m, "name")).collect();
    let present: BTreeSet<_> = seen.nodes.keys().cloned().collect();
    if !bad.is_empty() {
        Err(format!("not usable: {}", bad.join(", ")))
    } else if wanted != present || present.len() != machines {
        Err(format!(
            "{} Nodes, {} machines, {machines} wanted",
            present.len(),
            wanted.len()
        ))
    } else {
        Ok(format!("{} of {machines}", present.len()))
    }
}

fn volume(seen: &Seen, ending: &Ending) -> Result<String, String> {
    let state = cell_at(&seen.volume, "attachmentState");
    let attached = cell_at(&seen.volume, "attachedMachine");
    if !state.ends_with("ATTACHED") || state.ends_with("DETACHED") {
        return Err(format!("the volume is {state}"));
    }
    if attached == seen.orders_node && attached == id_of(&ending.machine) {
        Ok(format!("both on {attached}"))
    } else {
        Err(format!(
            "volume on {attached}, workload on {:?}, given to {}",
            seen.orders_node,
            id_of(&ending.machine)
        ))
    }
}

fn load_balancer(seen: &Seen, ending: &Ending) -> Result<String, String> {
    if seen.address != ending.address {
        return Err(format!("its address was {} and is {:?}", ending.address, seen.address));
    }
    endpoints_follow(&seen.load_balancers, &seen.machines).map(|text| format!("{} → {text}", seen.address))
}

/// Whether the ready endpoints are exactly the present machines, at their present addresses.
///
/// # Errors
/// What differs.
pub fn endpoints_follow(load_balancers: &[Value], machines: &[Value]) -> Result<String, String> {
    let [balancer] = load_balancers else {
        return Err(format!("{} load balancers, 1 wanted", load_balancers.len()));
    };
    let addresses = |of: &Value| -> Vec<String> {
        at(of, "addresses")
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(ToOwned::to_owned))
            .collect()
    };
    let endpoints: BTreeMap<String, Vec<String>> = at(balancer, "endpoints")
        .as_array()
        .into_iter()
        .flatten()
        .filter(|e| at(e, "ready").as_bool() == Some(true))
        .map(|e| (cell_at(e, "machine"), addresses(e)))
        .collect();
    for machine in machines {
        let name = cell_at(machine, "name");
        match endpoints.get(&name) {
            None => return Err(format!("no ready endpoint for {name}")),
            Some(seen) if seen.iter().any(|a| !addresses(machine).contains(a)) => {
                return Err(format!(
                    "{name} is at {:?}, its endpoint at {seen:?}",
                    addresses(machine)
                ));
            }
            Some(_) => {}
        }
    }
    if endpoints.len() != machines.len() {
        return Err(format!("{} endpoints, {} machines", endpoints.len(), machines.len()));
    }
    Ok(format!("{} endpoints", endpoints.len()))
}

fn budget(witness: Testimony) -> Result<String, String> {
    match (witness.changes, witness.budget_kept()) {
        (0, _) => Err("nothing was seen".to_owned()),
        (_, true) => Ok(format!(
            "never fewer than {} of {} ready",
            witness.fewest_ready,
            super::tenant::WEB_REPLICAS
        )),
        (_, false) => Err(format!("only {} were ready at one moment", witness.fewest_ready)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine(name: &str, pool: &str, node: &str) -> Value {
        json!({ "name": format!("p/{name}"), "machinePool": format!("p/{pool}"), "infraNode": format!("infraNodes/{node}"), "addresses": ["10.0.0.1"] })
    }

    #[test]
    fn an_empty_open_node_counts_for_the_skew() {
        let mut seen = Seen {
            machines: vec![machine("a", "w", "n1"), machine("b", "w", "n1")],
            infra_nodes: vec![
                json!({"name": "infraNodes/n1", "schedulable": true}),
                json!({"name": "infraNodes/n2", "schedulable": true}),
            ],
            volume: Value::Null,
            load_balancers: vec![],
            nodes: BTreeMap::new(),
            orders_node: String::new(),
            address: String::new(),
        };
        assert!(spread(&seen).is_err());
        seen.infra_nodes[1]["schedulable"] = json!(false);
        assert!(spread(&seen).is_ok());
    }

    #[test]
    fn a_stale_endpoint_is_told() {
        let machines = [machine("a", "w", "n1")];
        let balancer = |ip: &str| [json!({"endpoints": [{"machine": "p/a", "ready": true, "addresses": [ip]}]})];
        assert!(endpoints_follow(&balancer("10.0.0.1"), &machines).is_ok());
        assert!(endpoints_follow(&balancer("10.0.0.9"), &machines).is_err());
        assert!(endpoints_follow(&[json!({"endpoints": []})], &machines).is_err());
    }
}
