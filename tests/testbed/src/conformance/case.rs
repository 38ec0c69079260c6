//! What a case is.

use anyhow::Result;
use futures::future::BoxFuture;

use super::{Lab, Transcript};

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
