//! Cases about KubeVirt: virt-api, virt-controller, and what virt-handler's part does to the objects that clients see.

mod discovery;
mod eviction;
mod hotplug;
mod instancetypes;
mod launcher;
mod lifecycle;
mod migration;
mod power;
mod preferences;
mod refusals;
mod rules;
mod samples;
mod steps;
mod surface;
mod volumes;

use super::Case;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        lifecycle::cases(),
        power::cases(),
        refusals::cases(),
        rules::cases(),
        surface::cases(),
        discovery::cases(),
        instancetypes::cases(),
        preferences::cases(),
        launcher::cases(),
        volumes::cases(),
        hotplug::cases(),
        eviction::cases(),
        migration::cases(),
    ]
    .concat()
}
