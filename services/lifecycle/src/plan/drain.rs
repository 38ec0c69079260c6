//! Decides the next step of emptying one tenant node.
//!
//! ```text
//! Cordon ─► Evict ─► WaitPods ─► WaitDetach ─► Done
//!             ▲ 429 │  ▲            (tenant's volume attachments)
//!             └─────┘  └ Stalled{reason}: keeps being retried, never gives up by itself
//! ```
//!
//! Pods leave by the eviction API, so PodDisruptionBudgets hold. Only when the policy says so, and only after its
//! deadline, are held-back pods deleted without asking. A node whose kubelet is away cannot end its pods: once they all
//! are marked for deletion and their grace has passed, the drain ends as [`DrainOutcome::Abandoned`], because only the end
//! of the machine can end them. An API server that does not answer means *unknown*: the drain waits.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

#[cfg(test)]
mod tests;

/// Evictions sent in one step. A node rarely has more than 110 pods; ten at a time keeps the tenant's API server and the
/// workloads' controllers responsive.
pub const EVICTIONS_PER_STEP: usize = 10;
/// First pause after a refused eviction, as `kubectl drain` waits.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Longest pause between two evictions of a pod.
const BACKOFF_MOST: Duration = Duration::from_secs(60);
/// How often waiting steps look again if no event comes.
const WAIT_AGAIN: Duration = Duration::from_secs(5);
/// A pod without an own grace period has Kubernetes' default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long after its grace a pod on an unreachable node is waited for. Kubelets report every 10 s and a node is called
/// unreachable after 40 s, so a minute is past any kubelet that is merely slow.
const UNREACHABLE_SLACK: Duration = Duration::from_secs(60);

/// What is seen of the node and its pods, and what is wanted.
#[derive(Debug, Clone)]
pub struct DrainInput {
    /// The tenant node.
    pub node: ObservedDrainNode,
    /// Every pod that is bound to the node.
    pub pods: Vec<DrainPod>,
    /// Volumes that the tenant still has attached to the node, by the name of whatever says so.
    pub attached_volumes: Vec<String>,
    /// Evictions tried so far, by pod uid.
    pub attempts: BTreeMap<String, EvictionAttempts>,
    /// How patient the drain is.
    pub policy: DrainPolicy,
    /// When the drain began.
    pub started: Timestamp,
    /// Since when only volumes have been waited for, if they have.
    pub detaching_since: Option<Timestamp>,
}

/// The tenant node as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedDrainNode {
    /// It exists.
    Present {
        /// Whether new pods are kept away.
        cordon: Cordon,
        /// Whether its kubelet reports.
        kubelet: Kubelet,
    },
    /// The API server said that it does not exist.
    Gone,
    /// The API server could not be asked.
    Unknown,
}

/// Whether a node takes new pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    /// It does.
    Schedulable,
    /// It does not.
    Cordoned,
}

/// Whether a node's kubelet reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kubelet {
    /// It reports, ready or not.
    Reporting,
    /// The node's Ready condition is Unknown.
    Unreachable,
}

/// One pod on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainPod {
    /// Namespace in the tenant cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid; evictions are bound to it.
    pub uid: String,
    /// What kind of pod it is as far as a drain cares.
    pub kind: DrainPodKind,
    /// When its deletion ends its grace, if it is being deleted.
    pub deletion: Option<Timestamp>,
    /// Its grace period.
    pub grace: Option<Duration>,
}

/// Pods by what a drain does with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainPodKind {
    /// Evicted.
    Ordinary,
    /// Owned by a DaemonSet: stays, as it would be made again at once.
    DaemonSet,
    /// Mirror of a static pod: belongs to the kubelet.
    Mirror,
    /// Succeeded or Failed: nothing runs.
    Finished,
}

/// Evictions of one pod that were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionAttempts {
    /// How many in a row.
    pub refusals: u32,
    /// When the first of them was.
    pub first: Timestamp,
    /// When the last of them was.
    pub last: Timestamp,
    /// What the API server said.
    pub message: String,
    /// How it was refused.
    pub refusal: EvictionRefusal,
}

/// How an eviction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionRefusal {
    /// 429: a PodDisruptionBudget allows no disruption now (or the server is throttling).
    Budget,
    /// Anything else, such as a pod in two budgets (500) or an admission webhook.
    Refused,
}

/// How patient a drain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainPolicy {
    /// How long evictions may be held back until the drain is called stalled.
    pub stall_after: Duration,
    /// After this long, held-back pods are deleted without regard to budgets. `None` is never.
    pub force_after: Option<Duration>,
    /// Replaces the pods' own grace period.
    pub pod_grace: Option<Duration>,
    /// Whether the tenant's volume attachments are waited for.
    pub detach: DetachWait,
    /// How long volumes may take once the pods have left. `None` is without end.
    pub detach_timeout: Option<Duration>,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            stall_after: Duration::from_secs(120),
            force_after: None,
            pod_grace: None,
            detach: DetachWait::Wait,
            detach_timeout: None,
        }
    }
}

impl DrainPolicy {
    /// Whether volumes have been waited for long enough.
    pub fn gives_up_detaching(&self, since: Option<Timestamp>, now: Timestamp) -> bool {
        self.detach_timeout
            .is_some_and(|limit| since.is_some_and(|since| elapsed(since, now) >= limit) || limit.is_zero())
    }
}

/// Whether a drain waits for volume detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachWait {
    /// Until the tenant has no attachment to the node.
    Wait,
    /// The machine stays, so its volumes may.
    Skip,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainStep {
    /// Keep new pods away.
    Cordon,
    /// Ask the eviction API for these, by index into `DrainInput::pods`.
    Evict(Vec<usize>),
    /// The policy's deadline has passed: delete these without asking.
    ForceDelete(Vec<usize>),
    /// Pods are ending, or wait for their next attempt.
    WaitPods {
        /// How many are left.
        remaining: usize,
        /// When to look again.
        again: Duration,
    },
    /// No pod is left; volumes are still being detached.
    WaitDetach {
        /// Which.
        volumes: Vec<String>,
        /// When to look again.
        again: Duration,
    },
    /// No progress for the policy's time. Goes on being tried.
    Stalled {
        /// Why.
        reason: DrainStall,
        /// The same for people.
        message: String,
        /// How many pods are left.
        remaining: usize,
        /// When to look again.
        again: Duration,
    },
    /// The node is empty, or there is nothing that a drain could still do.
    Done(DrainOutcome),
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Nothing runs on the node and no volume is attached.
    Drained,
    /// The node does not exist.
    NodeGone,
    /// Volumes are still attached, and the policy's time for that is over; the end of the machine detaches them.
    StillAttached,
    /// The kubelet is away for longer than any pod's grace; only the end of the machine ends its pods.
    Abandoned,
}

/// Why a drain makes no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStall {
    /// A PodDisruptionBudget allows no disruption.
    PodDisruptionBudget,
    /// The API server refuses evictions for another reason.
    EvictionRefused,
    /// Pods do not end although their grace has passed.
    PodsNotTerminating,
    /// Volumes are not detached.
    VolumesNotDetached,
    /// The kubelet does not report.
    NodeUnreachable,
    /// The tenant's API server does not answer.
    TenantUnreachable,
}

impl DrainStall {
    /// The reason in CamelCase, as conditions carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::EvictionRefused => "EvictionRefused",
            Self::PodsNotTerminating => "PodsNotTerminating",
            Self::VolumesNotDetached => "VolumesNotDetached",
            Self::NodeUnreachable => "NodeUnreachable",
            Self::TenantUnreachable => "TenantUnreachable",
        }
    }
}

/// Decides the next step. See the module for the order of steps.
pub fn plan_drain(input: &DrainInput, now: Timestamp) -> DrainStep {
    let kubelet = match input.node {
        ObservedDrainNode::Gone => return DrainStep::Done(DrainOutcome::NodeGone),
        ObservedDrainNode::Unknown => {
            let message = "the tenant cluster's API server does not answer".to_owned();
            let remaining = input.pods.len();
            return DrainStep::Stalled {
                reason: DrainStall::TenantUnreachable,
                message,
                remaining,
                again: WAIT_AGAIN,
            };
        }
        ObservedDrainNode::Present {
            cordon: Cordon::Schedulable,
            ..
        } => return DrainStep::Cordon,
        ObservedDrainNode::Present {
            cordon: Cordon::Cordoned,
            kubelet,
        } => kubelet,
    };
    let left: Vec<usize> = (0..input.pods.len())
        .filter(|&at| is_in_the_way(&input.pods[at]))
        .collect();
    let staying: Vec<usize> = left
        .iter()
        .copied()
        .filter(|&at| input.pods[at].deletion.is_none())
        .collect();
    if left.is_empty() {
        return plan_detach(input, kubelet, now);
    }
    if !staying.is_empty() && is_forced(input, now) {
        return DrainStep::ForceDelete(staying.into_iter().take(EVICTIONS_PER_STEP).collect());
    }
    let due: Vec<usize> = staying
        .iter()
        .copied()
        .filter(|&at| wait_before(input, at, now).is_zero())
        .collect();
    if !due.is_empty() {
        return DrainStep::Evict(due.into_iter().take(EVICTIONS_PER_STEP).collect());
    }
    if let Some(step) = plan_held_back(input, &staying, left.len(), now) {
        return step;
    }
    plan_ending(input, &left, &staying, kubelet, now)
}

/// Pods that still run and that a drain moves.
fn is_in_the_way(pod: &DrainPod) -> bool {
    match pod.kind {
        DrainPodKind::Ordinary => true,
        DrainPodKind::DaemonSet | DrainPodKind::Mirror | DrainPodKind::Finished => false,
    }
}

fn is_forced(input: &DrainInput, now: Timestamp) -> bool {
    input
        .policy
        .force_after
        .is_some_and(|limit| elapsed(input.started, now) >= limit)
}

/// How long until the pod's next eviction may be sent.
fn wait_before(input: &DrainInput, at: usize, now: Timestamp) -> Duration {
    let Some(tried) = input.attempts.get(&input.pods[at].uid) else {
        return Duration::ZERO;
    };
    backoff(tried.refusals).saturating_sub(elapsed(tried.last, now))
}

/// Pause after so many refusals in a row.
fn backoff(refusals: u32) -> Duration {
    match refusals {
        0 => Duration::ZERO,
        n => BACKOFF_FIRST.saturating_mul(1 << (n - 1).min(6)).min(BACKOFF_MOST),
    }
}

/// If pods have been held back for too long, the stall; otherwise nothing.
fn plan_held_back(input: &DrainInput, staying: &[usize], remaining: usize, now: Timestamp) -> Option<DrainStep> {
    let held = staying
        .iter()
        .filter_map(|&at| Some((at, input.attempts.get(&input.pods[at].uid)?)))
        .min_by_key(|(_, tried)| tried.first)?;
    let (at, tried) = held;
    if elapsed(tried.first, now) < input.policy.stall_after {
        return None;
    }
    let pod = &input.pods[at];
    let reason = match tried.refusal {
        EvictionRefusal::Budget => DrainStall::PodDisruptionBudget,
        EvictionRefusal::Refused => DrainStall::EvictionRefused,
    };
    let message = format!("{}/{} is not evicted: {}", pod.namespace, pod.name, tried.message);
    let again = staying
        .iter()
        .map(|&at| wait_before(input, at, now))
        .min()
        .unwrap_or(WAIT_AGAIN)
        .max(Duration::from_secs(1));
    Some(DrainStep::Stalled {
        reason,
        message,
        remaining,
        again,
    })
}

/// Pods are ending, or wait for their next attempt.
fn plan_ending(input: &DrainInput, left: &[usize], staying: &[usize], kubelet: Kubelet, now: Timestamp) -> DrainStep {
    let overdue = left
        .iter()
        .filter(|&&at| {
            input.pods[at]
                .deletion
                .is_some_and(|end| elapsed(end, now) >= UNREACHABLE_SLACK)
        })
        .count();
    let remaining = left.len();
    match kubelet {
        Kubelet::Unreachable if overdue == remaining => DrainStep::Done(DrainOutcome::Abandoned),
        Kubelet::Unreachable if staying.is_empty() => DrainStep::Stalled {
            reason: DrainStall::NodeUnreachable,
            message: format!("the kubelet does not report, so {remaining} pods cannot end"),
            remaining,
            again: WAIT_AGAIN,
        },
        Kubelet::Reporting if overdue > 0 => DrainStep::Stalled {
            reason: DrainStall::PodsNotTerminating,
            message: format!("{overdue} pods have not ended although their grace is over"),
            remaining,
            again: WAIT_AGAIN,
        },
        Kubelet::Unreachable | Kubelet::Reporting => {
            let next = staying
                .iter()
                .map(|&at| wait_before(input, at, now))
                .min()
                .unwrap_or(WAIT_AGAIN);
            DrainStep::WaitPods {
                remaining,
                again: next.clamp(Duration::from_secs(1), WAIT_AGAIN),
            }
        }
    }
}

/// No pod is in the way any more.
fn plan_detach(input: &DrainInput, kubelet: Kubelet, now: Timestamp) -> DrainStep {
    let volumes = match input.policy.detach {
        DetachWait::Skip => Vec::new(),
        DetachWait::Wait => input.attached_volumes.clone(),
    };
    if volumes.is_empty() {
        return DrainStep::Done(DrainOutcome::Drained);
    }
    if input.policy.gives_up_detaching(input.detaching_since, now) {
        return DrainStep::Done(DrainOutcome::StillAttached);
    }
    if elapsed(input.started, now) < input.policy.stall_after {
        return DrainStep::WaitDetach {
            volumes,
            again: WAIT_AGAIN,
        };
    }
    match kubelet {
        // A kubelet that is away never unmounts; the attachments end with the machine.
        Kubelet::Unreachable => DrainStep::Done(DrainOutcome::Abandoned),
        Kubelet::Reporting => DrainStep::Stalled {
            reason: DrainStall::VolumesNotDetached,
            message: format!("still attached: {}", volumes.join(", ")),
            remaining: 0,
            again: WAIT_AGAIN,
        },
    }
}

/// The grace with which a pod is evicted or deleted.
pub fn grace_of(pod: &DrainPod, policy: &DrainPolicy) -> Duration {
    policy.pod_grace.or(pod.grace).unwrap_or(DEFAULT_GRACE)
}

/// Time since `from`, never negative.
fn elapsed(from: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(from).max(SignedDuration::ZERO)).unwrap_or_default()
}
