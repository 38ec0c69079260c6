//! What to try when a machine refuses a patch: halves, until the volume at fault stands alone.
//!
//! KubeVirt's admission judges a patch whole. One volume that it does not take would hold up all others for ever, and those
//! that only want to leave. So detaches are sent first and for themselves, and what is refused is cut in two.

use std::collections::VecDeque;

use super::machine::{Attach, Detach, MachinePlan};

/// One patch of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Disks to put on.
    pub attach: Vec<Attach>,
    /// Disks to take off.
    pub detach: Vec<Detach>,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.attach.is_empty() && self.detach.is_empty()
    }
}

/// What a refusal of a batch means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The parts are tried in its place.
    Split,
    /// This volume is at fault.
    AtFault(Attach),
    /// The machine refuses even to let go.
    CannotDetach,
}

/// The patches that carry out a plan, in order; refused ones are cut into smaller ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches {
    queue: VecDeque<Batch>,
}

impl Batches {
    /// The patches of a plan: all at once, then each volume that was refused before, alone.
    pub fn of(plan: &MachinePlan) -> Self {
        let all = Batch {
            attach: plan.attach.clone(),
            detach: plan.detach.clone(),
        };
        let alone = plan.retry.iter().map(|attach| Batch {
            attach: vec![attach.clone()],
            detach: Vec::new(),
        });
        Self {
            queue: std::iter::once(all)
                .chain(alone)
                .filter(|batch| !batch.is_empty())
                .collect(),
        }
    }

    /// Takes the next patch.
    pub fn take(&mut self) -> Option<Batch> {
        self.queue.pop_front()
    }

    /// Notes that a patch was refused as invalid.
    pub fn refused(&mut self, mut batch: Batch) -> Verdict {
        if !batch.detach.is_empty() {
            if batch.attach.is_empty() {
                return Verdict::CannotDetach;
            }
            let attach = std::mem::take(&mut batch.attach);
            self.queue.push_front(Batch {
                attach,
                detach: Vec::new(),
            });
            self.queue.push_front(batch);
            return Verdict::Split;
        }
        if batch.attach.len() == 1 {
            return batch.attach.pop().map_or(Verdict::Split, Verdict::AtFault);
        }
        let rest = batch.attach.split_off(batch.attach.len() / 2);
        self.queue.push_front(Batch {
            attach: rest,
            detach: Vec::new(),
        });
        self.queue.push_front(batch);
        Verdict::Split
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::volume::Bus;

    fn mk_attach(volume: usize) -> Attach {
        Attach {
            disk: format!("vol-v{volume}"),
            claim: format!("v{volume}"),
            serial: "0123456789abcdef0123".into(),
            bus: Bus::Scsi,
        }
    }

    fn mk_plan(attach: usize, detach: usize) -> MachinePlan {
        MachinePlan {
            attach: (0..attach).map(mk_attach).collect(),
            detach: (0..detach)
                .map(|i| Detach {
                    disk: format!("vol-d{i}"),
                    volume: format!("d{i}"),
                })
                .collect(),
            ..MachinePlan::default()
        }
    }

    proptest! {
        #[test]
        fn a_refused_patch_is_bisected_until_the_volumes_at_fault_stand_alone(
            attach in 0..40_usize, detach in 0..5_usize, bad in prop::collection::btree_set(0..40_usize, 0..4),
        ) {
            let bad: BTreeSet<String> = bad.into_iter().filter(|i| *i < attach).map(|i| format!("v{i}")).collect();
            let mut batches = Batches::of(&mk_plan(attach, detach));
            let (mut on, mut off, mut at_fault, mut tries) = (BTreeSet::new(), 0, BTreeSet::new(), 0_usize);
            while let Some(batch) = batches.take() {
                tries += 1;
                if batch.attach.iter().any(|attach| bad.contains(&attach.claim)) {
                    match batches.refused(batch) {
                        Verdict::AtFault(attach) => { at_fault.insert(attach.claim); }
                        Verdict::Split => {}
                        Verdict::CannotDetach => prop_assert!(false, "a detach waited for an attach"),
                    }
                } else {
                    off += batch.detach.len();
                    on.extend(batch.attach.into_iter().map(|attach| attach.claim));
                }
            }
            prop_assert_eq!(off, detach, "detaches never wait for a refused attach");
            prop_assert_eq!(&at_fault, &bad);
            prop_assert_eq!(on.len(), attach - bad.len(), "all others are attached");
            // Each fault costs its path through the halves.
            prop_assert!(tries <= 3 + 2 * bad.len() * 7, "{} tries", tries);
        }
    }

    #[test]
    fn a_volume_that_was_refused_before_is_tried_alone() {
        let plan = MachinePlan {
            retry: vec![mk_attach(7), mk_attach(8)],
            ..mk_plan(2, 1)
        };
        let mut batches = Batches::of(&plan);
        let sizes: Vec<usize> = std::iter::from_fn(|| batches.take())
            .map(|batch| batch.attach.len())
            .collect();
        assert_eq!(sizes, [2, 1, 1]);
        let mut batches = Batches::of(&mk_plan(0, 1));
        let only = batches.take().expect("a batch");
        assert_eq!(batches.refused(only), Verdict::CannotDetach);
    }
}
