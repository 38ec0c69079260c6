//! An in-memory Kubernetes API server, to test controllers and API clients against.
//!
//! [`ApiServer::client`] gives a `kube::Client` in the same process without a socket; [`http::serve`] serves the same server over HTTP for
//! `kubectl` and for other processes. [`faults`] makes it fail on demand, [`counters`] counts its requests, [`time`] is its clock.
//!
//! It has Kubernetes' own kinds and whatever CustomResourceDefinitions are written to it. Everything else is registered from outside:
//! kinds without a definition ([`ApiServer::register`]), admission webhooks ([`AdmissionHook`]) and subresources ([`SubresourceHandler`]).
//! Controllers are no part of it: what acts on objects is an ordinary client.
//!
//! Invariants: every object has one state per revision and watchers see all states in order; what a real API server refuses is refused with
//! the same code, reason and causes; every log, page, body and table of its own is bounded.

pub mod apiserver;
pub mod counters;
pub mod faults;
pub mod http;
pub mod time;

pub use apiserver::{
    Access, AccessReview, Admission, AdmissionHook, ApiError, ApiServer, ApiServerConfig, BareGroup, Body, Cause,
    Change, Collection, Column, Disconnected, ErrorDetails, Event, Identity, Key, Object, Origin, PodDeletion, Query,
    RequestInfo, ResourceDef, Rules, ScalePaths, Scope, Selection, Store, SubresourceHandler, SubresourceRequest, Verb,
    VersionDef,
};
