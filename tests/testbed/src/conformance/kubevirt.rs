//! Cases about KubeVirt: virt-api, virt-controller, and what virt-handler's part does to the objects that clients see.

mod eviction;
mod instancetypes;
mod launcher;
mod lifecycle;
mod migration;
mod refusals;
mod samples;
mod steps;
mod surface;
mod volumes;

use super::Case;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        lifecycle::cases(),
        refusals::cases(),
        surface::cases(),
        instancetypes::cases(),
        launcher::cases(),
        volumes::cases(),
        eviction::cases(),
        migration::cases(),
    ]
    .concat()
}
