//! Where the simulator differs from the real control plane on purpose.

/// One accepted difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The case that shows it.
    pub case: &'static str,
    /// The note of that case; all other notes must agree.
    pub note: &'static str,
    /// Why it is accepted, word for word as in `docs/simulator.md`.
    pub reason: &'static str,
}

/// All accepted differences. One that does not show any more is an error, so that the list stays true.
pub const DIFFERENCES: &[Difference] = &[unknown_fields("strict"), unknown_fields("not strict")];

const fn unknown_fields(note: &'static str) -> Difference {
    Difference {
        case: "an-unknown-field-of-a-vm-is-dropped-or-refused-as-asked",
        note,
        reason: "KubeVirt's kinds have no schema in the simulator: fields that they do not have are kept, and not refused under `fieldValidation=Strict`.",
    }
}
