//! Asking the admission webhooks.

use parking_lot::Mutex;
use serde_json::Value;

use super::{exchange::Target, registry::Admission, status::ApiError};

/// Asks all hooks, in the order in which they were added. Gives what the client is to be told beside the answer.
pub(crate) async fn admit(
    target: &Target<'_>,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    let hooks = target.server.admission().hooks();
    let warnings = Mutex::default();
    let request = Admission {
        info: target.info,
        def: target.def,
        old,
        dry_run: target.info.dry_run(),
        warnings: &warnings,
    };
    for hook in hooks {
        hook.admit(&request, object).await?;
    }
    Ok(warnings.into_inner())
}
