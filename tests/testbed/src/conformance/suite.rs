//! The list of all cases.

use super::{Case, api, kubevirt, scheduler};

/// Every case.
pub fn all() -> Vec<Case> {
    [api::cases(), kubevirt::cases(), scheduler::cases()].concat()
}
