//! No cluster takes more than its share of the slots, whatever its API server does to those who wait for it.

use std::collections::HashMap;

/// Which part of the slots one cluster may have.
const PART: usize = 4;

/// Slots that clusters have.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    busy: HashMap<String, usize>,
}

impl Shares {
    /// Shares of so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            most: (slots / PART).max(1),
            busy: HashMap::new(),
        }
    }

    /// Takes a slot for a cluster; false if it has its share already. Work that is no one cluster's always gets one.
    pub(super) fn enter(&mut self, cluster: Option<&str>) -> bool {
        let Some(cluster) = cluster else { return true };
        let taken = self.busy.entry(cluster.to_owned()).or_default();
        if *taken >= self.most {
            return false;
        }
        *taken += 1;
        true
    }

    /// Gives a slot back.
    pub(super) fn leave(&mut self, cluster: Option<&str>) {
        let Some(cluster) = cluster else { return };
        if let Some(taken) = self.busy.get_mut(cluster) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.busy.remove(cluster);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_tenant_leaves_three_quarters_of_the_slots_to_others() {
        let mut shares = Shares::new(32);
        let taken = (0..100).filter(|_| shares.enter(Some("a--hanging"))).count();
        assert_eq!(taken, 8);
        assert!(shares.enter(Some("b--fine")) && shares.enter(None));
        shares.leave(Some("a--hanging"));
        assert!(shares.enter(Some("a--hanging")) && !shares.enter(Some("a--hanging")));
        for _ in 0..8 {
            shares.leave(Some("a--hanging"));
        }
        assert_eq!(shares.busy.len(), 1, "nothing is kept of clusters without work");
    }
}
