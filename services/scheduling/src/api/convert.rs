//! Proto ⇄ domain.

pub mod infra_cluster;
pub mod infra_node;
pub mod placement;
pub mod policy;

/// An empty list is an absent one in the Kubernetes API.
pub(crate) fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

/// An empty text is an absent one in the Kubernetes API.
pub(crate) fn some_text(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}
