//! What the ledger counts and what it refuses.

use proptest::prelude::*;

use super::*;

fn mk_key(cluster: usize, machine: usize) -> MachineKey {
    MachineKey {
        namespace: format!("p--c{cluster}"),
        machine: format!("w-{machine}"),
    }
}

fn mk_disruption(machine: usize, cause: Cause) -> Disruption {
    Disruption {
        key: mk_key(0, machine),
        pool: "w".into(),
        node: "n1".into(),
        cause,
    }
}

#[test]
fn what_is_already_away_counts_as_taken() {
    let limits = Limits {
        away_per_cluster: Some(1),
        ..Limits::default()
    };
    for cause in [Cause::Away, Cause::Moving] {
        let mut ledger = Ledger::new(&[mk_disruption(1, cause)], &BTreeMap::new());
        assert_eq!(
            ledger.take(&mk_key(0, 2), "w", "n2", &limits),
            Err(Exceeded::Cluster),
            "{cause:?}"
        );
        assert_eq!(
            ledger.take(&mk_key(1, 2), "w", "n2", &limits),
            Ok(()),
            "another cluster"
        );
        assert_eq!(
            ledger.take(&mk_key(0, 1), "w", "n1", &limits),
            Ok(()),
            "it is away anyway"
        );
    }
}

#[test]
fn a_rollout_and_a_maintenance_take_from_one_ledger() {
    let mut ledger = Ledger::default();
    let rollout = Limits {
        moving_per_pool: Some(1),
        ..Limits::default()
    };
    assert_eq!(ledger.take(&mk_key(0, 1), "w", "n1", &rollout), Ok(()));
    let maintenance = Limits {
        per_infra_node: Some(2),
        away_per_cluster: Some(1),
        ..Limits::default()
    };
    assert_eq!(
        ledger.take(&mk_key(0, 2), "v", "n1", &maintenance),
        Err(Exceeded::Cluster)
    );
}

#[test]
fn zones_count_all_their_infra_nodes() {
    let zones = [("n1", "a"), ("n2", "a"), ("n3", "b")].map(|(n, z)| (n.to_owned(), z.to_owned()));
    let mut ledger = Ledger::new(&[mk_disruption(1, Cause::Moving)], &zones.into());
    let limits = Limits {
        per_zone: Some(1),
        ..Limits::default()
    };
    assert_eq!(ledger.take(&mk_key(1, 1), "w", "n2", &limits), Err(Exceeded::Zone));
    assert_eq!(ledger.take(&mk_key(1, 2), "w", "n3", &limits), Ok(()));
}

proptest! {
    #[test]
    fn no_order_of_takes_exceeds_a_limit(
        takes in prop::collection::vec((0_usize..3, 0_usize..12, 0_usize..4), 0..60),
        node in 1_usize..4, zone in 1_usize..6, cluster in 1_usize..4,
    ) {
        let zones: BTreeMap<_, _> = (0..4).map(|n| (format!("n{n}"), format!("z{}", n % 2))).collect();
        let mut ledger = Ledger::new(&[], &zones);
        let limits = Limits {
            per_infra_node: Some(node),
            per_zone: Some(zone),
            away_per_cluster: Some(cluster),
            ..Limits::default()
        };
        let mut taken: BTreeMap<MachineKey, usize> = BTreeMap::new();
        for (c, m, on) in takes {
            let key = mk_key(c, m);
            let on = *taken.get(&key).unwrap_or(&on);
            if ledger.take(&key, "w", &format!("n{on}"), &limits).is_ok() {
                taken.insert(key, on);
            }
        }
        for n in 0..4 {
            prop_assert!(taken.values().filter(|&&on| on == n).count() <= node);
        }
        for z in 0..2 {
            prop_assert!(taken.values().filter(|&&on| on % 2 == z).count() <= zone);
        }
        for c in 0..3 {
            let prefix = format!("p--c{c}");
            prop_assert!(taken.keys().filter(|key| key.namespace == prefix).count() <= cluster);
        }
    }
}
