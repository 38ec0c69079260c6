//! Cases about kube-scheduler. Each makes nodes of its own, so that the outcome does not depend on what else there is; where equal nodes
//! leave the choice free, only the distribution is noted.

mod lot;
mod neighbours;
mod nodes;
mod room;
mod spread;
mod turns;

use super::Case;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        nodes::cases(),
        room::cases(),
        neighbours::cases(),
        spread::cases(),
        turns::cases(),
    ]
    .concat()
}
