//! What can go wrong in scheduling.

use steading_controller::list::ListError;
use steading_infra::error::InfraError;
use steading_model::violation::Violations;

/// An error of the domain; `api/status.rs` says what clients see of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A policy breaks rules.
    #[error("the policy is not valid")]
    InvalidPolicy(#[source] Violations),
    /// The infra node does not exist.
    #[error("infra node {0} does not exist")]
    UnknownInfraNode(String),
    /// The named policy does not exist.
    #[error("placement policy {0} does not exist")]
    UnknownPolicy(String),
    /// A project's own policy or instance type is asked for by another project.
    #[error("{name} belongs to another project than {project}")]
    OtherProject {
        /// The resource.
        name: String,
        /// The project that asks.
        project: String,
    },
    /// The named instance type does not exist or has no size.
    #[error("instance type {0} does not exist")]
    UnknownInstanceType(String),
    /// As many solves are under way as may be, and more wait than may wait.
    #[error("the solver is busy")]
    Busy,
    /// A solve ended without an answer.
    #[error("the solver failed")]
    SolverFailed,
    /// The policy `default` cannot be deleted.
    #[error("the policy default is used wherever none is named and cannot be deleted")]
    DefaultPolicy,
    /// There is one infra cluster, of one name.
    #[error("{0:?} is not \"infraCluster\", the only infra cluster")]
    NotInfraCluster(String),
    /// What the infra cluster can do cannot be read.
    #[error("the infra cluster does not say what it can do")]
    Capabilities(#[source] InfraError),
    /// Not every kind has been listed yet; this is what is missing.
    #[error("the infra cluster has not been read yet: {0}")]
    NotSynced(String),
    /// The token of a watch is not that of the newest change: what changed since is not kept.
    #[error("infra nodes have changed since the token; watch from the beginning")]
    TokenExpired,
    /// The method is in the contract and not served yet.
    #[error("{0} is not implemented yet")]
    NotImplemented(&'static str),
    /// Machine pools cannot be listed.
    #[error("machine pools cannot be listed")]
    Pools(#[source] ListError),
    /// Pools still use the policy.
    #[error("placement policy {policy} is used by {pools:?}")]
    PolicyInUse {
        /// The policy.
        policy: String,
        /// Some of the pools.
        pools: Vec<String>,
    },
}

/// What ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The server cannot serve.
    #[error("grpc server failed")]
    Server(#[from] steading_runtime::server::ServerError),
    /// A background task died.
    #[error("a task of the service ended")]
    Task(#[from] steading_runtime::tasks::TaskError),
}
