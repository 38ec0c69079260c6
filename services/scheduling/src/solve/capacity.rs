//! Capacity: how many machines of one kind would still fit.
//!
//! Spread is left out: it says how machines of one pool share what is there, not how much there is. Anti-affinity counts:
//! machines that must not share a zone fit once in each zone.

use crate::{
    domain::{Amounts, Constraints},
    observe::Workload,
    solve::{filter::Audience, overlay::Overlay, place::solve, problem::Problem, standing::Standing},
};

/// Machines of one kind at which counting ends.
pub const MAX_COUNT: i64 = 10_000;

/// The workload whose copies are counted.
pub fn counted(workload: Workload) -> Workload {
    let mut constraints = Constraints::clone(&workload.constraints);
    constraints.spread.clear();
    Workload {
        constraints: constraints.into(),
        ..workload
    }
}

/// How many of the problem's workload `class` fit on the nodes that are open, at most [`MAX_COUNT`].
pub fn solve_capacity(problem: &Problem, class: usize) -> i64 {
    let Some(kind) = problem.class(class) else { return 0 };
    let workload = &kind.workload;
    let constraints = &workload.constraints;
    // Who avoids or seeks its own kind is counted by placing it: a copy changes where the next may go.
    let own_terms = constraints.anti_required.iter().chain(&constraints.near_required);
    if own_terms.into_iter().any(|term| problem.has(&term.group, workload)) {
        let most = usize::try_from(MAX_COUNT).unwrap_or(usize::MAX);
        let solution = solve(problem, &vec![class; most], &[], Audience::Operator);
        return count(solution.overlay.placed().len()).min(MAX_COUNT);
    }
    let Some(standing) = Standing::new(problem, class, &Overlay::default()) else {
        return 0;
    };
    let on_each = standing.feasible().into_iter().filter_map(|ord| problem.node(ord));
    let fits = on_each.map(|view| left(&view.node.allocatable, &view.allocated).fits(&workload.requests, MAX_COUNT));
    fits.sum::<i64>().min(MAX_COUNT)
}

fn left(has: &Amounts, used: &Amounts) -> Amounts {
    has.minus(used)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
