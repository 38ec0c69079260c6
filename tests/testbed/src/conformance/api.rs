//! Cases about kube-apiserver and the controllers that every cluster has.

mod applies;
mod collections;
mod customs;
mod definitions;
mod endings;
mod kinds;
mod objects;
mod patches;
mod protocol;
mod samples;
mod schemas;
mod subresources;
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
        customs::cases(),
        endings::cases(),
        kinds::cases(),
        protocol::cases(),
        schemas::cases(),
        subresources::cases(),
    ]
    .concat()
}
