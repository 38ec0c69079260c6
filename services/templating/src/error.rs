//! What can go wrong in templating.

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

    /// Whether nothing is known, rather than that something is wrong: it is tried again.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Infra { .. } => true,
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

/// What ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A background task died.
    #[error("a task of the service ended")]
    Task(#[from] steading_runtime::tasks::TaskError),
}
