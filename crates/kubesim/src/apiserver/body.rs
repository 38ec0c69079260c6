//! What was sent.

use bytes::Bytes;
use serde_json::Value;

use super::{dig, protobuf, status::ApiError};

/// Parses a body as JSON, or as YAML where the content type allows it.
pub(crate) fn decode(body: &Bytes, content_type: &str) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let yaml = content_type.contains("yaml");
    if content_type.contains("protobuf") {
        return protobuf::decode(body);
    }
    if content_type.contains("cbor") {
        return Err(ApiError::unsupported_media_type(
            "accepted media types include: application/json, application/yaml",
        ));
    }
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(error) if !yaml => Err(ApiError::bad_request(format!("error decoding the body: {error}"))),
        Err(_) => {
            let text = std::str::from_utf8(body).map_err(|_| ApiError::bad_request("the body is not UTF-8"))?;
            serde_saphyr::from_str(text)
                .map_err(|error| ApiError::bad_request(format!("error decoding the body: {error}")))
        }
    }
}

/// Whether name and namespace of what was sent are those of the path.
pub(crate) fn check_identity(sent: &Value, name: &str, namespace: &str) -> Result<(), ApiError> {
    let said = dig::meta(sent, "name");
    if said.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if said != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({name})"
        )));
    }
    let said = dig::meta(sent, "namespace");
    if !said.is_empty() && said != namespace && !namespace.is_empty() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
