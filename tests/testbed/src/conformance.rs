//! The conformance suite: one list of cases, run against the simulator and against the real control plane, comparing what a client sees.
//!
//! ```text
//! Case ─run in a─► Lab (client, fresh namespace) ─notes─► Transcript ─normalised─► Recording
//! recordings of the real control plane (recordings/) ─compared with─► recordings of the simulator
//! ```
//!
//! A case says what to do and what to note, never what to expect: the recording of the real control plane is the expectation. What must
//! differ is listed with its reason in [`DIFFERENCES`] and in `docs/simulator.md`; every other difference is an error of the simulator.

pub mod api;
pub mod compare;
pub mod differences;
pub mod kubevirt;
pub mod lab;
pub mod run;
pub mod scheduler;
pub mod stream;
pub mod transcript;

use anyhow::Result;
use futures::future::BoxFuture;

pub use self::{
    compare::{Mismatch, compare, load, record, recordings, table},
    differences::{DIFFERENCES, Difference},
    lab::{Answer, Lab, PatchKind, Request},
    run::{Outcome, on, on_simulator, run_all},
    stream::Watch,
    transcript::{Noted, Recording, Transcript, pick},
};

/// Which part of the control plane a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// kube-apiserver and the controllers that every cluster has.
    ApiMachinery,
    /// virt-api, virt-controller and their custom resources.
    KubeVirt,
    /// kube-scheduler.
    Scheduler,
}

impl Area {
    /// The folder of its recordings.
    pub fn folder(self) -> &'static str {
        match self {
            Self::ApiMachinery => "api",
            Self::KubeVirt => "kubevirt",
            Self::Scheduler => "scheduler",
        }
    }
}

/// What a case does.
pub type Run = for<'a> fn(&'a Lab, &'a mut Transcript) -> BoxFuture<'a, Result<()>>;

/// One thing that a client does, and what it is to see.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// A sentence in lower case with hyphens; the name of its recording.
    pub id: &'static str,
    /// What it is about.
    pub area: Area,
    /// Its steps.
    pub run: Run,
}

/// Declares a file's cases: `cases! { Area::ApiMachinery, "creating-twice-is-refused" => creating_twice, … }` makes a function `cases()`.
macro_rules! cases {
    ($area:expr, $($id:literal => $run:path),+ $(,)?) => {
        /// The cases of this file.
        pub(crate) fn cases() -> Vec<$crate::conformance::Case> {
            vec![$($crate::conformance::Case {
                id: $id,
                area: $area,
                run: |lab, transcript| Box::pin($run(lab, transcript)),
            }),+]
        }
    };
}
pub(crate) use cases;

/// Every case.
pub fn all() -> Vec<Case> {
    [api::cases(), kubevirt::cases(), scheduler::cases()].concat()
}
