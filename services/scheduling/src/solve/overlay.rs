//! What has been placed so far: laid over a problem, which itself stays as it is.

use std::collections::HashMap;

use crate::{
    domain::Amounts,
    solve::problem::{NodeOrd, Problem},
};

/// Placements on top of a problem.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    allocated: HashMap<NodeOrd, Amounts>,
    /// Kind of workload and node of each placement, in their order.
    placed: Vec<(usize, NodeOrd)>,
}

impl Overlay {
    /// What pods on a node have requested, with those that were placed.
    pub fn allocated<'o>(&'o self, problem: &'o Problem, ord: NodeOrd) -> Option<&'o Amounts> {
        let before = || problem.node(ord).map(|view| &view.allocated);
        self.allocated.get(&ord).or_else(before)
    }

    /// Placements in their order.
    pub fn placed(&self) -> &[(usize, NodeOrd)] {
        &self.placed
    }

    /// Places one more of a kind.
    pub fn place(&mut self, problem: &Problem, class: usize, ord: NodeOrd) {
        let (Some(view), Some(kind)) = (problem.node(ord), problem.class(class)) else {
            return;
        };
        let allocated = self.allocated.entry(ord).or_insert_with(|| view.allocated.clone());
        allocated.add(&kind.workload.requests);
        self.placed.push((class, ord));
    }
}
