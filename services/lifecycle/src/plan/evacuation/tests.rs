use super::*;

/// A machine that can migrate.
pub(crate) fn mk_machine(name: &str) -> ObservedMachine {
    ObservedMachine {
        key: MachineKey {
            namespace: "acme--prod".into(),
            machine: name.into(),
        },
        instance_uid: format!("uid-{name}"),
        guest: Guest::Running,
        migratable: Migratable::Yes,
        hotplug: Hotplug::Settled,
        migrating: false,
        marked: false,
        terminating: false,
        asked: Vec::new(),
        pool_name: "w".into(),
        cluster: ObservedClusterState::Active,
        pool: ObservedPool::Keeps {
            replicas: 3,
            surge: Surge::Allowed,
        },
        tenant: ObservedTenant::Reachable {
            exhausted_budgets: Vec::new(),
        },
        target: Target::Unknown,
    }
}

/// A machine that has to be replaced.
pub(crate) fn mk_fixed(name: &str) -> ObservedMachine {
    let migratable = Migratable::No {
        reason: "DisksNotLiveMigratable".into(),
        message: "disk is not shared".into(),
    };
    ObservedMachine {
        migratable,
        ..mk_machine(name)
    }
}

fn verdict(machine: &ObservedMachine) -> (Disposition, &'static str) {
    let verdict = plan_evacuation(machine, MaintenanceStrategy::MigrateOrReplace, 0);
    (verdict.disposition, verdict.reason)
}

#[test]
fn each_state_of_a_machine_has_its_disposition() {
    use Disposition as D;
    let unsettled = Hotplug::Unsettled(vec!["data".into()]);
    let no_surge = ObservedPool::Keeps {
        replicas: 3,
        surge: Surge::Forbidden,
    };
    let full = Target::Nowhere("3 Insufficient memory".into());
    let fixed = || mk_fixed("m");
    let cases: Vec<(ObservedMachine, D, &str)> = vec![
        (mk_machine("m"), D::LiveMigrate, "Migratable"),
        (
            ObservedMachine {
                migrating: true,
                ..fixed()
            },
            D::LiveMigrate,
            "MigrationInProgress",
        ),
        (
            ObservedMachine {
                hotplug: unsettled,
                ..mk_machine("m")
            },
            D::LiveMigrate,
            "HotplugUnsettled",
        ),
        (fixed(), D::SurgeThenDrain, "NotMigratable"),
        (
            ObservedMachine {
                migratable: Migratable::Unknown,
                ..fixed()
            },
            D::SurgeThenDrain,
            "NotMigratable",
        ),
        (
            ObservedMachine {
                pool: no_surge,
                ..fixed()
            },
            D::DrainThenReplace,
            "SurgeForbidden",
        ),
        (
            ObservedMachine {
                pool: ObservedPool::None,
                ..fixed()
            },
            D::RestartInPlace,
            "NoPool",
        ),
        (
            ObservedMachine {
                pool: ObservedPool::Deleting,
                ..fixed()
            },
            D::Leaving,
            "PoolDeleting",
        ),
        (
            ObservedMachine {
                guest: Guest::NotRunning,
                ..fixed()
            },
            D::RestartInPlace,
            "NotBooted",
        ),
        (
            ObservedMachine {
                target: full.clone(),
                ..fixed()
            },
            D::Blocked,
            "NoCapacity",
        ),
        (
            ObservedMachine {
                target: full,
                ..mk_machine("m")
            },
            D::Blocked,
            "NoCapacity",
        ),
        (
            ObservedMachine {
                tenant: ObservedTenant::Unreachable,
                ..fixed()
            },
            D::Blocked,
            "TenantUnreachable",
        ),
        (
            ObservedMachine {
                tenant: ObservedTenant::Unreachable,
                ..mk_machine("m")
            },
            D::LiveMigrate,
            "Migratable",
        ),
        (
            ObservedMachine {
                cluster: ObservedClusterState::Paused,
                ..fixed()
            },
            D::Blocked,
            "ClusterPaused",
        ),
        (
            ObservedMachine {
                cluster: ObservedClusterState::Deleting,
                ..fixed()
            },
            D::Leaving,
            "ClusterDeleting",
        ),
        (
            ObservedMachine {
                terminating: true,
                ..fixed()
            },
            D::Leaving,
            "MachineDeleting",
        ),
    ];
    for (machine, disposition, reason) in cases {
        assert_eq!(verdict(&machine), (disposition, reason), "{machine:?}");
    }
}

#[test]
fn failed_migrations_lead_to_replacement() {
    let judge = |failed| plan_evacuation(&mk_machine("m"), MaintenanceStrategy::MigrateOrReplace, failed);
    assert_eq!(judge(MIGRATION_ATTEMPTS - 1).disposition, Disposition::LiveMigrate);
    assert_eq!(judge(MIGRATION_ATTEMPTS).reason, "MigrationFailed");
    assert_eq!(judge(MIGRATION_ATTEMPTS).disposition, Disposition::SurgeThenDrain);
}

#[test]
fn strategies_are_kept() {
    let replace = plan_evacuation(&mk_machine("m"), MaintenanceStrategy::ReplaceOnly, 0);
    assert_eq!(replace.disposition, Disposition::SurgeThenDrain);
    let migrate = plan_evacuation(&mk_fixed("m"), MaintenanceStrategy::MigrateOnly, 0);
    assert_eq!(
        (migrate.disposition, migrate.reason),
        (Disposition::Blocked, "NotMigratable")
    );
}

#[test]
fn an_exhausted_budget_is_flagged_only_where_pods_would_be_evicted() {
    let tenant = ObservedTenant::Reachable {
        exhausted_budgets: vec!["shop/db".into()],
    };
    let machine = ObservedMachine {
        tenant,
        target: Target::Found {
            node: "n2".into(),
            zone: "b".into(),
        },
        ..mk_fixed("m")
    };
    let drained = risks_of(&machine, Disposition::SurgeThenDrain);
    assert_eq!(
        drained
            .iter()
            .map(|risk| (risk.kind, risk.subject.as_str()))
            .collect::<Vec<_>>(),
        [("PodDisruptionBudget", "shop/db")]
    );
    assert!(risks_of(&machine, Disposition::LiveMigrate).is_empty());
}

#[test]
fn dispositions_survive_the_object() {
    for one in Disposition::ALL {
        assert_eq!(Disposition::from_text(one.as_str()), one);
    }
    assert_eq!(Disposition::from_text("Nonsense"), Disposition::Blocked);
}
