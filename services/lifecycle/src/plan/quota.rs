//! How many machines a pool may have under its project's quota.
//!
//! Calls check quotas before they store what is wanted, but two at the same moment may both pass, and `kubectl` asks nobody. So the machines
//! themselves are held to the quota here: what exists counts first, and what is left goes to pools in the order of their age. Each pool's answer
//! follows from what is wanted and seen of all, so that pools that are looked at side by side never take the same room twice. Nothing that exists is
//! ever removed for a quota.

use std::collections::BTreeMap;

use jiff::Timestamp;
use steading_model::quantity::Quantity;

/// What quotas of machines limit, in the words of a project's quota.
pub const KINDS: [&str; 4] = ["machines", "vcpus", "memory", "storage"];

/// An amount of each of [`KINDS`]: numbers, and bytes.
pub type Amounts = [u64; 4];

/// A limit for each of [`KINDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota([Option<u64>; 4]);

impl Quota {
    /// The limits of a project; what cannot be read limits nothing, as its validation tells.
    pub fn of(limits: &BTreeMap<String, String>) -> Self {
        let number = |kind: &str| limits.get(kind).and_then(|text| text.parse().ok());
        let bytes = |kind: &str| {
            let quantity = limits.get(kind).and_then(|text| text.parse::<Quantity>().ok());
            quantity.map(Quantity::bytes)
        };
        Self([number("machines"), number("vcpus"), bytes("memory"), bytes("storage")])
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// A pool's part in its project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// When the pool was made, its namespace and its name: the order in which pools get room.
    pub order: (Timestamp, String, String),
    /// How many machines it wants.
    pub wanted: usize,
    /// How many more it may have for a while, if it rolls out.
    pub surge: usize,
    /// How many it has that are not terminating.
    pub current: usize,
    /// How many exist, those that are terminating included: they use what they use until they are gone.
    pub present: usize,
    /// What one of them takes.
    pub each: Amounts,
}

/// What a pool may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// How many machines, at most as many as it wants and at least as many as it has.
    pub machines: usize,
    /// Most machines that may exist, those that are terminating and a surge included; never fewer than exist.
    pub most: usize,
    /// Which limit keeps it from having all that it wants.
    pub short: Option<&'static str>,
}

/// Says what the pool `which` may have; `None` if it is not among the claims.
pub fn allowance(quota: &Quota, claims: &[Claim], which: &(Timestamp, String, String)) -> Option<Allowance> {
    let mut used: Amounts = [0; 4];
    for claim in claims {
        take(&mut used, claim.each, claim.present);
    }
    let mut order: Vec<&Claim> = claims.iter().collect();
    order.sort_by(|a, b| a.order.cmp(&b.order));
    let mut found = None;
    for claim in &order {
        let missing = claim.wanted.saturating_sub(claim.current);
        let (fits, short) = fitting(quota, used, claim.each, missing);
        if claim.order == *which {
            found = Some(Allowance {
                machines: claim.current.max(claim.wanted.min(claim.current + fits)),
                most: claim.present + fits,
                short,
            });
        }
        take(&mut used, claim.each, fits);
    }
    // What is wanted for good comes first; only then may rollouts have a machine more for a while.
    for claim in &order {
        let (fits, _) = fitting(quota, used, claim.each, claim.surge);
        if let Some(found) = found.as_mut().filter(|_| claim.order == *which) {
            found.most += fits;
        }
        take(&mut used, claim.each, fits);
    }
    found
}

fn take(used: &mut Amounts, each: Amounts, machines: usize) {
    let machines = u64::try_from(machines).unwrap_or(u64::MAX);
    for (used, each) in used.iter_mut().zip(each) {
        *used = used.saturating_add(each.saturating_mul(machines));
    }
}

/// How many of `missing` machines fit beside what is used, and what the next one would go beyond.
fn fitting(quota: &Quota, used: Amounts, each: Amounts, missing: usize) -> (usize, Option<&'static str>) {
    let (mut fits, mut short) = (missing, None);
    for (kind, limit) in quota.0.iter().enumerate() {
        let (Some(limit), true) = (limit, each[kind] > 0) else {
            continue;
        };
        let room = limit.saturating_sub(used[kind]) / each[kind];
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if room < fits {
            (fits, short) = (room, Some(KINDS[kind]));
        }
    }
    (fits, short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_quota(machines: u64, vcpus: u64) -> Quota {
        Quota([Some(machines), Some(vcpus), None, None])
    }

    fn mk_claim(age: i64, wanted: usize, present: usize, vcpus: u64) -> Claim {
        let made = Timestamp::from_second(age).expect("a time");
        Claim {
            order: (made, "p--c".into(), format!("pool-{age}")),
            wanted,
            surge: 0,
            current: present,
            present,
            each: [1, vcpus, 0, 0],
        }
    }

    #[test]
    fn what_exists_counts_first_and_older_pools_get_the_rest() {
        let claims = [mk_claim(2, 4, 3, 2), mk_claim(1, 4, 1, 2)];
        let of = |quota: &Quota, at: usize| allowance(quota, &claims, &claims[at].order).expect("an allowance");
        let tight = mk_quota(6, 100);
        assert_eq!((of(&tight, 1).machines, of(&tight, 1).short), (3, Some("machines")));
        assert_eq!((of(&tight, 0).machines, of(&tight, 0).short), (3, Some("machines")));
        let cpus = mk_quota(100, 13);
        assert_eq!((of(&cpus, 1).machines, of(&cpus, 1).short), (3, Some("vcpus")));
        let enough = mk_quota(8, 16);
        assert_eq!((of(&enough, 0).machines, of(&enough, 0).short), (4, None));
    }

    #[test]
    fn nothing_that_exists_goes_for_a_quota() {
        let claims = [mk_claim(1, 5, 5, 1)];
        let kept = allowance(&mk_quota(2, 2), &claims, &claims[0].order).expect("an allowance");
        assert_eq!((kept.machines, kept.short), (5, None));
    }

    #[test]
    fn a_surge_gets_what_is_left_once_every_pool_has_what_it_wants() {
        let mut claims = [mk_claim(1, 2, 2, 1), mk_claim(2, 3, 2, 1)];
        claims[0].surge = 2;
        let of =
            |quota: u64, claims: &[Claim]| allowance(&mk_quota(quota, 100), claims, &claims[0].order).map(|a| a.most);
        assert_eq!(of(5, &claims), Some(2), "the other pool's third machine comes first");
        assert_eq!((of(6, &claims), of(9, &claims)), (Some(3), Some(4)));
        claims[0].present = 3;
        assert_eq!(of(6, &claims), Some(3), "a terminating machine still takes its place");
    }

    proptest! {
        #[test]
        fn pools_that_are_filled_in_any_order_never_go_beyond(
            pools in prop::collection::vec((0..6_usize, 1..4_u64), 1..6),
            steps in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
            machines in 0..12_u64, vcpus in 0..24_u64,
        ) {
            let mut claims: Vec<Claim> = (0..).zip(&pools).map(|(age, (wanted, each))| mk_claim(age, *wanted, 0, *each)).collect();
            // What somebody saw a while ago is what they decide by.
            let stale = claims.clone();
            for step in steps {
                let at = step.index(claims.len());
                let mut view = stale.clone();
                view[at] = claims[at].clone();
                let quota = mk_quota(machines, vcpus);
                claims[at].present = allowance(&quota, &view, &claims[at].order).expect("an allowance").machines;
                claims[at].current = claims[at].present;
                let used: u64 = claims.iter().map(|c| c.each[1] * c.present as u64).sum();
                let count: usize = claims.iter().map(|c| c.present).sum();
                prop_assert!(used <= vcpus && count as u64 <= machines, "{claims:?}");
            }
        }
    }
}
