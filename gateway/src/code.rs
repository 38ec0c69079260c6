//! Canonical codes: their names, their HTTP statuses and back.

use http::StatusCode;

/// A canonical code (google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the canonical codes")]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// By number: name, HTTP status.
const TABLE: [(Code, &str, u16); 17] = [
    (Code::Ok, "OK", 200),
    (Code::Cancelled, "CANCELLED", 499),
    (Code::Unknown, "UNKNOWN", 500),
    (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Code::NotFound, "NOT_FOUND", 404),
    (Code::AlreadyExists, "ALREADY_EXISTS", 409),
    (Code::PermissionDenied, "PERMISSION_DENIED", 403),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Code::Aborted, "ABORTED", 409),
    (Code::OutOfRange, "OUT_OF_RANGE", 400),
    (Code::Unimplemented, "UNIMPLEMENTED", 501),
    (Code::Internal, "INTERNAL", 500),
    (Code::Unavailable, "UNAVAILABLE", 503),
    (Code::DataLoss, "DATA_LOSS", 500),
    (Code::Unauthenticated, "UNAUTHENTICATED", 401),
];

impl Code {
    /// The code of a number; numbers that are none are `UNKNOWN`.
    pub fn from_number(number: u32) -> Self {
        TABLE.get(number as usize).map_or(Self::Unknown, |(code, ..)| *code)
    }

    fn row(self) -> (&'static str, u16) {
        TABLE
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or(("UNKNOWN", 500), |(_, name, status)| (*name, *status))
    }

    /// Its number in `grpc-status`.
    pub fn number(self) -> usize {
        TABLE.iter().position(|(code, ..)| *code == self).unwrap_or(2)
    }

    /// Its name, such as `NOT_FOUND`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Its HTTP status.
    pub fn http(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What an HTTP status means that came where a gRPC reply should have been.
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}
