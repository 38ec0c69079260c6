//! What can go wrong in templating.

use steading_model::violation::Violations;

/// An error of the domain; `api/status.rs` says what clients see of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the resource breaks a rule; paths begin below `field`.
    #[error("{field} is not valid")]
    Invalid {
        /// The resource's field in the request.
        field: &'static str,
        /// The rules that are broken.
        violations: Violations,
    },
    /// The resource is not made through this API.
    #[error("{name} belongs to {owner} and is only read here")]
    ReadOnly {
        /// Kind of the resource.
        kind: &'static str,
        /// The resource.
        name: String,
        /// Who makes it.
        owner: &'static str,
    },
    /// Others use the resource.
    #[error("{name} is used by {}", users.join(", "))]
    InUse {
        /// Kind of the resource.
        kind: &'static str,
        /// The resource.
        name: String,
        /// Some of those that use it.
        users: Vec<String>,
    },
    /// A resource that is referred to does not exist, or is none of the project's business.
    #[error("{path}: {name} does not exist")]
    Reference {
        /// Field of the request.
        path: String,
        /// Kind of what is referred to.
        kind: &'static str,
        /// What is referred to.
        name: String,
    },
    /// The revision does not exist.
    #[error("revision {0} does not exist")]
    UnknownRevision(String),
    /// A stored object cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(String),
}

/// What ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A background task died.
    #[error("a task of the service ended")]
    Task(#[from] steading_runtime::tasks::TaskError),
}
