//! Storage classes: the offer, and who may take how much of it. Deny unless offered.

use steading_model::{quantity::Quantity, violation::Violations};

use super::volume::{AccessMode, Bus, ReclaimPolicy, VolumeMode};

/// What the operator offers, in valid terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Id of the class.
    pub id: String,
    /// The class of the infra cluster.
    pub infra_class: String,
    /// Who may use it.
    pub audience: Audience,
    /// Least size.
    pub min_size: Option<Quantity>,
    /// Largest size.
    pub max_size: Option<Quantity>,
    /// The snapshot class of the infra cluster.
    pub snapshot_class: Option<String>,
    /// Bus of disks.
    pub bus: Bus,
    /// Modes allowed; never empty, the first is the default.
    pub access_modes: Vec<AccessMode>,
    /// Modes allowed; never empty, the first is the default.
    pub volume_modes: Vec<VolumeMode>,
    /// Zones that reach the storage; none means all.
    pub zones: Vec<String>,
    /// Whether it is taken when no class is named.
    pub default_class: bool,
    /// Whether volumes may grow.
    pub expansion_allowed: bool,
    /// What becomes of the bytes.
    pub reclaim: ReclaimPolicy,
}

/// Who may use a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every project.
    All,
    /// These projects, by id; none if empty.
    Projects(Vec<String>),
}

/// What a volume asks of a class; `None` takes the class's default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Size, if the source does not tell it.
    pub size: Quantity,
    /// Access mode.
    pub access_mode: Option<AccessMode>,
    /// Volume mode.
    pub volume_mode: Option<VolumeMode>,
}

/// A demand that an offer grants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grant {
    /// Size.
    pub size: Quantity,
    /// Access mode.
    pub access_mode: AccessMode,
    /// Volume mode.
    pub volume_mode: VolumeMode,
}

impl Offer {
    /// Whether the class is offered to the project.
    pub fn is_offered_to(&self, project: &str) -> bool {
        match &self.audience {
            Audience::All => true,
            Audience::Projects(projects) => projects.iter().any(|id| id == project),
        }
    }

    /// What the class makes of a demand.
    ///
    /// # Errors
    /// The fields, below `volume`, that break the offer's limits.
    pub fn grant(&self, demand: Demand) -> Result<Grant, Violations> {
        let mut violations = Violations::new();
        self.check_size(demand.size, "volume.size", &mut violations);
        let access_mode = pick(demand.access_mode, &self.access_modes, AccessMode::ReadWriteOnce);
        let volume_mode = pick(demand.volume_mode, &self.volume_modes, VolumeMode::Block);
        violations.require(
            self.access_modes.contains(&access_mode),
            "volume.access_mode",
            format!("storage class {} does not allow {}", self.id, access_mode.as_str()),
        );
        violations.require(
            self.volume_modes.contains(&volume_mode),
            "volume.volume_mode",
            format!("storage class {} does not allow {}", self.id, volume_mode.as_str()),
        );
        violations.finish()?;
        Ok(Grant {
            size: demand.size,
            access_mode,
            volume_mode,
        })
    }

    /// Notes at `path` if a size is outside of the limits.
    pub fn check_size(&self, size: Quantity, path: &str, violations: &mut Violations) {
        violations.require(!size.is_zero() && !size.is_negative(), path, "must be more than 0");
        if let Some(min) = self.min_size.filter(|min| size < *min) {
            violations.add(path, format!("storage class {} gives at least {min}", self.id));
        }
        if let Some(max) = self.max_size.filter(|max| size > *max) {
            violations.add(path, format!("storage class {} gives at most {max}", self.id));
        }
    }
}

fn pick<T: Copy>(wanted: Option<T>, allowed: &[T], fallback: T) -> T {
    wanted.or_else(|| allowed.first().copied()).unwrap_or(fallback)
}

/// The class that a project gets when it names none: of the default classes offered to it, the first by id.
pub fn default_for<'a>(offers: impl IntoIterator<Item = &'a Offer>, project: &str) -> Option<&'a Offer> {
    let offered = offers
        .into_iter()
        .filter(|offer| offer.default_class && offer.is_offered_to(project));
    offered.min_by(|a, b| a.id.cmp(&b.id))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn mk_offer(id: &str) -> Offer {
        Offer {
            id: id.into(),
            infra_class: "ceph".into(),
            audience: Audience::All,
            min_size: Some(Quantity::from_bytes(1 << 30)),
            max_size: Some(Quantity::from_bytes(100 << 30)),
            snapshot_class: None,
            bus: Bus::Scsi,
            access_modes: vec![AccessMode::ReadWriteOnce],
            volume_modes: vec![VolumeMode::Block, VolumeMode::Filesystem],
            zones: Vec::new(),
            default_class: false,
            expansion_allowed: true,
            reclaim: ReclaimPolicy::Delete,
        }
    }

    fn mk_demand(gib: u64) -> Demand {
        Demand {
            size: Quantity::from_bytes(gib << 30),
            access_mode: None,
            volume_mode: None,
        }
    }

    #[test]
    fn nobody_is_offered_a_class_without_audience() {
        let mut offer = mk_offer("fast");
        assert!(offer.is_offered_to("acme"));
        offer.audience = Audience::Projects(Vec::new());
        assert!(!offer.is_offered_to("acme"));
        offer.audience = Audience::Projects(vec!["acme".into()]);
        assert!(offer.is_offered_to("acme") && !offer.is_offered_to("other"));
    }

    #[test]
    fn limits_and_modes_are_held() {
        let offer = mk_offer("fast");
        let granted = offer.grant(mk_demand(10)).expect("within limits");
        assert_eq!(
            (granted.access_mode, granted.volume_mode),
            (AccessMode::ReadWriteOnce, VolumeMode::Block)
        );
        let path = |demand| {
            offer
                .grant(demand)
                .map_err(|v| v.iter().map(|v| v.path.clone()).collect::<Vec<_>>())
        };
        assert_eq!(
            path(mk_demand(0)),
            Err(vec!["volume.size".to_owned(), "volume.size".to_owned()])
        );
        assert_eq!(path(mk_demand(101)), Err(vec!["volume.size".to_owned()]));
        let many = Demand {
            access_mode: Some(AccessMode::ReadWriteMany),
            ..mk_demand(10)
        };
        assert_eq!(path(many), Err(vec!["volume.access_mode".to_owned()]));
    }

    #[test]
    fn the_first_default_class_that_is_offered_counts() {
        let default = |id: &str, audience| Offer {
            default_class: true,
            audience,
            ..mk_offer(id)
        };
        let offers = [
            mk_offer("a"),
            default("c", Audience::All),
            default("b", Audience::Projects(vec!["acme".into()])),
        ];
        assert_eq!(default_for(&offers, "acme").map(|o| o.id.as_str()), Some("b"));
        assert_eq!(default_for(&offers, "other").map(|o| o.id.as_str()), Some("c"));
        assert_eq!(default_for(&offers[..1], "acme"), None);
    }
}
