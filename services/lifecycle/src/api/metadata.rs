//! Labels and annotations: whose they are.

use std::collections::HashMap;

use kube::api::ObjectMeta;
use steading_infra::labels;
use steading_runtime::standard::Keys;

/// Annotations of requests, and what does not belong to users.
pub const KEYS: Keys = Keys {
    request_id: labels::REQUEST_ID,
    request_hash: labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "intent.steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
        "kubevirt.io/",
        "vm.kubevirt.io/",
    ],
};

/// Labels or annotations as messages carry them.
pub type TextMap = HashMap<String, String>;

/// Writes the user's labels and annotations and our own labels.
#[allow(clippy::implicit_hasher, reason = "the maps are those of generated messages")]
pub fn write_meta(meta: &mut ObjectMeta, user: (&TextMap, &TextMap), own: &[(&str, &str)]) {
    let mut all = KEYS.merge(meta.labels.as_ref(), user.0);
    all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    all.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    meta.labels = Some(all);
    meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), user.1));
}
