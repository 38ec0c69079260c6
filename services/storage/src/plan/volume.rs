//! What has to be done at a volume itself: hold it, let it grow, let it go.

use steading_model::quantity::Quantity;

use crate::domain::{
    attachment::Site,
    volume::{Claim, ReclaimPolicy, Volume},
};

/// A step at a volume.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeAction {
    /// Put our finalizer on, so that it cannot vanish from under a machine.
    Hold,
    /// Ask for that much storage.
    Expand(Quantity),
    /// Keep the persistent volume of this name when its claim goes.
    Retain(String),
    /// Take our finalizer off: nobody uses the volume any more.
    Release,
}

/// The steps at a volume, in order; `sites` is where it is wanted or seen.
pub fn plan(volume: &Volume, claim: Option<&Claim>, sites: &[Site]) -> Vec<VolumeAction> {
    if volume.deleted.is_some() {
        return if volume.held && !sites.iter().any(Site::holds) {
            plan_release(volume, claim)
        } else {
            Vec::new()
        };
    }
    let mut actions = Vec::new();
    if !volume.held {
        actions.push(VolumeAction::Hold);
    }
    if claim.is_some_and(|claim| volume.size > claim.requested) {
        actions.push(VolumeAction::Expand(volume.size));
    }
    actions
}

fn plan_release(volume: &Volume, claim: Option<&Claim>) -> Vec<VolumeAction> {
    let persistent = claim.and_then(|claim| claim.persistent_volume.clone());
    match (volume.reclaim, persistent) {
        (ReclaimPolicy::Retain, Some(name)) => vec![VolumeAction::Retain(name), VolumeAction::Release],
        (ReclaimPolicy::Retain, None) | (ReclaimPolicy::Delete, _) => vec![VolumeAction::Release],
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        domain::attachment::{SiteInstance, SiteVm},
        samples::mk_volume,
    };

    fn mk_claim(gib: u64) -> Claim {
        Claim {
            requested: Quantity::from_bytes(gib << 30),
            capacity: None,
            persistent_volume: Some("pv-1".into()),
        }
    }

    fn gone(reclaim: ReclaimPolicy) -> Volume {
        Volume {
            deleted: Some(Timestamp::UNIX_EPOCH),
            reclaim,
            ..mk_volume("data")
        }
    }

    #[test]
    fn a_volume_is_held_from_the_beginning_and_grows() {
        let mut volume = mk_volume("data");
        assert_eq!(plan(&volume, Some(&mk_claim(1)), &[]), vec![]);
        volume.held = false;
        volume.size = Quantity::from_bytes(5 << 30);
        let wanted = vec![VolumeAction::Hold, VolumeAction::Expand(volume.size)];
        assert_eq!(plan(&volume, Some(&mk_claim(1)), &[]), wanted);
        assert_eq!(
            plan(&volume, Some(&mk_claim(9)), &[]),
            vec![VolumeAction::Hold],
            "claims never shrink"
        );
    }

    #[test]
    fn a_volume_in_use_is_never_let_go() {
        let spec = Site {
            machine: "m".into(),
            vm: Some(SiteVm {
                has_disk: true,
                ..SiteVm::default()
            }),
            instance: None,
        };
        assert_eq!(plan(&gone(ReclaimPolicy::Delete), None, &[spec]), vec![]);
        let free = Site {
            machine: "m".into(),
            vm: Some(SiteVm::default()),
            instance: Some(SiteInstance::default()),
        };
        assert_eq!(
            plan(&gone(ReclaimPolicy::Delete), None, &[free]),
            vec![VolumeAction::Release]
        );
    }

    #[test]
    fn retained_bytes_are_kept_before_the_claim_goes() {
        let wanted = vec![VolumeAction::Retain("pv-1".into()), VolumeAction::Release];
        assert_eq!(plan(&gone(ReclaimPolicy::Retain), Some(&mk_claim(1)), &[]), wanted);
    }
}
