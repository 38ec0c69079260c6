//! What can go wrong in templating.

use steading_controller::{Retry, RetryPolicy, list::ListError};
use steading_infra::error::InfraError;
use steading_model::{name::NameError, violation::Violations};

/// The rules that are broken, with whole paths.
fn said(field: &str, violations: &Violations) -> String {
    let mut nested = Violations::new();
    nested.nest(field, violations.clone());
    nested.to_string()
}

/// An error of the domain; `api/status.rs` says what clients see of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the resource breaks a rule; paths begin below `field`.
    #[error("{}", said(field, violations))]
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
    /// A name that a field holds is none of the kind that belongs there.
    #[error("{path} is not a name")]
    Name {
        /// Field of the request.
        path: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// What a revision was made with does not exist any longer, so it makes no more machines.
    #[error(
        "revision {revision} was made with content {content} of {image}, which no longer exists; raise refresh of the template to take the present one"
    )]
    ContentMissing {
        /// The revision.
        revision: String,
        /// The image.
        image: String,
        /// Which of its contents.
        content: String,
    },
    /// The infra cluster did not write what was asked.
    #[error("{kind} {name} cannot be written")]
    Write {
        /// Kind of the object.
        kind: &'static str,
        /// The object.
        name: String,
        /// Why.
        #[source]
        source: Box<InfraError>,
    },
    /// The infra cluster did not do what was asked.
    #[error("{kind} {name} cannot be read or written")]
    Infra {
        /// Kind of what was asked for.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// There are more objects of a kind than may be held at once.
    #[error("there are more {kind} objects than can be looked through")]
    TooMany {
        /// The kind.
        kind: &'static str,
    },
    /// The revision does not exist.
    #[error("revision {0} does not exist")]
    UnknownRevision(String),
    /// A stored object cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(String),
}

impl Error {
    /// An error of the infra cluster about something.
    pub fn infra(kind: &'static str, name: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let name = name.into();
        move |source| Self::Infra {
            kind,
            name,
            source: Box::new(source),
        }
    }

    /// An error of a write to the infra cluster.
    pub fn write(kind: &'static str, name: impl Into<String>) -> impl FnOnce(InfraError) -> Self {
        let name = name.into();
        move |source| Self::Write {
            kind,
            name,
            source: Box::new(source),
        }
    }

    /// An error of a list of the infra cluster about something.
    pub fn list(kind: &'static str, name: impl Into<String>) -> impl FnOnce(ListError) -> Self {
        let name = name.into();
        move |error| match error {
            ListError::Kube(error) => Self::infra(kind, name)(error),
            ListError::TooMany => Self::TooMany { kind },
        }
    }

    /// Whether nothing is known, rather than that something is wrong: it is tried again.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Infra { .. } | Self::Write { .. } | Self::TooMany { .. } => true,
            Self::Invalid { .. }
            | Self::ReadOnly { .. }
            | Self::InUse { .. }
            | Self::Reference { .. }
            | Self::Name { .. }
            | Self::ContentMissing { .. }
            | Self::UnknownRevision(_)
            | Self::Unreadable(_) => false,
        }
    }
}

impl RetryPolicy for Error {
    fn retry(&self) -> Retry {
        if self.is_unknown() {
            Retry::Backoff
        } else {
            Retry::OnChange
        }
    }
}

/// What ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A background task died.
    #[error("a task of the service ended")]
    Task(#[from] steading_runtime::tasks::TaskError),
}
