//! Scoring: which of the nodes that fit is the best. Each judge gives 0 to 100, weighted as kube-scheduler's default profile
//! does. `ImageLocality` is left out: launchers of all machines have one image, which every node has.

use crate::{
    domain::Amounts,
    solve::problem::{Class, NodeView, failing_requirement},
};

/// Best score of one judge before weighting.
pub const FULL: i64 = 100;

/// Names and weights of the judges, in the order of [`Score::terms`].
const JUDGES: [(&str, i64); 6] = [
    ("spread", 2),
    ("node-affinity", 2),
    ("anti-affinity", 2),
    ("taints", 3),
    ("least-allocated", 1),
    ("balanced-resources", 1),
];

/// Points of one node, unweighted, in the order of the judges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score([i64; JUDGES.len()]);

impl Score {
    /// Name of each judge and its points, weighted.
    pub fn terms(&self) -> impl Iterator<Item = (&'static str, i64)> {
        JUDGES
            .iter()
            .zip(self.0)
            .map(|((name, weight), points)| (*name, weight * points))
    }

    /// Sum of the weighted points.
    pub fn total(&self) -> i64 {
        self.terms().map(|(_, points)| points).sum()
    }
}

/// Points of a node that no placement elsewhere changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodePoints {
    affinity: i64,
    taints: i64,
    least_allocated: i64,
    balanced: i64,
}

impl NodePoints {
    /// Counts.
    pub fn of(view: &NodeView, class: &Class, used: &Amounts) -> Self {
        let constraints = &class.workload.constraints;
        let preferred = constraints.node_preferred.iter();
        let soft = view
            .node
            .taints
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule");
        let mut points = Self {
            affinity: preferred
                .filter(|(_, term)| failing_requirement(&view.node, term).is_none())
                .map(|(weight, _)| weight)
                .sum(),
            taints: i64::try_from(soft.filter(|taint| !constraints.tolerates(taint)).count()).unwrap_or(i64::MAX),
            ..Self::default()
        };
        points.measure(view, class, used);
        points
    }

    /// Counts the resources again.
    pub fn measure(&mut self, view: &NodeView, class: &Class, used: &Amounts) {
        let requests = &class.workload.requests;
        self.least_allocated = least_allocated(&view.node.allocatable, used, requests);
        self.balanced = balanced(&view.node.allocatable, used, requests);
    }
}

/// Scores nodes by their own points and by what spread and neighbours say of them, in their order.
pub fn combine(points: &[NodePoints], spread: Vec<i64>, neighbours: Vec<i64>) -> Vec<Score> {
    let best = points.iter().map(|p| p.affinity).max().unwrap_or(0);
    let worst = points.iter().map(|p| p.taints).max().unwrap_or(0);
    let share = |part: i64, whole: i64| if whole <= 0 { 0 } else { FULL * part / whole };
    let all = points.iter().zip(spread.into_iter().zip(neighbours));
    all.map(|(points, (spread, neighbours))| {
        Score([
            spread,
            share(points.affinity, best),
            neighbours,
            FULL - share(points.taints, worst),
            points.least_allocated,
            points.balanced,
        ])
    })
    .collect()
}

/// The share of processors and memory that stays free, averaged. Containers that request nothing count with what
/// kube-scheduler assumes of them.
fn least_allocated(has: &Amounts, used: &Amounts, more: &Amounts) -> i64 {
    let scored = |amounts: &Amounts| {
        (
            amounts.cpu_millis + amounts.assumed.cpu_millis,
            amounts.memory + amounts.assumed.memory,
        )
    };
    let (used, more) = (scored(used), scored(more));
    let free = |has: i64, requested: i64| {
        let left = i128::from(has) - i128::from(requested);
        i64::try_from(left.max(0) * i128::from(FULL) / i128::from(has)).unwrap_or(FULL)
    };
    let resources = [(has.cpu_millis, used.0 + more.0), (has.memory, used.1 + more.1)];
    let known = resources.into_iter().filter(|(has, _)| *has > 0);
    let (sum, count) = known.fold((0, 0), |(sum, count), (has, requested)| {
        (sum + free(has, requested), count + 1)
    });
    if count == 0 { 0 } else { sum / count }
}

/// How much the workload evens out the shares of processors and memory: 75 if it changes nothing, 100 at best, 50 at worst.
/// So kube-scheduler v1.36; earlier ones took the balance with the workload alone.
fn balanced(has: &Amounts, used: &Amounts, more: &Amounts) -> i64 {
    if more.cpu_millis == 0 && more.memory == 0 {
        return 0;
    }
    let evenness = |cpu: i64, memory: i64| {
        if has.cpu_millis == 0 || has.memory == 0 {
            return FULL;
        }
        let deviation = (fraction(cpu, has.cpu_millis) - fraction(memory, has.memory)).abs() / 2.0;
        whole((1.0 - deviation) * 100.0)
    };
    let with = evenness(used.cpu_millis + more.cpu_millis, used.memory + more.memory);
    let without = evenness(used.cpu_millis, used.memory);
    FULL / 2 + (FULL / 2 + with - without) / 2
}

#[allow(clippy::cast_precision_loss, reason = "amounts of a node are far below 2^52")]
fn fraction(part: i64, whole: i64) -> f64 {
    (part as f64 / whole as f64).min(1.0)
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "between 0 and 100; upstream truncates as well"
)]
fn whole(points: f64) -> i64 {
    points as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_amounts(cpu_millis: i64, memory: i64) -> Amounts {
        Amounts {
            cpu_millis,
            memory,
            ..Amounts::default()
        }
    }

    #[test]
    fn balance_halves_the_deviation_and_compares_it_with_the_node_as_it_is() {
        let has = mk_amounts(1000, 1000);
        let empty = Amounts::default();
        assert_eq!(balanced(&has, &empty, &mk_amounts(500, 500)), 75);
        // Half of 0.5 is the deviation: 75 points of evenness against 100.
        assert_eq!(balanced(&has, &empty, &mk_amounts(500, 0)), 50 + (50 + 75 - 100) / 2);
        assert_eq!(
            balanced(&has, &mk_amounts(500, 0), &mk_amounts(0, 500)),
            50 + (50 + 100 - 75) / 2
        );
        assert_eq!(balanced(&has, &empty, &empty), 0);
    }

    #[test]
    fn least_allocated_averages_the_resources_that_the_node_has() {
        assert_eq!(
            least_allocated(&mk_amounts(1000, 1000), &mk_amounts(500, 0), &mk_amounts(0, 200)),
            65
        );
        assert_eq!(
            least_allocated(&mk_amounts(1000, 0), &mk_amounts(500, 0), &mk_amounts(0, 200)),
            50
        );
        assert_eq!(
            least_allocated(&mk_amounts(0, 0), &mk_amounts(500, 0), &mk_amounts(0, 200)),
            0
        );
        assert_eq!(
            least_allocated(&mk_amounts(100, 100), &mk_amounts(500, 0), &mk_amounts(0, 100)),
            0
        );
    }
}
