//! The one paging list: everything or an error, never a silent cut.

use std::fmt::Debug;

use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;

use crate::version::Version;

/// Objects that one request asks for, as in Kubernetes' own reflectors.
pub const PAGE: u32 = 500;
/// Most objects of a list: ten times what the design must hold of any kind, so that a runaway collection cannot take the memory.
pub const MAX_OBJECTS: usize = 200_000;
/// How often a list whose continue token expired begins again.
const ATTEMPTS: usize = 3;

/// A complete list.
#[derive(Debug, Clone)]
pub struct Listed<K> {
    /// The objects, in the API server's order.
    pub items: Vec<K>,
    /// The version of which the list is.
    pub version: Version,
    /// The same as the API server wrote it, to watch from.
    pub resource_version: String,
}

/// Why there is no complete list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server refused or could not be reached.
    #[error("the list cannot be read")]
    Kube(#[from] kube::Error),
    /// The collection is larger than may be held.
    #[error("the list has more than {MAX_OBJECTS} objects")]
    TooMany,
}

/// Reads everything that `params` selects, page by page. Begins again when the pages' version expires meanwhile.
///
/// # Errors
/// If a page cannot be read, or there is more than may be held.
pub async fn list_all<K>(api: &Api<K>, params: &ListParams) -> Result<Listed<K>, ListError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut attempt = 1;
    loop {
        match pages(api, params).await {
            Err(ListError::Kube(kube::Error::Api(status))) if status.code == 410 && attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn pages<K>(api: &Api<K>, params: &ListParams) -> Result<Listed<K>, ListError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = params.clone();
    params.limit.get_or_insert(PAGE);
    let mut items = Vec::new();
    loop {
        let page = api.list(&params).await?;
        items.extend(page.items);
        if items.len() > MAX_OBJECTS {
            return Err(ListError::TooMany);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => {
                let resource_version = page.metadata.resource_version.unwrap_or_default();
                return Ok(Listed {
                    items,
                    version: Version::parse(&resource_version),
                    resource_version,
                });
            }
        }
    }
}
