//! What went wrong on the way to the infra cluster, and whether trying again helps.

use std::time::Duration;

use kube::core::Status;

/// Result of a call to the infra cluster.
pub type Result<T, E = InfraError> = std::result::Result<T, E>;

/// A failed call to the API server, classed by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum InfraError {
    /// The API server (or a webhook behind it) could not be asked: the state is unknown.
    #[error("the API server is unavailable")]
    Unavailable(#[source] Box<kube::Error>),
    /// The object, or the kind, does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// An object of that name exists already.
    #[error("already exists: {0}")]
    AlreadyExists(String),
    /// Somebody else wrote in between.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The API server refused the content.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// The API server refused the caller, or a quota is used up.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The resume or page token is too old: begin anew.
    #[error("expired: {0}")]
    Expired(String),
    /// Too many requests, or a disruption budget holds an eviction back.
    #[error("too many requests: {message}")]
    TooManyRequests {
        /// What the API server said.
        message: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// Something did not happen in time.
    #[error("timed out waiting for {0}")]
    TimedOut(String),
    /// Anything else.
    #[error("request to the API server failed")]
    Other(#[source] Box<kube::Error>),
}

/// When trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before the request itself is another one.
    Never,
    /// After a fresh read.
    OnChange,
    /// After that long, with the same request.
    After(Duration),
}

/// Pause before a request that failed for want of an API server is tried again.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause when the API server asks to slow down without saying how long.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

impl InfraError {
    /// When trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) | Self::TimedOut(_) => Retry::After(UNAVAILABLE_PAUSE),
            Self::TooManyRequests { retry_after, .. } => Retry::After(retry_after.unwrap_or(BUSY_PAUSE)),
            Self::NotFound(_) | Self::AlreadyExists(_) | Self::Conflict(_) | Self::Expired(_) => Retry::OnChange,
            Self::Invalid(_) | Self::Forbidden(_) | Self::Other(_) => Retry::Never,
        }
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether somebody else wrote in between.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether nothing is known about the outcome.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut(_))
    }

    /// Classes the API server's own words.
    fn from_status(status: Box<Status>) -> Self {
        let message = status.message.clone();
        match (status.code, status.reason.as_str()) {
            (404, _) | (_, "NotFound") => Self::NotFound(message),
            (_, "AlreadyExists") => Self::AlreadyExists(message),
            (409, _) => Self::Conflict(message),
            (403, _) => Self::Forbidden(message),
            (410, _) | (_, "Expired" | "Gone") => Self::Expired(message),
            (400 | 405 | 413 | 415 | 422, _) => Self::Invalid(message),
            (429, _) => Self::TooManyRequests {
                message,
                retry_after: status
                    .details
                    .as_ref()
                    .filter(|details| details.retry_after_seconds > 0)
                    .map(|details| Duration::from_secs(details.retry_after_seconds.into())),
            },
            (500..=599, _) => Self::Unavailable(Box::new(kube::Error::Api(status))),
            _ => Self::Other(Box::new(kube::Error::Api(status))),
        }
    }
}

impl From<kube::Error> for InfraError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(status),
            kube::Error::HyperError(_)
            | kube::Error::Service(_)
            | kube::Error::ReadEvents(_)
            | kube::Error::HttpError(_)
            | kube::Error::Auth(_) => Self::Unavailable(Box::new(error)),
            other => Self::Other(Box::new(other)),
        }
    }
}

impl From<Box<Status>> for InfraError {
    fn from(status: Box<Status>) -> Self {
        Self::from_status(status)
    }
}

/// Makes an answer of "not found" into `None`.
pub fn optional<T>(result: std::result::Result<T, kube::Error>) -> Result<Option<T>> {
    match result.map_err(InfraError::from) {
        Ok(value) => Ok(Some(value)),
        Err(InfraError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classed_by_code_and_reason() {
        let of = |code: u16, reason: &str| InfraError::from(Status::failure("m", reason).with_code(code).boxed());
        assert!(matches!(of(404, "NotFound"), InfraError::NotFound(_)));
        assert!(matches!(of(409, "AlreadyExists"), InfraError::AlreadyExists(_)));
        assert!(matches!(of(409, "Conflict"), InfraError::Conflict(_)));
        assert!(matches!(of(422, "Invalid"), InfraError::Invalid(_)));
        assert!(matches!(of(410, "Expired"), InfraError::Expired(_)));
        assert!(matches!(of(503, "ServiceUnavailable"), InfraError::Unavailable(_)));
        assert_eq!(of(429, "TooManyRequests").retry(), Retry::After(BUSY_PAUSE));
        assert_eq!(of(403, "Forbidden").retry(), Retry::Never);
    }
}
