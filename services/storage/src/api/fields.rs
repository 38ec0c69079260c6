//! Fields of requests about volumes.

use steading_api::error::RpcError;
use steading_model::{
    name::MachineName,
    quantity::{Quantity, QuantityError},
    violation::Violations,
};

/// Name of a storage class; empty if its id is.
pub(super) fn class_name(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!("storageClasses/{id}")
    }
}

/// The machine that a volume is wanted on, from a request.
///
/// # Errors
/// If the text is not a machine's name.
pub fn parse_machine(text: &str) -> Result<Option<MachineName>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e| RpcError::invalid_name("machine", &e))
}

/// A size from a request; `None` if it is left out.
///
/// # Errors
/// If the text is not a quantity.
pub fn parse_size(text: &str, path: &str) -> Result<Option<Quantity>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e: QuantityError| Violations::one(path, e.to_string()).into())
}
