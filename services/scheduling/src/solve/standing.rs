//! How one kind of workload stands with every node: counted once, then followed placement by placement.

use crate::solve::{
    filter::{Predicate, fixed_refusal, holds},
    neighbours::NeighbourState,
    overlay::Overlay,
    problem::{Class, NodeOrd, Problem},
    score::{NodePoints, Score, combine},
    spread::SpreadState,
};

/// How one kind of workload stands with every node, given what has been placed.
#[derive(Debug, Clone)]
pub struct Standing<'p> {
    pub(super) problem: &'p Problem,
    pub(super) class: &'p Class,
    /// Spread of its pods.
    pub spread: SpreadState,
    /// Its neighbours.
    pub neighbours: NeighbourState,
    /// Whether each node would do, whatever is placed.
    open: Vec<bool>,
    /// Whether enough is left on each node.
    fits: Vec<bool>,
    points: Vec<NodePoints>,
}

impl<'p> Standing<'p> {
    /// Counts for a kind of workload; `None` if the problem has no such kind.
    pub fn new(problem: &'p Problem, class: usize, overlay: &Overlay) -> Option<Self> {
        let class = problem.class(class)?;
        let mut standing = Self {
            problem,
            class,
            spread: SpreadState::count(problem, class),
            neighbours: NeighbourState::count(problem, class),
            open: Vec::with_capacity(problem.node_count()),
            fits: Vec::with_capacity(problem.node_count()),
            points: Vec::with_capacity(problem.node_count()),
        };
        for (ord, view) in problem.nodes() {
            let open = fixed_refusal(view, class).is_none() && holds(view, class, Predicate::Volumes);
            let used = overlay.allocated(problem, ord).unwrap_or(&view.allocated);
            standing.open.push(open);
            standing
                .fits
                .push(view.node.allocatable.covers(used, &class.workload.requests));
            standing.points.push(NodePoints::of(view, class, used));
        }
        for (placed, ord) in overlay.placed() {
            standing.add_neighbour(*placed, *ord);
        }
        Some(standing)
    }

    /// Whether the node can take one more.
    pub fn allows(&self, ord: NodeOrd) -> bool {
        self.open.get(ord.0) == Some(&true)
            && self.fits.get(ord.0) == Some(&true)
            && self.spread.allows(ord)
            && self.neighbours.allows(ord)
    }

    /// The nodes that can take one more, in their order.
    pub fn feasible(&self) -> Vec<NodeOrd> {
        (0..self.problem.node_count())
            .map(NodeOrd)
            .filter(|ord| self.allows(*ord))
            .collect()
    }

    /// The best of the nodes that can take one more; among equals the first.
    pub fn best(&self) -> Option<NodeOrd> {
        let feasible = self.feasible();
        let scores = self.score(&feasible);
        let scored = feasible.iter().zip(&scores);
        scored
            .max_by_key(|(ord, score)| (score.total(), std::cmp::Reverse(**ord)))
            .map(|(ord, _)| *ord)
    }

    /// Scores the nodes, in their order.
    pub fn score(&self, feasible: &[NodeOrd]) -> Vec<Score> {
        let points = feasible
            .iter()
            .map(|ord| self.points.get(ord.0).copied().unwrap_or_default());
        let points: Vec<NodePoints> = points.collect();
        combine(&points, self.spread.score(feasible), self.neighbours.score(feasible))
    }

    /// Follows a placement that the overlay has.
    pub fn follow(&mut self, overlay: &Overlay, class: usize, ord: NodeOrd) {
        self.measure(overlay, ord);
        self.add_neighbour(class, ord);
    }

    fn add_neighbour(&mut self, class: usize, ord: NodeOrd) {
        let Some(placed) = self.problem.class(class) else {
            return;
        };
        self.spread.add(self.problem, &placed.workload, ord);
        self.neighbours
            .add(self.problem, &self.class.workload, &placed.workload, ord);
    }

    /// Counts the resources of a node again after a placement on it.
    fn measure(&mut self, overlay: &Overlay, ord: NodeOrd) {
        let (Some(view), Some(used)) = (self.problem.node(ord), overlay.allocated(self.problem, ord)) else {
            return;
        };
        let requests = &self.class.workload.requests;
        if let Some(fits) = self.fits.get_mut(ord.0) {
            *fits = view.node.allocatable.covers(used, requests);
        }
        if let Some(points) = self.points.get_mut(ord.0) {
            points.measure(view, self.class, used);
        }
    }
}
