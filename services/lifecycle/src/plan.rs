//! Pure decisions: what is desired and what is observed in, what to do out. No client, no clock, no await.
//!
//! Every decider takes plain values and can be driven without a service, by property tests and by `cargo xtask simulate`:
//!
//! | decider | input | output |
//! |---|---|---|
//! | [`machine::plan_machine`] | [`ObservedMachine`](crate::domain::machine::ObservedMachine) (VirtualMachine, instance, node, intents, migrations), [`machine::ClusterFate`], now | the one next [`machine::MachineStep`] |
//! | [`pool::plan_pool`] | [`pool::PoolInput`] (desired pool, its machines, failures so far), the cluster's [`disruption::Ledger`] | [`pool::PoolPlan`]: how many to create, which to remove, which removals to revoke, failures to store |
//! | [`pool::will_go`] | desired pool, machines | what a rollout replaces and a scale-down removes in the end |
//! | [`maintenance::plan_pass`] | [`maintenance::PassInput`]: all maintenances, machines of their infra nodes, evictions, everything away | [`maintenance::PassPlan`]: a status and [`maintenance::Action`]s for each maintenance, and what belongs to none |
//! | [`maintenance::make_plan`] | machines of an infra node, a strategy | the plan that people see |
//! | [`evacuation::plan_evacuation`] | one [`evacuation::ObservedMachine`], a strategy, failed migrations | how it leaves its infra node, and why |
//! | [`disruption::Ledger`] | [`disruption::Disruption`]s: machines that are away or moving | whether another may be taken under [`disruption::Limits`] |
//! | [`drain::plan_drain`] | [`drain::DrainInput`]: the node, every pod on it, refused evictions, a policy; now | the next [`drain::DrainStep`] |
//! | [`quota::allowance`] | a project's [`quota::Quota`] and every pool's [`quota::Claim`] | how many machines one pool may have |
//! | [`node::plan_node`] | a tenant Node, [`node::DesiredNode`] | merge patches |
//! | [`cluster`], [`load_balancer`] | see there | objects and steps of clusters and load balancers |
//!
//! A simulation applies outputs like this: a pool's removal or revocation writes or removes the intent `delete.pool` on the machine
//! (`steading_infra::intent`); a maintenance's `Ask` and `Withdraw` write or remove intents of its owner; everybody else's wish is an intent, too;
//! only [`machine::plan_machine`]'s steps change instances, nodes and VirtualMachines. Each step is repeated until it has come true, so that any of
//! them may be lost.

pub mod cluster;
pub mod digest;
pub mod disruption;
pub mod drain;
pub mod evacuation;
pub mod load_balancer;
pub mod machine;
pub mod maintenance;
pub mod node;
pub mod ownership;
pub mod pool;
pub mod project;
pub mod quota;
pub mod recheck;
pub mod report;
pub mod teardown;
pub mod token;
