//! Server-side apply.

use serde_json::Value;

use super::{
    patch,
    server::{Answer, Target},
    status::ApiError,
    store::Key,
    write::{self, Intent},
};

pub(crate) async fn answer(target: &Target<'_>, key: &Key, config: Value, force: bool) -> Result<Answer, ApiError> {
    let intent = Intent::Apply { config: config.clone(), force };
    if target.collection.get(key).is_none() {
        match write::create_object(target, config.clone(), intent).await {
            Err(error) if error.reason == "AlreadyExists" => {}
            other => return other.map(|written| written.0),
        }
    }
    let intent = Intent::Apply { config: config.clone(), force };
    write::modify(target, key, intent, |current| {
        let mut next = current.clone();
        patch::merge(&mut next, &config);
        Ok(next)
    })
    .await
}
