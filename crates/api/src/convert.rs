//! Conversions between the wire and the vocabulary of [`steading_model`]: times, JSON values, and what the
//! model's refusals mean for a client.

use prost_types::{Timestamp, value::Kind};
use serde_json::Value;
use steading_model::{filter::FilterError, name::NameError, page::PageError, violation::Violations};

use crate::{
    error::RpcError,
    types::v1::{ErrorReason, WatchEventType},
};

/// The wire form of a point in time.
pub fn timestamp(time: jiff::Timestamp) -> Timestamp {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    // The wire counts nanoseconds forward from the second, also before 1970.
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    Timestamp { seconds, nanos }
}

/// A point in time from the wire; `None` if it is out of range.
pub fn time(timestamp: &Timestamp) -> Option<jiff::Timestamp> {
    let nanos = (0..1_000_000_000)
        .contains(&timestamp.nanos)
        .then_some(timestamp.nanos)?;
    jiff::Timestamp::new(timestamp.seconds, nanos).ok()
}

/// The wire form of a length of time; the longest one if it does not fit.
pub fn duration(length: std::time::Duration) -> prost_types::Duration {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration {
        seconds,
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default(),
    }
}

/// A JSON object on the wire; `None` if the value is no object.
pub fn json_struct(value: &Value) -> Option<prost_types::Struct> {
    let fields = value
        .as_object()?
        .iter()
        .map(|(key, value)| (key.clone(), json_value(value)));
    Some(prost_types::Struct {
        fields: fields.collect(),
    })
}

/// A JSON value on the wire. Numbers beyond 2^53 lose digits, as everywhere in `google.protobuf.Value`.
pub fn json_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(json_value).collect(),
        }),
        Value::Object(_) => Kind::StructValue(json_struct(value).unwrap_or_default()),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A length of time from the wire; `None` if it is negative or malformed.
pub fn length(duration: &prost_types::Duration) -> Option<std::time::Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|n| *n < 1_000_000_000)?;
    Some(std::time::Duration::new(seconds, nanos))
}

impl WatchEventType {
    /// The text of the type without its prefix, for people.
    pub fn short_name(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("WATCH_EVENT_TYPE_").unwrap_or(name)
    }
}

impl From<Violations> for RpcError {
    fn from(violations: Violations) -> Self {
        let mut error = Self::new(ErrorReason::InvalidField, violations.to_string());
        for violation in violations {
            error = error.with_field(violation.path, violation.description);
        }
        error
    }
}

impl RpcError {
    /// A resource name in the request's field `path` does not parse.
    pub fn invalid_name(path: &str, error: &NameError) -> Self {
        let description = error.describe();
        Self::new(ErrorReason::InvalidName, format!("{path}: {description}")).with_field(path, description)
    }

    /// There is no such resource.
    pub fn not_found(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ErrorReason::ResourceNotFound, format!("{name} does not exist")).with_resource(kind, name.to_string())
    }

    /// A resource of this name exists already.
    pub fn already_exists(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ErrorReason::ResourceAlreadyExists, format!("{name} exists already"))
            .with_resource(kind, name.to_string())
    }

    /// The etag of the request is not the resource's present one.
    pub fn etag_mismatch(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorReason::EtagMismatch,
            format!("{name} changed since it was read; read it again"),
        )
        .with_resource(kind, name.to_string())
    }

    /// A fault of ours. The cause belongs into the log, not into the answer.
    pub fn internal() -> Self {
        Self::new(
            ErrorReason::Internal,
            "internal error; the service's log has it under the request id",
        )
    }
}

impl From<FilterError> for RpcError {
    fn from(error: FilterError) -> Self {
        Self::new(ErrorReason::InvalidFilter, error.to_string()).with_field("filter", error.to_string())
    }
}

impl From<PageError> for RpcError {
    fn from(error: PageError) -> Self {
        let (reason, path) = match error {
            PageError::NegativeSize(_) => (ErrorReason::InvalidField, "page_size"),
            PageError::Malformed | PageError::OtherRequest => (ErrorReason::InvalidPageToken, "page_token"),
        };
        Self::new(reason, error.to_string()).with_field(path, error.to_string())
    }
}

/// The reason that a status carries, if a Steading service made it.
pub fn reason_of(status: &tonic::Status) -> Option<ErrorReason> {
    use tonic_types::StatusExt;
    let info = status
        .get_details_error_info()
        .filter(|i| i.domain == crate::error::ERROR_DOMAIN)?;
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

#[cfg(test)]
mod tests {
    use steading_model::name::ClusterName;

    use super::*;

    #[test]
    fn times_survive_the_wire() {
        for text in [
            "2026-03-01T10:00:00.5Z",
            "1969-12-31T23:59:59.25Z",
            "1970-01-01T00:00:00Z",
        ] {
            let at: jiff::Timestamp = text.parse().expect("a time");
            let wire = timestamp(at);
            assert!((0..1_000_000_000).contains(&wire.nanos), "{text}");
            assert_eq!(time(&wire), Some(at), "{text}");
        }
        assert_eq!(
            time(&Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
        assert_eq!(time(&Timestamp { seconds: 0, nanos: -1 }), None);
    }

    #[test]
    fn lengths_survive_the_wire() {
        let length_in = std::time::Duration::from_millis(1500);
        assert_eq!(length(&duration(length_in)), Some(length_in));
        assert_eq!(length(&prost_types::Duration { seconds: -1, nanos: 0 }), None);
    }

    #[test]
    fn refusals_have_their_reasons_and_fields() {
        let name = "projects/X"
            .parse::<ClusterName>()
            .map_err(|e| RpcError::invalid_name("name", &e));
        let cases = [
            (name.map(|_| ()), ErrorReason::InvalidName),
            (Err(PageError::Malformed.into()), ErrorReason::InvalidPageToken),
            (Err(PageError::NegativeSize(-1).into()), ErrorReason::InvalidField),
            (Err(FilterError::TooLong.into()), ErrorReason::InvalidFilter),
            (
                Err(Violations::one("cpu", "must be set").into()),
                ErrorReason::InvalidField,
            ),
        ];
        for (result, reason) in cases {
            let error = result.expect_err("a refusal");
            assert_eq!(error.reason(), reason);
            assert_eq!(reason_of(&tonic::Status::from(error)), Some(reason));
        }
    }
}
