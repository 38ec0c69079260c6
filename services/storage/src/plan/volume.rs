//! What has to be done at a volume itself: hold it, let it grow, let it go.

use jiff::{SignedDuration, Timestamp};
use steading_model::quantity::Quantity;

use crate::domain::{
    overhead::Overheads,
    site::Site,
    volume::{Claim, Volume},
};

/// How long a refused expansion rests before it is tried again: what has to change for it is changed by people.
pub const REFUSAL_REST: SignedDuration = SignedDuration::from_secs(300);

/// A step at a volume.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeAction {
    /// Put our finalizer on, so that it cannot vanish from under a machine.
    Hold,
    /// Ask for that much storage.
    Expand(Quantity),
    /// Take our finalizer off: nobody uses the volume any longer. Its bytes are kept first if its class says so.
    Release,
}

/// The steps at a volume, in order; `sites` is where it is wanted, recorded or seen.
pub fn plan(
    volume: &Volume,
    claim: Option<&Claim>,
    sites: &[Site],
    overheads: &Overheads,
    now: Timestamp,
) -> Vec<VolumeAction> {
    if volume.deleted.is_some() {
        let free = volume.placement.is_none() && !sites.iter().any(|site| site.holds(volume.id()));
        return if volume.held && free {
            vec![VolumeAction::Release]
        } else {
            Vec::new()
        };
    }
    let mut actions = Vec::new();
    if !volume.held {
        actions.push(VolumeAction::Hold);
    }
    if let Some(claim) = claim
        && let Some(required) = growth(volume, claim, overheads)
        && !is_resting(volume, required, now)
    {
        actions.push(VolumeAction::Expand(required));
    }
    actions
}

/// What the claim of a volume that was enlarged must ask for, if it asks for less. Claims of volumes that were never enlarged
/// are CDI's alone.
fn growth(volume: &Volume, claim: &Claim, overheads: &Overheads) -> Option<Quantity> {
    let required = overheads.required(volume.size, volume.volume_mode, &volume.infra_class);
    (volume.size > volume.made && required > claim.requested).then_some(required)
}

fn is_resting(volume: &Volume, required: Quantity, now: Timestamp) -> bool {
    let refusal = volume.expand_refusal.as_ref();
    refusal.is_some_and(|refusal| refusal.size == required.to_string() && now.duration_since(refusal.at) < REFUSAL_REST)
}

/// Whether a volume has not grown as far as it should: growth is done once the claim can hold a disk of the wanted size, not
/// once it was asked for.
pub fn is_growing(volume: &Volume, claim: &Claim, overheads: &Overheads) -> bool {
    let required = overheads.required(volume.size, volume.volume_mode, &volume.infra_class);
    volume.size > volume.made && claim.capacity.is_some_and(|capacity| capacity < required)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        domain::{
            machine::{ObservedDisk, ObservedMachine},
            placement::{ExpandRefusal, Placement},
            volume::VolumeMode,
        },
        samples::mk_volume,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn gib(gib: u64) -> Quantity {
        Quantity::from_bytes(gib << 30)
    }

    fn mk_claim(requested: Quantity) -> Claim {
        Claim {
            requested,
            capacity: None,
            persistent_volume: Some("pv-1".into()),
            lost: false,
            resize_failure: None,
        }
    }

    fn mk_terminating() -> Volume {
        Volume {
            deleted: Some(Timestamp::UNIX_EPOCH),
            ..mk_volume("data")
        }
    }

    fn steps(volume: &Volume, claim: Option<&Claim>, sites: &[Site]) -> Vec<VolumeAction> {
        plan(volume, claim, sites, &Overheads::default(), NOW)
    }

    #[test]
    fn a_volume_is_held_from_the_beginning_and_grows() {
        let mut volume = mk_volume("data");
        assert_eq!(steps(&volume, Some(&mk_claim(gib(1))), &[]), vec![]);
        volume.held = false;
        volume.size = gib(5);
        let wanted = vec![VolumeAction::Hold, VolumeAction::Expand(volume.size)];
        assert_eq!(steps(&volume, Some(&mk_claim(gib(1))), &[]), wanted);
        assert_eq!(
            steps(&volume, Some(&mk_claim(gib(9))), &[]),
            vec![VolumeAction::Hold],
            "claims never shrink"
        );
    }

    #[test]
    fn an_expansion_asks_for_what_the_file_system_takes_as_well() {
        let overheads = Overheads::new(Some("0.055"), []);
        let volume = Volume {
            size: gib(2),
            volume_mode: VolumeMode::Filesystem,
            ..mk_volume("data")
        };
        let required = overheads.required(gib(2), VolumeMode::Filesystem, "ceph");
        assert!(required > gib(2));
        let raw = mk_claim(gib(2));
        assert_eq!(
            plan(&volume, Some(&raw), &[], &overheads, NOW),
            vec![VolumeAction::Expand(required)],
            "a claim of the raw size holds a smaller disk"
        );
        let half = Claim {
            capacity: Some(gib(2)),
            ..mk_claim(required)
        };
        assert!(
            is_growing(&volume, &half, &overheads),
            "growth that gives nothing is not done"
        );
        let done = Claim {
            capacity: Some(required),
            ..mk_claim(required)
        };
        assert!(!is_growing(&volume, &done, &overheads));
        let untouched = Volume { made: gib(2), ..volume };
        assert_eq!(
            plan(&untouched, Some(&raw), &[], &overheads, NOW),
            vec![],
            "CDI made it as it is"
        );
    }

    #[test]
    fn a_refused_expansion_rests_until_another_size_is_wanted() {
        let mut volume = Volume {
            size: gib(5),
            ..mk_volume("data")
        };
        volume.expand_refusal = Some(ExpandRefusal {
            size: "5Gi".into(),
            message: "no".into(),
            at: NOW,
        });
        let claim = mk_claim(gib(1));
        assert_eq!(steps(&volume, Some(&claim), &[]), vec![]);
        volume.size = gib(6);
        assert_eq!(steps(&volume, Some(&claim), &[]), vec![VolumeAction::Expand(gib(6))]);
    }

    #[test]
    fn a_volume_in_use_is_never_released() {
        let disk = ObservedDisk {
            claim: Some("data".into()),
            ..ObservedDisk::default()
        };
        let by_hand = Site {
            machine: "m".into(),
            vm: Some(Arc::new(ObservedMachine {
                disks: [("mine".to_owned(), disk)].into(),
                ..ObservedMachine::default()
            })),
            ..Site::default()
        };
        assert_eq!(steps(&mk_terminating(), None, &[by_hand]), vec![]);
        let free = Site {
            machine: "m".into(),
            vm: Some(Arc::default()),
            ..Site::default()
        };
        assert_eq!(steps(&mk_terminating(), None, &[free]), vec![VolumeAction::Release]);
        let recorded = Volume {
            placement: Some(Placement {
                machine: "m".into(),
                vm: "u".into(),
                fence: 0,
            }),
            ..mk_terminating()
        };
        assert_eq!(steps(&recorded, None, &[]), vec![], "the record says where it may be");
    }
}
