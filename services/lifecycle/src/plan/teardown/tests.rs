use proptest::prelude::*;

use super::*;

fn mk_remainder(kind: &'static str, count: usize) -> Vec<Remainder> {
    (0..count)
        .map(|at| Remainder {
            kind,
            name: format!("{kind}-{at}"),
            ..Remainder::default()
        })
        .collect()
}

fn mk_remains(balancers: usize, pools: usize, machines: usize, volumes: usize, namespace: bool) -> Remains {
    Remains {
        balancers: mk_remainder("load balancer", balancers),
        pools: mk_remainder("pool", pools),
        machines: mk_remainder("machine", machines),
        volumes: Ok(mk_remainder("volume", volumes)),
        namespace: if namespace {
            RemainingNamespace::Made(mk_remainder("namespace", 1).remove(0))
        } else {
            RemainingNamespace::None
        },
    }
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(minutes * 60).unwrap()
}

fn plan(remains: &Remains, minutes: i64) -> TeardownPlan {
    plan_teardown(
        remains,
        VolumeDeletionPolicy::Delete,
        Consent::Given,
        at(0),
        at(minutes),
    )
}

/// What the step of a plan makes of the world, if all goes well.
fn carry_out(remains: &mut Remains, step: TeardownStep) {
    match step {
        TeardownStep::Balancers => remains.balancers.clear(),
        TeardownStep::Pools => {
            remains.pools.clear();
            remains.machines.clear();
        }
        TeardownStep::Machines => remains.machines.clear(),
        TeardownStep::Volumes | TeardownStep::WaitForVolumes | TeardownStep::WaitForStorage => {
            remains.volumes = Ok(Vec::new());
        }
        TeardownStep::Namespace => remains.namespace = RemainingNamespace::None,
        TeardownStep::WaitForConsent | TeardownStep::Finish => {}
    }
}

#[test]
fn after_the_deadline_what_blocks_is_listed_by_name() {
    let mut remains = mk_remains(0, 0, 2, 0, true);
    remains.machines[1].why = "volume vol-7 is still attached".into();
    let before = plan(&remains, 14);
    assert_eq!(before.reason, "DeletingMachines");
    let after = plan(&remains, 16);
    assert_eq!((after.step, after.reason), (TeardownStep::Machines, "Blocked"));
    assert_eq!(
        after.message,
        "waits for machine machine-0, machine machine-1 (volume vol-7 is still attached)"
    );
    let many = plan(&mk_remains(0, 0, 25, 0, true), 16);
    assert!(
        many.message.contains("machine-19") && many.message.ends_with("5 more"),
        "{}",
        many.message
    );
}

#[test]
fn nothing_is_deleted_without_consent_while_it_holds_machines_or_volumes() {
    let look =
        |remains: &Remains| plan_teardown(remains, VolumeDeletionPolicy::Delete, Consent::Missing, at(0), at(60));
    for remains in [
        mk_remains(1, 1, 0, 0, true),
        mk_remains(1, 0, 1, 0, true),
        mk_remains(1, 0, 0, 1, true),
    ] {
        let plan = look(&remains);
        assert_eq!(
            (plan.step, plan.reason),
            (TeardownStep::WaitForConsent, "ConsentRequired")
        );
        assert!(
            plan.message.contains("steading.dev/deletion-consent"),
            "{}",
            plan.message
        );
    }
    assert_eq!(look(&mk_remains(0, 0, 0, 0, true)).step, TeardownStep::Namespace);
}

#[test]
fn what_storage_does_not_say_keeps_the_namespace() {
    let mut remains = mk_remains(0, 0, 0, 0, true);
    remains.volumes = Err("no answer".into());
    let plan = plan(&remains, 16);
    assert_eq!((plan.step, plan.reason), (TeardownStep::WaitForStorage, "Blocked"));
    assert!(plan.message.contains("service storage (no answer)"));
}

proptest! {
    #[test]
    fn a_teardown_ends_in_bounded_steps_and_in_the_safe_order(
        counts in (0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3, any::<bool>(), any::<bool>()),
    ) {
        let (balancers, pools, machines, volumes, namespace, storage_away) = counts;
        let mut remains = mk_remains(balancers, pools, machines, volumes, namespace);
        if storage_away {
            remains.volumes = Err("away".into());
        }
        for _ in 0..8 {
            let plan = plan(&remains, 0);
            let volumes = remains.volumes.as_ref().map_or(1, Vec::len);
            match plan.step {
                TeardownStep::Volumes => prop_assert!(remains.pools.is_empty() && remains.machines.is_empty()),
                TeardownStep::Namespace => {
                    prop_assert!(remains.pools.is_empty() && remains.machines.is_empty() && volumes == 0);
                }
                TeardownStep::Finish => {
                    prop_assert!(volumes == 0 && remains.namespace == RemainingNamespace::None);
                    return Ok(());
                }
                _ => {}
            }
            // A crash before the step, then the step: the same plan again.
            prop_assert_eq!(&plan_teardown(&remains, VolumeDeletionPolicy::Delete, Consent::Given, at(0), at(0)), &plan);
            carry_out(&mut remains, plan.step);
        }
        prop_assert!(false, "the teardown does not end");
    }
}
