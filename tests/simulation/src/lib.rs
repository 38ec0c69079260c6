//! One seeded world in which the real deciders of all services run against a model of the infra API server, KubeVirt and tenants.
//!
//! No IO and no clock: a step takes microseconds, so that a hundred thousand histories are tried while one would boot. The world is
//! unkind: two leaders that each see any earlier state of each kind, crashes before and after every write, replies lost after the write
//! took place, guests that never boot, nodes that die, pods that do not end, tenants that hang, wishes that are withdrawn, two
//! maintenances of one infra node, templates that change in the middle.
//!
//! ```text
//!   people ──wishes──► world ◄──writes── leaders (view ─► decider ─► operations)
//!                        ▲
//!                      nature (KubeVirt, guests, tenant schedulers, time)
//! ```
//!
//! After each step the promises of DESIGN §9 are checked ([`promises`]); at the end the faults stop, and within bounded rounds everything
//! that is asked for must be done, or say why not.
//!
//! A history is a list of [`step::Step`]s that can be applied to any state, so that a failing one is shortened by leaving steps out.

pub mod history;
pub mod nature;
pub mod people;
pub mod process;
pub mod promises;
pub mod step;
pub mod world;
