//! What is to be done for an image: a golden disk for the wanted content, the DataSource pointed at it when it is ready, old
//! ones deleted.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::domain::image::{GoldenDisk, ImageSpec, ImageStatus, ImportPhase};

/// What is to be done for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// Content to import.
    pub create: Option<String>,
    /// Content that the DataSource should point at.
    pub point_at: String,
    /// Golden disks that are not wanted any longer; those that a revision or a clone still needs stay.
    pub unwanted: Vec<String>,
    /// What should be said of the image.
    pub status: ImageStatus,
}

/// Plans for an image. `refusal` says which rules it breaks: then nothing is imported, and what there is stays.
pub fn plan_image(
    spec: &ImageSpec,
    refusal: Option<&str>,
    before: &ImageStatus,
    disks: &[GoldenDisk],
    now: Timestamp,
) -> ImagePlan {
    let wanted = spec.content_id();
    let import = disks.iter().find(|s| s.content == wanted);
    let phase = import.map_or(ImportPhase::Pending, |s| s.phase);
    let ready = phase == ImportPhase::Ready && refusal.is_none();
    let still_there = disks
        .iter()
        .any(|s| s.content == before.content && s.phase == ImportPhase::Ready);
    let content = if ready {
        wanted.clone()
    } else if still_there {
        before.content.clone()
    } else {
        String::new()
    };
    let import_time = match (content.is_empty(), content == before.content) {
        (true, _) => None,
        (false, true) => before.import_time.clone().or(Some(Time(now))),
        (false, false) => Some(Time(now)),
    };
    let unwanted = disks
        .iter()
        .filter(|s| s.content != wanted && s.content != content && refusal.is_none())
        // One that was never filled is of no use to anybody; the others go when there is something to clone instead.
        .filter(|s| ready || s.phase != ImportPhase::Ready)
        .map(|s| s.name.clone())
        .collect();
    let status = match refusal {
        Some(refusal) => ImageStatus {
            phase: ImportPhase::Failed,
            failure: refusal.to_owned(),
            refusal: refusal.to_owned(),
            ..ImageStatus::default()
        },
        None => ImageStatus {
            phase,
            progress: import.map_or(0, |s| s.progress),
            restarts: import.map_or(0, |s| s.restarts),
            failure: import.map(|s| s.failure.clone()).unwrap_or_default(),
            ..ImageStatus::default()
        },
    };
    ImagePlan {
        create: (import.is_none() && refusal.is_none()).then(|| wanted.clone()),
        point_at: if content.is_empty() {
            wanted.clone()
        } else {
            content.clone()
        },
        unwanted,
        status: ImageStatus {
            wanted,
            content,
            import_time,
            ..status
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_spec(refresh: u64) -> ImageSpec {
        ImageSpec {
            size: "1Gi".into(),
            refresh,
            ..ImageSpec::default()
        }
    }

    fn mk_disk(spec: &ImageSpec, phase: ImportPhase) -> GoldenDisk {
        let content = spec.content_id();
        GoldenDisk {
            name: format!("ubuntu-{content}"),
            content,
            phase,
            progress: 40,
            restarts: 0,
            failure: String::new(),
        }
    }

    #[test]
    fn a_new_image_is_imported_and_pointed_at() {
        let (spec, now) = (mk_spec(0), Timestamp::UNIX_EPOCH);
        let first = plan_image(&spec, None, &ImageStatus::default(), &[], now);
        assert_eq!(first.create, Some(spec.content_id()));
        assert_eq!(first.status.phase, ImportPhase::Pending);
        let done = plan_image(&spec, None, &first.status, &[mk_disk(&spec, ImportPhase::Ready)], now);
        assert_eq!((done.create, done.status.content), (None, spec.content_id()));
        assert_eq!(done.status.import_time, Some(Time(now)));
    }

    #[test]
    fn the_old_content_is_cloned_until_the_new_one_is_there() {
        let (old, new, now) = (mk_spec(0), mk_spec(1), Timestamp::UNIX_EPOCH);
        let before = ImageStatus {
            phase: ImportPhase::Ready,
            wanted: old.content_id(),
            content: old.content_id(),
            ..ImageStatus::default()
        };
        let running = [mk_disk(&old, ImportPhase::Ready), mk_disk(&new, ImportPhase::Importing)];
        let during = plan_image(&new, None, &before, &running, now);
        assert_eq!(during.point_at, old.content_id());
        assert_eq!(
            (during.unwanted.len(), during.status.content.clone()),
            (0, old.content_id())
        );
        let failed = [mk_disk(&old, ImportPhase::Ready), mk_disk(&new, ImportPhase::Failed)];
        assert_eq!(
            plan_image(&new, None, &during.status, &failed, now).status.content,
            old.content_id()
        );
        let there = [mk_disk(&old, ImportPhase::Ready), mk_disk(&new, ImportPhase::Ready)];
        let after = plan_image(&new, None, &during.status, &there, now);
        assert_eq!(after.point_at, new.content_id());
        assert_eq!(after.unwanted, [format!("ubuntu-{}", old.content_id())]);
    }

    #[test]
    fn an_import_that_failed_is_left_behind_when_the_source_is_mended() {
        let (bad, good, now) = (mk_spec(0), mk_spec(1), Timestamp::UNIX_EPOCH);
        let plan = plan_image(
            &good,
            None,
            &ImageStatus::default(),
            &[mk_disk(&bad, ImportPhase::Failed)],
            now,
        );
        assert_eq!(plan.create, Some(good.content_id()));
        assert_eq!(plan.unwanted, [format!("ubuntu-{}", bad.content_id())]);
    }

    #[test]
    fn an_image_that_breaks_a_rule_is_not_imported_and_says_why() {
        let (spec, now) = (mk_spec(1), Timestamp::UNIX_EPOCH);
        let plan = plan_image(&spec, Some("http.secret: no"), &ImageStatus::default(), &[], now);
        assert_eq!((plan.create, plan.unwanted), (None, Vec::new()));
        assert_eq!(
            (plan.status.phase, plan.status.refusal.as_str()),
            (ImportPhase::Failed, "http.secret: no")
        );
        // What was imported before stays and is cloned on.
        let old = mk_spec(0);
        let before = ImageStatus {
            content: old.content_id(),
            ..ImageStatus::default()
        };
        let plan = plan_image(&spec, Some("no"), &before, &[mk_disk(&old, ImportPhase::Ready)], now);
        assert_eq!((plan.point_at, plan.unwanted), (old.content_id(), Vec::new()));
    }

    #[test]
    fn a_plan_that_is_done_is_a_fixed_point() {
        let (spec, now) = (mk_spec(0), Timestamp::UNIX_EPOCH);
        let seen = [mk_disk(&spec, ImportPhase::Ready)];
        let first = plan_image(&spec, None, &ImageStatus::default(), &seen, now);
        let later = Timestamp::from_second(100).expect("a time");
        assert_eq!(plan_image(&spec, None, &first.status, &seen, later), first);
    }
}
