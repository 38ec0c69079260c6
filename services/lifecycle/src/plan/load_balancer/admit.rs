//! Which load balancers of a project fit under its quota.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// A load balancer that a tenant wants, or that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerClaim {
    /// Namespace of the cluster in the infra cluster.
    pub cluster: String,
    /// Name of the infra Service.
    pub name: String,
    /// Whether it is served already.
    pub served: bool,
    /// When the tenant made its Service; for one whose tenant is not seen, when the infra Service was made.
    pub created: Timestamp,
}

/// The claims that may be served, as (cluster, name). What is served stays, whatever the quota; what is left goes by age. Each
/// cluster's answer follows from all claims of the project, so that clusters that are looked at side by side never take the same
/// place twice.
pub fn admit(limit: Option<usize>, claims: &[BalancerClaim]) -> BTreeSet<(String, String)> {
    let mut sorted: Vec<&BalancerClaim> = claims.iter().collect();
    sorted
        .sort_by(|a, b| (!a.served, a.created, &a.cluster, &a.name).cmp(&(!b.served, b.created, &b.cluster, &b.name)));
    sorted.dedup_by(|a, b| a.cluster == b.cluster && a.name == b.name);
    let limit = limit.unwrap_or(usize::MAX);
    sorted
        .into_iter()
        .enumerate()
        .filter(|(at, claim)| claim.served || *at < limit)
        .map(|(_, claim)| (claim.cluster.clone(), claim.name.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_claim(name: &str, served: bool, second: i64) -> BalancerClaim {
        BalancerClaim {
            cluster: "acme--prod".into(),
            name: name.into(),
            served,
            created: Timestamp::from_second(second).unwrap(),
        }
    }

    fn names(limit: usize, claims: &[BalancerClaim]) -> Vec<String> {
        admit(Some(limit), claims).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn the_quota_of_load_balancers_holds_back_the_youngest() {
        let claims = [
            mk_claim("c", false, 3),
            mk_claim("a", false, 1),
            mk_claim("b", false, 2),
        ];
        assert_eq!(names(1, &claims), ["a"]);
        assert_eq!(names(0, &claims), [""; 0]);
    }

    #[test]
    fn a_load_balancer_that_is_served_is_never_taken_for_a_quota() {
        let claims = [
            mk_claim("old", false, 1),
            mk_claim("b", true, 2),
            mk_claim("c", true, 3),
        ];
        assert_eq!(names(1, &claims), ["b", "c"]);
    }

    proptest! {
        #[test]
        fn no_more_than_the_quota_or_than_is_served(served in proptest::collection::vec(any::<bool>(), 0..30), limit in 0_usize..20) {
            let claims: Vec<_> = served.iter().enumerate().map(|(at, served)| mk_claim(&format!("n{at}"), *served, 0)).collect();
            let admitted = admit(Some(limit), &claims);
            let already = served.iter().filter(|one| **one).count();
            prop_assert_eq!(admitted.len(), claims.len().min(limit).max(already));
        }
    }
}
