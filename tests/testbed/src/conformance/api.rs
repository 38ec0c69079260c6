//! Cases about kube-apiserver and the controllers that every cluster has.

mod applies;
mod collections;
mod objects;
mod patches;
mod watches;

use super::Case;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        objects::cases(),
        collections::cases(),
        watches::cases(),
        patches::cases(),
        applies::cases(),
    ]
    .concat()
}
