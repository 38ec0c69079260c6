//! The one builder of errors that clients see.
//!
//! Every `tonic::Status` that Steading makes goes through [`RpcError`], so each has a canonical code, a
//! [`ErrorReason`] in the domain `steading.dev` and the standard details (AIP-193). Each service's
//! `api/status.rs` maps its own errors to this type in one exhaustive match.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::types::v1::ErrorReason;

/// The `domain` of every `google.rpc.ErrorInfo` that Steading sends.
pub const ERROR_DOMAIN: &str = "steading.dev";

/// Bytes of the message, and of one text in the details.
///
/// Status and details travel as HTTP/2 trailers, which gRPC keeps to 8 KiB: a larger section breaks the call in many
/// clients, and an error quotes what the client sent. The message may grow threefold when it is percent-encoded, the
/// details by a third in base64; with [`DETAILS_BYTES`] the worst case stays below that.
const TEXT_BYTES: usize = 768;

/// Bytes of all entries of the details together.
const DETAILS_BYTES: usize = 3072;

/// An error on its way to a client.
///
/// It is one pointer wide: results carry it through every layer, and errors are rare.
#[derive(Debug, Clone)]
pub struct RpcError(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    preconditions: Vec<(String, String, String)>,
    quotas: Vec<(String, String)>,
    resource: Option<(String, String)>,
    retry_after: Option<Duration>,
}

impl RpcError {
    /// An error with its canonical code (see [`code_of`]), reason and a message for people.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code: code_of(reason),
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            preconditions: Vec::new(),
            quotas: Vec::new(),
            resource: None,
            retry_after: None,
        }))
    }

    /// The method is in the contract but not served yet; `docs/status.md` lists it.
    pub fn not_implemented(method: &str) -> Self {
        Self::new(
            ErrorReason::NotImplemented,
            format!("{method} is not served yet; see docs/status.md"),
        )
        .with_metadata("method", method)
    }

    /// The canonical code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The machine-readable cause.
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// Adds a key to `ErrorInfo.metadata`.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a field violation; `path` is the proto field path from the request, such as `machine_pool.replicas`.
    #[must_use]
    pub fn with_field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.fields.push((path.into(), description.into()));
        self
    }

    /// Adds a precondition violation: its type, what it is about and what is wrong.
    #[must_use]
    pub fn with_precondition(
        mut self,
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.0
            .preconditions
            .push((kind.into(), subject.into(), description.into()));
        self
    }

    /// Adds a quota violation: whose quota, and which limit.
    #[must_use]
    pub fn with_quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.quotas.push((subject.into(), description.into()));
        self
    }

    /// Names the resource that the error is about: its type (`MachinePool`) and resource name.
    #[must_use]
    pub fn with_resource(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.0.resource = Some((kind.into(), name.into()));
        self
    }

    /// Says when a retry is worth it.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }
}

/// The canonical code of a reason, as the comments in `error_reason.proto` state it.
pub fn code_of(reason: ErrorReason) -> Code {
    use ErrorReason as R;
    match reason {
        R::InvalidField
        | R::InvalidName
        | R::InvalidFilter
        | R::InvalidPageToken
        | R::InvalidUpdateMask
        | R::ImmutableField
        | R::MalformedRequest => Code::InvalidArgument,
        R::ResourceNotFound => Code::NotFound,
        R::ResourceAlreadyExists | R::RequestIdReused => Code::AlreadyExists,
        R::EtagMismatch | R::Conflict => Code::Aborted,
        R::ResourceInUse
        | R::HasChildren
        | R::ResourceDeleting
        | R::InvalidState
        | R::ReferenceNotFound
        | R::InfraRefused
        | R::CapabilityMissing
        | R::VolumeAttachedElsewhere
        | R::NoCapacity => Code::FailedPrecondition,
        R::StorageClassNotOffered | R::PermissionDenied => Code::PermissionDenied,
        R::QuotaExceeded | R::RequestTooLarge | R::RateLimited | R::WatchOverrun => Code::ResourceExhausted,
        R::Unauthenticated => Code::Unauthenticated,
        R::InfraUnavailable | R::TenantUnavailable | R::PeerUnavailable | R::ShuttingDown => Code::Unavailable,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        R::NotImplemented => Code::Unimplemented,
        R::ResumeTokenExpired => Code::OutOfRange,
        R::Internal | R::Unspecified => Code::Internal,
    }
}

/// The reason as `ErrorInfo` carries it: the enum value's name without its prefix.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// What is left for the entries of an error's details.
struct Room(usize);

impl Room {
    /// The texts of one entry, each shortened to its limit; nothing if there is no room for the entry.
    fn take<const N: usize>(&mut self, texts: [String; N]) -> Option<[String; N]> {
        // Tag and length of a text, and of the entry around them.
        const FRAME: usize = 4;
        let texts = texts.map(shortened);
        let bytes: usize = texts.iter().map(|text| text.len() + FRAME).sum();
        self.0 = self.0.checked_sub(bytes + FRAME)?;
        Some(texts)
    }
}

fn shortened(mut text: String) -> String {
    const MORE: &str = "…";
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES - MORE.len()));
        text.push_str(MORE);
    }
    text
}

impl From<RpcError> for Status {
    /// What would make the error too large to travel is shortened or left out, the last details first.
    fn from(RpcError(error): RpcError) -> Self {
        let error = *error;
        let mut room = Room(DETAILS_BYTES);
        let metadata = error
            .metadata
            .into_iter()
            .filter_map(|pair| room.take(pair.into()))
            .map(<(String, String)>::from)
            .collect::<HashMap<_, _>>();
        let mut details = ErrorDetails::with_error_info(reason_name(error.reason), ERROR_DOMAIN, metadata);
        if let Some([kind, name]) = error.resource.and_then(|pair| room.take(pair.into())) {
            details.set_resource_info(kind, name, "", "");
        }
        for [path, description] in error.fields.into_iter().map_while(|pair| room.take(pair.into())) {
            details.add_bad_request_violation(path, description);
        }
        for [kind, subject, description] in error
            .preconditions
            .into_iter()
            .map_while(|three| room.take(three.into()))
        {
            details.add_precondition_failure_violation(kind, subject, description);
        }
        for [subject, description] in error.quotas.into_iter().map_while(|pair| room.take(pair.into())) {
            details.add_quota_failure_violation(subject, description);
        }
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(error.code, shortened(error.message), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_code_that_its_comment_promises() {
        let proto = include_str!("../../../proto/steading/type/v1/error_reason.proto");
        let mut comment = String::new();
        let mut seen = 0;
        for line in proto.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("//") {
                comment = text.trim().to_owned();
            } else if let Some((name, _)) = line.split_once(" = ")
                && let Some(reason) = ErrorReason::from_str_name(name)
                && reason != ErrorReason::Unspecified
            {
                let promised = comment
                    .trim_end_matches('.')
                    .rsplit([' ', '.'])
                    .next()
                    .unwrap_or_default();
                let code = format!("{:?}", code_of(reason));
                assert_eq!(code.to_uppercase(), promised.replace('_', ""), "{name}");
                seen += 1;
            }
        }
        assert!(seen > 30, "the proto file was not read");
    }

    #[test]
    fn details_carry_reason_domain_and_fields() {
        let status: Status = RpcError::new(ErrorReason::InvalidField, "replicas is negative")
            .with_field("machine_pool.replicas", "must not be negative")
            .into();
        let details = status.get_error_details();
        let info = details.error_info().expect("error info");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("INVALID_FIELD", ERROR_DOMAIN)
        );
        let bad = details.bad_request().expect("bad request");
        assert_eq!(bad.field_violations[0].field, "machine_pool.replicas");
    }

    #[test]
    fn an_error_about_a_huge_request_still_fits_into_trailers() {
        // Three bytes, nine when percent-encoded.
        let quoted = "€".repeat(5_000);
        let mut error = RpcError::new(ErrorReason::InvalidField, quoted.clone()).with_metadata("method", "Get");
        for index in 0..500 {
            error = error.with_field(format!("labels[{index}]"), format!("{quoted} is not a label"));
        }
        let status: Status = error.into();
        let fields = status
            .get_error_details()
            .bad_request()
            .map(|bad| bad.field_violations.clone());
        assert_eq!(fields.expect("bad request")[0].field, "labels[0]");
        let message = status.message().len() * 3;
        let details = status.details().len().div_ceil(3) * 4;
        assert!(message + details < 8 << 10, "{message} and {details} bytes");
    }
}
