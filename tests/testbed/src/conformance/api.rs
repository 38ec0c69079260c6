//! Cases about kube-apiserver and the controllers that every cluster has.

mod objects;

use super::Case;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    objects::cases()
}
