//! The real test bed: the control planes of Kubernetes and KubeVirt as plain processes on this machine, and the cases to which the
//! simulator is held.
//!
//! ```text
//! etcd ◄─ kube-apiserver ◄─ controller-manager, scheduler, kwok (bare metal, kubelets)
//!                        ◄─ virt-api, virt-controller (KubeVirt's own)
//!                        ◄─ player: the simulation's behaviour controllers, for what has no hardware here
//! etcd ◄─ kube-apiserver ◄─ controller-manager                            (one such pair a tenant cluster)
//! ```
//!
//! A supervisor keeps the processes running and takes them with it when it ends, however it ends.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for people talks on stdout"
)]

pub mod arguments;
pub mod binaries;
pub mod bring_up;
pub mod certificates;
pub mod clients;
pub mod command;
pub mod conform;
pub mod conformance;
pub mod control_plane;
pub mod home;
mod interrupts;
pub mod kubevirt;
pub mod objects;
pub mod play;
pub mod progress;
pub mod requests;
pub mod snapshot;
pub mod state;
pub mod storage_apis;
pub mod supervise;
pub mod supervisor;
pub mod testbed;
