//! The steps of a history. Each can be applied to any state; one that does not fit does nothing.

use rand::{RngExt, rngs::SmallRng};

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Time passes.
    Wait(u16),
    /// A person or program wishes something.
    Wish(Wish, u8, u8),
    /// KubeVirt, a guest or a tenant's controllers move on.
    Nature(Motion, u8),
    /// A fault begins or ends in the world below.
    Fault(Fault, u8),
    /// A leader's index hears of one kind.
    Hear(u8, u8),
    /// A leader begins a pass, if it is idle.
    Begin(u8, Pass, u8),
    /// A leader takes the next operation of its pass.
    Act(u8, Mishap),
    /// A leader's process dies.
    Crash(u8),
}

/// What a leader looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One machine.
    Machine,
    /// One pool.
    Pool,
    /// All maintenances.
    Maintenances,
    /// The volumes of one machine.
    Disks,
    /// One volume.
    Volume,
}

/// What goes wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// The API server refuses it, so that the pass ends.
    Refused,
    /// It takes place, and its reply is lost, so that the pass ends.
    ReplyLost,
    /// It stays on its way, and arrives later.
    Delayed,
}

/// What somebody wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Another number of machines.
    Scale,
    /// Another template revision, which may be one that cannot boot.
    Template,
    /// A rollout to stand still, or to go on.
    Pause,
    /// A quota that leaves less room, or more.
    Quota,
    /// A machine to be replaced, drained, restarted or deleted through the API.
    Intent,
    /// That wish to be withdrawn.
    Withdraw,
    /// A maintenance of an infra node.
    Maintenance,
    /// A maintenance to be cancelled, completed or deleted.
    EndMaintenance,
    /// An infra node or tenant node to be cordoned, or uncordoned, by hand.
    Cordon,
    /// A volume to be attached.
    Attach,
    /// A volume to be detached.
    Detach,
    /// A volume to be deleted.
    DeleteVolume,
    /// A virtual machine to be deleted with kubectl, or its Node.
    DeleteByHand,
    /// An eviction of a machine's pod.
    Evict,
}

/// What moves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// KubeVirt acts on one machine.
    KubeVirt,
    /// One guest boots, or reports.
    Guest,
    /// Workloads of a tenant are placed and end.
    Pods,
    /// One migration ends.
    Migration,
    /// A write that was delayed arrives.
    Arrival,
}

/// What breaks, and heals by the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A tenant's API server does not answer.
    Tenant,
    /// An infra node is silent.
    Node,
    /// Pods of a tenant do not end.
    Pods,
    /// Live migrations fail.
    Migrations,
    /// A guest stops reporting.
    Guest,
}

const WISHES: [Wish; 14] = [
    Wish::Scale,
    Wish::Template,
    Wish::Pause,
    Wish::Quota,
    Wish::Intent,
    Wish::Withdraw,
    Wish::Maintenance,
    Wish::EndMaintenance,
    Wish::Cordon,
    Wish::Attach,
    Wish::Detach,
    Wish::DeleteVolume,
    Wish::DeleteByHand,
    Wish::Evict,
];
const MOTIONS: [Motion; 5] = [
    Motion::KubeVirt,
    Motion::Guest,
    Motion::Pods,
    Motion::Migration,
    Motion::Arrival,
];
const FAULTS: [Fault; 5] = [Fault::Tenant, Fault::Node, Fault::Pods, Fault::Migrations, Fault::Guest];
const PASSES: [Pass; 5] = [Pass::Machine, Pass::Pool, Pass::Maintenances, Pass::Disks, Pass::Volume];

/// How unkind a history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Climate {
    /// Whether a second leader acts at the same time.
    pub two_leaders: bool,
    /// Whether leaders see old states.
    pub stale: bool,
}

/// Draws a step.
pub fn draw(rng: &mut SmallRng, climate: Climate) -> Step {
    let leader = if climate.two_leaders { rng.random_range(0..2) } else { 0 };
    let any = |rng: &mut SmallRng| rng.random_range(0..=u8::MAX);
    match rng.random_range(0..100) {
        0..4 => Step::Wait(*pick(rng, &[1, 5, 15, 60, 300])),
        4..10 => Step::Wish(*pick(rng, &WISHES), any(rng), any(rng)),
        10..30 => Step::Nature(*pick(rng, &MOTIONS), any(rng)),
        30..32 => Step::Fault(*pick(rng, &FAULTS), any(rng)),
        32..47 => Step::Hear(leader, any(rng)),
        47..62 => Step::Begin(leader, *pick(rng, &PASSES), any(rng)),
        62..99 => Step::Act(
            leader,
            match rng.random_range(0..40) {
                0 => Mishap::Refused,
                1 => Mishap::ReplyLost,
                2 => Mishap::Delayed,
                _ => Mishap::None,
            },
        ),
        _ => Step::Crash(leader),
    }
}

fn pick<'a, T>(rng: &mut SmallRng, all: &'a [T]) -> &'a T {
    &all[rng.random_range(0..all.len())]
}
