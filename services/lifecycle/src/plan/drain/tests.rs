use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const STARTED: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(STARTED + seconds).unwrap()
}

fn mk_pod(name: &str) -> DrainPod {
    DrainPod {
        namespace: "default".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        kind: DrainPodKind::Ordinary,
        deletion: None,
        grace: None,
    }
}

fn mk_input(pods: Vec<DrainPod>) -> DrainInput {
    DrainInput {
        node: ObservedDrainNode::Present {
            cordon: Cordon::Cordoned,
            kubelet: Kubelet::Reporting,
        },
        pods,
        attached_volumes: Vec::new(),
        attempts: BTreeMap::new(),
        policy: DrainPolicy::default(),
        started: at(0),
        detaching_since: None,
    }
}

fn refused(first: i64, last: i64, refusals: u32) -> EvictionAttempts {
    EvictionAttempts {
        refusals,
        first: at(first),
        last: at(last),
        message: "would violate the budget".into(),
        refusal: EvictionRefusal::Budget,
    }
}

#[test]
fn a_node_is_cordoned_before_its_pods_are_evicted() {
    let mut input = mk_input(vec![mk_pod("a")]);
    input.node = ObservedDrainNode::Present {
        cordon: Cordon::Schedulable,
        kubelet: Kubelet::Reporting,
    };
    assert_eq!(plan_drain(&input, at(0)), DrainStep::Cordon);
}

#[test]
fn pods_that_a_drain_leaves_alone_are_not_in_the_way() {
    let kinds = [DrainPodKind::DaemonSet, DrainPodKind::Mirror, DrainPodKind::Finished];
    let pods = kinds.iter().map(|&kind| DrainPod { kind, ..mk_pod("x") }).collect();
    assert_eq!(
        plan_drain(&mk_input(pods), at(0)),
        DrainStep::Done(DrainOutcome::Drained)
    );
}

#[test]
fn a_refused_eviction_is_repeated_only_after_its_backoff() {
    let mut input = mk_input(vec![mk_pod("a")]);
    input.attempts.insert("uid-a".into(), refused(0, 10, 2));
    assert!(matches!(
        plan_drain(&input, at(15)),
        DrainStep::WaitPods { remaining: 1, .. }
    ));
    assert_eq!(plan_drain(&input, at(20)), DrainStep::Evict(vec![0]));
}

#[test]
fn volumes_are_waited_for_as_long_as_the_policy_says() {
    let mut input = mk_input(Vec::new());
    input.attached_volumes = vec!["orders".into()];
    input.policy.detach_timeout = Some(Duration::from_secs(30));
    assert!(
        matches!(plan_drain(&input, at(100)), DrainStep::WaitDetach { .. }),
        "it counts from when the pods had left"
    );
    input.detaching_since = Some(at(100));
    assert!(matches!(plan_drain(&input, at(110)), DrainStep::WaitDetach { .. }));
    assert_eq!(
        plan_drain(&input, at(130)),
        DrainStep::Done(DrainOutcome::StillAttached)
    );
    input.policy.detach_timeout = None;
    assert!(
        matches!(plan_drain(&input, at(1000)), DrainStep::Stalled { .. }),
        "without a limit it is told and goes on"
    );
    input.attached_volumes.clear();
    assert_eq!(plan_drain(&input, at(1000)), DrainStep::Done(DrainOutcome::Drained));
}

#[test]
fn a_budget_that_holds_pods_back_for_too_long_is_a_stall() {
    let mut input = mk_input(vec![mk_pod("a")]);
    input.attempts.insert("uid-a".into(), refused(0, 120, 6));
    let DrainStep::Stalled { reason, message, .. } = plan_drain(&input, at(121)) else {
        panic!("not stalled")
    };
    assert_eq!(reason, DrainStall::PodDisruptionBudget);
    assert!(message.contains("default/a"), "{message}");
}

#[test]
fn without_a_deadline_a_held_back_pod_is_never_deleted() {
    let mut input = mk_input(vec![mk_pod("a")]);
    input.attempts.insert("uid-a".into(), refused(0, 900_000, 60));
    assert!(!matches!(plan_drain(&input, at(900_001)), DrainStep::ForceDelete(_)));
}

#[test]
fn after_the_deadline_held_back_pods_are_deleted() {
    let mut input = mk_input(vec![mk_pod("a")]);
    input.policy.force_after = Some(Duration::from_secs(600));
    input.attempts.insert("uid-a".into(), refused(0, 590, 20));
    assert!(!matches!(plan_drain(&input, at(599)), DrainStep::ForceDelete(_)));
    assert_eq!(plan_drain(&input, at(600)), DrainStep::ForceDelete(vec![0]));
}

#[test]
fn drain_waits_for_volume_detach() {
    let mut input = mk_input(vec![]);
    input.attached_volumes = vec!["csi-1".into()];
    assert!(matches!(plan_drain(&input, at(1)), DrainStep::WaitDetach { .. }));
    assert!(matches!(
        plan_drain(&input, at(121)),
        DrainStep::Stalled {
            reason: DrainStall::VolumesNotDetached,
            ..
        }
    ));
    input.policy.detach = DetachWait::Skip;
    assert_eq!(plan_drain(&input, at(1)), DrainStep::Done(DrainOutcome::Drained));
}

#[test]
fn an_unreachable_kubelet_is_given_up_on_only_after_the_grace_of_all_pods() {
    let mut input = mk_input(vec![DrainPod {
        deletion: Some(at(30)),
        ..mk_pod("a")
    }]);
    input.node = ObservedDrainNode::Present {
        cordon: Cordon::Cordoned,
        kubelet: Kubelet::Unreachable,
    };
    assert!(matches!(
        plan_drain(&input, at(60)),
        DrainStep::Stalled {
            reason: DrainStall::NodeUnreachable,
            ..
        }
    ));
    assert_eq!(plan_drain(&input, at(90)), DrainStep::Done(DrainOutcome::Abandoned));
    input.pods.push(mk_pod("b"));
    assert_eq!(plan_drain(&input, at(90)), DrainStep::Evict(vec![1]));
}

#[test]
fn an_api_server_that_is_away_is_never_taken_for_an_empty_node() {
    let mut input = mk_input(vec![]);
    input.node = ObservedDrainNode::Unknown;
    assert!(matches!(
        plan_drain(&input, at(0)),
        DrainStep::Stalled {
            reason: DrainStall::TenantUnreachable,
            ..
        }
    ));
}

/// Plays a cluster: accepted pods end a while later, refused ones stay until the budget opens.
fn run_to_end(mut input: DrainInput, opens_at: i64, limit: i64) -> Option<i64> {
    for second in 0..limit {
        let now = at(second);
        input.pods.retain(|pod| pod.deletion.is_none_or(|end| end > now));
        match plan_drain(&input, now) {
            DrainStep::Done(_) => return Some(second),
            DrainStep::Cordon => {
                input.node = ObservedDrainNode::Present {
                    cordon: Cordon::Cordoned,
                    kubelet: Kubelet::Reporting,
                };
            }
            DrainStep::Evict(chosen) => {
                assert!(chosen.len() <= EVICTIONS_PER_STEP);
                for pod in chosen {
                    let uid = input.pods[pod].uid.clone();
                    assert!(
                        input.pods[pod].deletion.is_none(),
                        "a pod that is ending was evicted again"
                    );
                    if second >= opens_at {
                        input.pods[pod].deletion = Some(at(second + 3));
                        continue;
                    }
                    let tried = input.attempts.entry(uid).or_insert_with(|| refused(second, second, 0));
                    (tried.refusals, tried.last) = (tried.refusals + 1, now);
                }
            }
            DrainStep::ForceDelete(chosen) => {
                assert!(
                    input
                        .policy
                        .force_after
                        .is_some_and(|limit| second >= limit.as_secs().cast_signed())
                );
                for pod in chosen {
                    input.pods[pod].deletion = Some(now);
                }
            }
            DrainStep::WaitPods { .. } | DrainStep::WaitDetach { .. } | DrainStep::Stalled { .. } => {}
        }
    }
    None
}

proptest! {
    #[test]
    fn a_drain_ends_once_the_budget_opens(pods in 0_usize..40, opens in 0_i64..600, cordoned in any::<bool>()) {
        let mut input = mk_input((0..pods).map(|n| mk_pod(&format!("p{n}"))).collect());
        if !cordoned {
            input.node = ObservedDrainNode::Present { cordon: Cordon::Schedulable, kubelet: Kubelet::Reporting };
        }
        prop_assert!(run_to_end(input, opens, opens + 120).is_some());
    }

    #[test]
    fn a_deadline_ends_every_drain(pods in 1_usize..30, deadline in 0_u64..600) {
        let mut input = mk_input((0..pods).map(|n| mk_pod(&format!("p{n}"))).collect());
        input.policy.force_after = Some(Duration::from_secs(deadline));
        let end = run_to_end(input, i64::MAX, deadline.cast_signed() + 30);
        prop_assert!(end.is_some());
    }
}
