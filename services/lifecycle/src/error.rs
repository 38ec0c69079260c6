//! What goes wrong inside the service, and what ends it.

use std::time::Duration;

use steading_controller::{Retry, RetryPolicy};
use steading_infra::{
    error::{InfraError, Retry as InfraRetry},
    labels,
};
use steading_model::violation::Violations;

use crate::plan::ownership::NamespaceOwnership;

/// An error of one reconciliation or call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The infra cluster.
    #[error("the infra cluster refused or cannot be reached")]
    Infra(#[from] InfraError),
    /// A tenant cluster.
    #[error("tenant cluster {cluster} refused or cannot be reached")]
    Tenant {
        /// Namespace of the cluster.
        cluster: String,
        /// Why.
        #[source]
        source: InfraError,
    },
    /// Another service.
    #[error("{service} refused: {message}")]
    Peer {
        /// The service.
        service: &'static str,
        /// Its code.
        code: tonic::Code,
        /// What it said.
        message: String,
    },
    /// Machines cannot be made without their tenant.
    #[error("machines are made once the tenant api server answers")]
    TenantUnreachable,
    /// An answer that cannot be used.
    #[error("{0}")]
    Malformed(String),
}

/// Pause after an error that nothing else will wake up from.
const PAUSE: Duration = Duration::from_secs(30);

impl Error {
    /// An error of a tenant's API server.
    pub fn tenant(cluster: &str, error: kube::Error) -> Self {
        Self::Tenant {
            cluster: cluster.to_owned(),
            source: error.into(),
        }
    }

    /// An answer of a peer.
    pub fn peer(service: &'static str) -> impl Fn(tonic::Status) -> Self {
        move |status| Self::Peer {
            service,
            code: status.code(),
            message: status.message().to_owned(),
        }
    }

    /// Whether the peer says that what was asked for is wrong, rather than being away.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Peer {
                code: tonic::Code::InvalidArgument
                    | tonic::Code::NotFound
                    | tonic::Code::FailedPrecondition
                    | tonic::Code::PermissionDenied
                    | tonic::Code::Unimplemented,
                ..
            }
        )
    }
}

impl RetryPolicy for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Infra(error) | Self::Tenant { source: error, .. } => match error.retry() {
                InfraRetry::After(pause) => Retry::After(pause.max(Duration::from_secs(1))),
                InfraRetry::OnChange => Retry::Backoff,
                InfraRetry::Never => Retry::After(PAUSE),
            },
            Self::Peer { .. } => Retry::Backoff,
            Self::TenantUnreachable | Self::Malformed(_) => Retry::After(PAUSE),
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Infra(error.into())
    }
}

/// Why a call is refused; `api/status.rs` says what clients see of it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A resource breaks rules.
    #[error("the {field} is not valid")]
    Invalid {
        /// Field of the resource in requests, below which the paths are.
        field: &'static str,
        /// The rules.
        #[source]
        violations: Violations,
    },
    /// A pool's Kubernetes version does not go with its control plane's.
    #[error("machine_pool.kubernetes_version: {0}")]
    VersionSkew(String),
    /// What a field refers to does not exist.
    #[error("{name} does not exist")]
    ReferenceNotFound {
        /// Path of the field.
        path: &'static str,
        /// Kind of what is referred to.
        kind: &'static str,
        /// What is referred to.
        name: String,
    },
    /// What a request is about is being deleted.
    #[error("{name} is being deleted")]
    Terminating {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The project's quota would be exceeded.
    #[error("the quota of {project} for {what} would be exceeded")]
    QuotaExceeded {
        /// The project.
        project: String,
        /// Of what.
        what: &'static str,
    },
    /// The namespace of a cluster is not the cluster's.
    #[error("{}", not_own(namespace, *ownership))]
    ForeignNamespace {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// Whose it is.
        ownership: NamespaceOwnership,
    },
    /// Control planes of ours are not served.
    #[error("managed control planes cannot be made yet; give an external one")]
    ManagedControlPlane,
    /// A cluster has no kubeconfig.
    #[error("{0} has no kubeconfig yet")]
    NoKubeconfig(String),
    /// A kubeconfig that came with a request could not be stored.
    #[error("the kubeconfig could not be stored; repeat the request")]
    KubeconfigNotStored(#[source] Error),
    /// The state of a maintenance does not allow it.
    #[error("{name} is {state}: {what}")]
    MaintenanceState {
        /// The maintenance.
        name: String,
        /// Its state.
        state: &'static str,
        /// What is not allowed, or to be done first.
        what: &'static str,
    },
    /// A maintenance is to be started by a plan that is not the current one.
    #[error("the plan of {name} is now {plan}")]
    OtherPlan {
        /// The maintenance.
        name: String,
        /// Id of its plan.
        plan: String,
    },
    /// The machines that a pool wants cannot be rendered.
    #[error("the machines of {pool} cannot be rendered: {source}")]
    NotRendered {
        /// The pool.
        pool: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// A reader of a watch fell too far behind.
    #[error("the reader was too slow; resume with the last token")]
    WatchOverrun,
    /// The method is in the contract and not served yet.
    #[error("{0} is not implemented yet")]
    NotImplemented(&'static str),
    /// The infra cluster did not do what was asked.
    #[error("{name} cannot be read or written")]
    Infra {
        /// Kind of what was asked for.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Why.
        #[source]
        source: InfraError,
    },
}

impl Refusal {
    /// An error of the infra cluster about something.
    pub fn infra(kind: &'static str, name: impl ToString) -> impl FnOnce(InfraError) -> Self {
        let name = name.to_string();
        move |source| Self::Infra { kind, name, source }
    }
}

fn not_own(namespace: &str, ownership: NamespaceOwnership) -> String {
    match ownership {
        NamespaceOwnership::OfFormer => {
            format!("namespace {namespace} was made for another cluster of this name; delete it first")
        }
        NamespaceOwnership::Foreign
        | NamespaceOwnership::Absent
        | NamespaceOwnership::Made
        | NamespaceOwnership::Lent => format!(
            "namespace {namespace} exists and is not this cluster's; label it {} and {} to have it used",
            labels::PROJECT,
            labels::CLUSTER
        ),
    }
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
