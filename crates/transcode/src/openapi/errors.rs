//! The errors that every operation may answer with (AIP-193).

use prost_reflect::DescriptorPool;
use serde_json::{Map, Value, json};

/// Which operations an error can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    WithBody,
}

/// Status (or `default`), component name, text, when.
const ERRORS: [(&str, &str, &str, When); 14] = [
    (
        "400",
        "BadRequest",
        "The request is malformed or invalid (`INVALID_ARGUMENT`, `FAILED_PRECONDITION`, `OUT_OF_RANGE`); details name the fields.",
        When::Always,
    ),
    (
        "401",
        "Unauthenticated",
        "No valid credentials (`UNAUTHENTICATED`).",
        When::Always,
    ),
    (
        "403",
        "PermissionDenied",
        "The caller may not do this (`PERMISSION_DENIED`).",
        When::Always,
    ),
    (
        "404",
        "NotFound",
        "There is no such resource or path (`NOT_FOUND`).",
        When::Always,
    ),
    (
        "409",
        "Conflict",
        "The resource exists already, or was changed meanwhile (`ALREADY_EXISTS`, `ABORTED`).",
        When::Always,
    ),
    (
        "413",
        "ContentTooLarge",
        "The body is larger than the gateway takes (`RESOURCE_EXHAUSTED`).",
        When::WithBody,
    ),
    (
        "415",
        "UnsupportedMediaType",
        "The body's type or encoding is not supported (`INVALID_ARGUMENT`).",
        When::WithBody,
    ),
    (
        "429",
        "ResourceExhausted",
        "A quota or limit is used up (`RESOURCE_EXHAUSTED`).",
        When::Always,
    ),
    (
        "499",
        "Cancelled",
        "The call was cancelled (`CANCELLED`).",
        When::Always,
    ),
    (
        "500",
        "InternalError",
        "The service failed (`INTERNAL`, `UNKNOWN`, `DATA_LOSS`).",
        When::Always,
    ),
    (
        "501",
        "Unimplemented",
        "The method is not implemented (`UNIMPLEMENTED`).",
        When::Always,
    ),
    (
        "503",
        "Unavailable",
        "The service is not there at the moment (`UNAVAILABLE`); try again.",
        When::Always,
    ),
    (
        "504",
        "DeadlineExceeded",
        "The deadline has passed (`DEADLINE_EXCEEDED`).",
        When::Always,
    ),
    ("default", "UnexpectedError", "Any other error.", When::Always),
];

/// Name of the error's component; protobuf types go first.
pub(super) fn schema_name(pool: &DescriptorPool) -> String {
    let mut name = "Error".to_owned();
    while pool.get_message_by_name(&name).is_some() || pool.get_enum_by_name(&name).is_some() {
        name.push('_');
    }
    name
}

/// The schema of an error's body.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "description": "An error, as AIP-193 has it.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "properties": {
                "code": {"type": "integer", "format": "int32", "description": "The HTTP status.", "examples": [404]},
                "message": {"type": "string", "description": "What is wrong, in English, for a developer."},
                "status": {
                    "type": "string",
                    "description": "The canonical code (`google.rpc.Code`).",
                    "enum": [
                        "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
                        "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
                        "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
                    ],
                },
                "details": {
                    "type": "array",
                    "description": "Messages such as `google.rpc.ErrorInfo` and `google.rpc.BadRequest`, each with its `@type`.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {"@type": {"type": "string", "description": "Type URL of the message."}},
                        "additionalProperties": true,
                    },
                },
            },
        }},
    })
}

/// An error as it is sent.
fn example(code: u16, name: &str) -> Value {
    json!({"error": {
        "code": code,
        "message": "what is wrong, for a developer",
        "status": name,
        "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "A_REASON",
            "domain": "example.com",
            "metadata": {},
        }],
    }})
}

/// The shared responses.
pub(super) fn responses(schema: &str) -> Value {
    let content = json!({"application/json": {"schema": {"$ref": format!("{}{schema}", super::schemas::SCHEMAS)}}});
    let response = |(status, name, text, _): &(&str, &str, &str, When)| {
        let mut response = json!({"description": text});
        let number = |text: &str| json!({"description": text, "schema": {"type": "integer", "minimum": 0}});
        let retry = || number("Seconds to wait before the next attempt.");
        let headers = match *status {
            "401" => json!({
                "WWW-Authenticate": {"description": "The challenge (RFC 6750).", "schema": {"type": "string"}},
            }),
            "429" => json!({
                "Retry-After": retry(),
                "RateLimit-Limit": number("Calls that are fine at once."),
                "RateLimit-Remaining": number("Calls that are left of them."),
                "RateLimit-Reset": number("Seconds until all of them are there again."),
            }),
            "503" => json!({"Retry-After": retry()}),
            _ => Value::Null,
        };
        if headers.is_object() {
            response["headers"] = headers;
        }
        response["content"] = content.clone();
        // The text names the codes; the first is the usual one.
        if let (Ok(code), Some(name)) = (status.parse::<u16>(), text.split('`').nth(1)) {
            response["content"]["application/json"]["example"] = example(code, name);
        }
        ((*name).to_owned(), response)
    };
    Value::Object(ERRORS.iter().map(response).collect())
}

/// Adds the errors of an operation to its responses.
pub(super) fn add(responses: &mut Map<String, Value>, has_body: bool) {
    for (status, name, _, when) in ERRORS {
        if when == When::Always || has_body {
            responses.insert(
                status.to_owned(),
                json!({"$ref": format!("#/components/responses/{name}")}),
            );
        }
    }
}
