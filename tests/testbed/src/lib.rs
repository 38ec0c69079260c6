//! The real test bed: the control planes of Kubernetes and KubeVirt as plain processes on this machine, and the cases to which the
//! simulator is held.
//!
//! ```text
//! etcd ◄─ kube-apiserver ◄─ controller-manager, scheduler, kwok (bare metal, kubelets)
//!                        ◄─ virt-api, virt-controller (KubeVirt's own)
//!                        ◄─ player: the simulation's behaviour controllers, for what has no hardware here
//! etcd ◄─ kube-apiserver ◄─ controller-manager                            (one such pair a tenant cluster)
//! ```
