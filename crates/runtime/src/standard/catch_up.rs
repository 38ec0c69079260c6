//! Whether an index shows what the API server has.

use kube::api::ListParams;
use steading_api::error::RpcError;
use steading_model::name::Within;

use super::{
    collection::{Collection, ParentOf},
    index::Index,
    read::listing_fault,
};

/// Collections with more resources are not read at the API server because an index is not known to be as new: that would take
/// several requests for each page. Then a list has all writes of this replica, and others' up to the moment that a watch takes.
const SMALL: usize = 500;

/// The version that the index has for certain, if it is not older than what the API server has now (or, for a later page,
/// than the page before it): then a list sees every write that ended before it, on every replica. A large collection's index counts
/// while its watch is live.
pub(super) async fn is_caught_up<C: Collection>(
    collection: &C,
    index: &dyn Index<C::Resource>,
    within: &Within<ParentOf<C>>,
    not_before: &str,
) -> Result<Option<String>, RpcError> {
    let version = if not_before.is_empty() {
        let namespace = within.namespace();
        let api = collection.api(namespace.as_deref());
        let newest = api.list_metadata(&ListParams::default().limit(1)).await;
        let newest = newest.map_err(|e| listing_fault::<C>("", &e))?;
        newest.metadata.resource_version.unwrap_or_default()
    } else {
        not_before.to_owned()
    };
    if index.reaches(&version).await {
        return Ok(Some(version));
    }
    let is_large = index.names(within.namespace().as_deref()).len() > SMALL;
    Ok(if is_large { index.newest() } else { None })
}
