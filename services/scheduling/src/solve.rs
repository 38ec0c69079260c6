//! The solver: where would these workloads go, and why not elsewhere?
//!
//! It follows the default scheduler of Kubernetes, one pod after the other: filter the nodes, score what is left, take
//! the best, the first by name among equals (kube-scheduler draws lots among equals, and looks at fewer than all nodes
//! from 100 nodes on: there a prediction is one of several true ones). It is pure: a problem in, assignments out.
//!
//! What depends on all pods is counted once for each kind of workload; after that a placement touches its node and its
//! domains only.
//!
//! Post-conditions, held by the property tests below: no target is cordoned, not ready or too small; a strict
//! spread constraint is never broken by a placement; `solve` given its own answer returns it unchanged; the answer is that of
//! a naive reading of kube-scheduler's rules.

pub mod capacity;
pub mod drain;
pub mod filter;
pub mod judge;
pub mod neighbours;
pub mod overlay;
pub mod place;
pub mod problem;
pub mod score;
pub mod spread;
pub mod standing;

pub use place::{Assignment, Solution, solve, summarize};

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
