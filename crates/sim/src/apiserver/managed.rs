//! Who manages which fields (placeholder until the field sets are in).

use serde_json::Value;

use super::{server::Target, status::ApiError, write::Intent};

pub(crate) fn record(_target: &Target<'_>, _old: Option<&Value>, _next: &mut Value, _intent: &Intent) -> Result<(), ApiError> {
    Ok(())
}
