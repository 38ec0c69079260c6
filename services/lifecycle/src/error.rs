//! What goes wrong inside the service, and what ends it.

use std::time::Duration;

use steading_controller::{Retry, work::RetryPolicy};
use steading_infra::error::{InfraError, Retry as InfraRetry};

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
