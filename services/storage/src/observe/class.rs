//! A StorageClass object as an offer. Objects may come from `kubectl apply`, so everything is checked here.

use kube::ResourceExt;
use steading_infra::crd::StorageClass;
use steading_model::{ids::Id, quantity::Quantity, violation::Violations};

use crate::domain::{
    class::{Audience, Offer},
    volume::{AccessMode, Bus, ReclaimPolicy, VolumeMode},
};

/// The offer that an object is.
///
/// # Errors
/// The fields, spelled as in the API, that break a rule.
pub fn offer(object: &StorageClass) -> Result<Offer, Violations> {
    let (spec, mut violations) = (&object.spec, Violations::new());
    violations.require(
        !spec.infra_storage_class.is_empty(),
        "infra_storage_class",
        "must be set",
    );
    let min_size = quantity(spec.min_size.as_deref(), "min_size", &mut violations);
    let max_size = quantity(spec.max_size.as_deref(), "max_size", &mut violations);
    if let (Some(min), Some(max)) = (min_size, max_size) {
        violations.require(min <= max, "max_size", "must not be less than min_size");
    }
    for (index, project) in spec.projects.iter().enumerate() {
        if let Err(error) = Id::parse(project.as_str()) {
            violations.add(format!("projects[{index}]"), error.to_string());
        }
    }
    let access_modes = modes(
        &spec.access_modes,
        "access_modes",
        AccessMode::from_text,
        &mut violations,
    );
    let volume_modes = modes(
        &spec.volume_modes,
        "volume_modes",
        VolumeMode::from_text,
        &mut violations,
    );
    let bus = one(spec.bus.as_deref(), "bus", Bus::from_text, &mut violations);
    let reclaim = one(
        spec.reclaim_policy.as_deref(),
        "reclaim_policy",
        ReclaimPolicy::from_text,
        &mut violations,
    );
    violations.finish()?;
    let or = |given: Vec<_>, fallback: &[VolumeMode]| if given.is_empty() { fallback.to_vec() } else { given };
    Ok(Offer {
        id: object.name_any(),
        infra_class: spec.infra_storage_class.clone(),
        audience: if spec.all_projects {
            Audience::All
        } else {
            Audience::Projects(spec.projects.clone())
        },
        min_size,
        max_size,
        snapshot_class: spec.snapshot_class.clone().filter(|name| !name.is_empty()),
        bus: bus.unwrap_or_default(),
        access_modes: if access_modes.is_empty() {
            vec![AccessMode::ReadWriteOnce]
        } else {
            access_modes
        },
        volume_modes: or(volume_modes, &[VolumeMode::Block, VolumeMode::Filesystem]),
        zones: spec.zones.clone(),
        default_class: spec.default_class,
        expansion_allowed: spec.expansion_allowed,
        reclaim: reclaim.unwrap_or_default(),
    })
}

fn quantity(text: Option<&str>, path: &str, violations: &mut Violations) -> Option<Quantity> {
    let text = text.filter(|text| !text.is_empty())?;
    match text.parse::<Quantity>() {
        Ok(size) if size.is_negative() || size.is_zero() => {
            violations.add(path, "must be more than 0");
            None
        }
        Ok(size) => Some(size),
        Err(error) => {
            violations.add(path, error.to_string());
            None
        }
    }
}

fn modes<T>(texts: &[String], path: &str, read: fn(&str) -> Option<T>, violations: &mut Violations) -> Vec<T> {
    let mut modes = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match read(text) {
            Some(mode) => modes.push(mode),
            None => violations.add(format!("{path}[{index}]"), format!("{text:?} is not known")),
        }
    }
    modes
}

fn one<T>(text: Option<&str>, path: &str, read: fn(&str) -> Option<T>, violations: &mut Violations) -> Option<T> {
    let text = text.filter(|text| !text.is_empty())?;
    let value = read(text);
    violations.require(value.is_some(), path, format!("{text:?} is not known"));
    value
}

#[cfg(test)]
mod tests {
    use steading_infra::crd::storage_class::StorageClassSpec;

    use super::*;

    #[test]
    fn an_empty_offer_is_for_nobody_and_has_defaults() {
        let spec = StorageClassSpec {
            infra_storage_class: "ceph".into(),
            ..StorageClassSpec::default()
        };
        let offer = offer(&StorageClass::new("fast", spec)).expect("valid");
        assert!(!offer.is_offered_to("acme"));
        assert_eq!((offer.bus, offer.reclaim), (Bus::Scsi, ReclaimPolicy::Delete));
        assert_eq!((offer.access_modes.len(), offer.volume_modes.len()), (1, 2));
    }

    #[test]
    fn every_fault_is_named() {
        let spec = StorageClassSpec {
            projects: vec!["Acme".into()],
            min_size: Some("2Gi".into()),
            max_size: Some("1Gi".into()),
            bus: Some("sata".into()),
            access_modes: vec!["ReadWriteOnce".into(), "rwx".into()],
            reclaim_policy: Some("Recycle".into()),
            ..StorageClassSpec::default()
        };
        let violations = offer(&StorageClass::new("fast", spec)).expect_err("invalid");
        let paths: Vec<&str> = violations.iter().map(|v| v.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "infra_storage_class",
                "max_size",
                "projects[0]",
                "access_modes[1]",
                "bus",
                "reclaim_policy"
            ]
        );
    }
}
