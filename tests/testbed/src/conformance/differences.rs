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
pub const DIFFERENCES: &[Difference] = &[];
