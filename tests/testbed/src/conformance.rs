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
mod case;
pub mod compare;
pub mod differences;
pub mod kubevirt;
pub mod lab;
pub mod run;
pub mod scheduler;
pub mod stream;
mod suite;
pub mod transcript;

pub use self::{
    case::{Area, Case, Run},
    compare::{Mismatch, compare, load, record, recordings, table},
    differences::{DIFFERENCES, Difference},
    lab::{Answer, Lab, PatchKind, Request},
    run::{Outcome, on, on_simulator, run_all},
    stream::Watch,
    suite::all,
    transcript::{Noted, Recording, Transcript, pick},
};

pub(crate) use self::case::cases;
