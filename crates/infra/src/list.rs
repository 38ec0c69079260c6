//! Reading lists: one page with a continue token, or everything within a bound.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use crate::error::{InfraError, Result};

/// Which page of which objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most that many objects; zero counts as one.
    pub page_size: u32,
    /// Continue token of the page before; `None` for the first.
    pub token: Option<String>,
    /// Label selector; empty takes everything.
    pub label_selector: String,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<K> {
    /// The objects, in the order of their names.
    pub items: Vec<K>,
    /// Continue token for the next page; `None` if this is the last.
    pub next: Option<String>,
    /// The version of the list, fit to start a watch from.
    pub resource_version: String,
}

/// How many objects are read at once while a filter throws most away.
const FILTER_CHUNK: u32 = 250;
/// Chunks read for one page before a short page is returned.
const CHUNKS_PER_PAGE: usize = 20;
/// Chunk size and count of [`all`]: 100,000 objects are ten times what the design has to hold.
const ALL_CHUNK: u32 = 500;
const ALL_CHUNKS: usize = 200;

/// Reads one page of the objects that `keep` likes.
///
/// A page can be shorter than asked for, even empty, and still have a token: the read is bounded.
///
/// # Errors
/// [`InfraError::Expired`] if the token is too old.
pub async fn page<K>(api: &Api<K>, request: &PageRequest, mut keep: impl FnMut(&K) -> bool) -> Result<Page<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let wanted = usize::try_from(request.page_size.max(1)).unwrap_or(usize::MAX);
    let mut token = request.token.clone();
    let mut items = Vec::new();
    let mut limit = request.page_size.max(1);
    let mut resource_version = String::new();
    for _ in 0..CHUNKS_PER_PAGE {
        let chunk = chunk(api, &request.label_selector, limit, token.as_deref()).await?;
        let room = wanted.saturating_sub(items.len());
        let kept: Vec<usize> = chunk
            .items
            .iter()
            .enumerate()
            .filter(|(_, item)| keep(item))
            .map(|(index, _)| index)
            .collect();
        if kept.len() > room {
            // Too many: read exactly up to the last one that fits, so that the token continues right behind it.
            let last = kept.get(room.saturating_sub(1)).copied().unwrap_or(0);
            limit = u32::try_from(last.saturating_add(1)).unwrap_or(FILTER_CHUNK);
            continue;
        }
        resource_version.clone_from(&chunk.resource_version);
        token = chunk.next;
        items.extend(chunk.items.into_iter().filter(|item| keep(item)));
        if token.is_none() || items.len() >= wanted {
            break;
        }
        limit = FILTER_CHUNK.max(request.page_size);
    }
    Ok(Page {
        items,
        next: token,
        resource_version,
    })
}

/// Reads everything that the selector takes.
///
/// # Errors
/// [`InfraError::Invalid`] beyond 100,000 objects.
pub async fn all<K>(api: &Api<K>, label_selector: &str) -> Result<Page<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut items = Vec::new();
    let mut token = None;
    for _ in 0..ALL_CHUNKS {
        let chunk = chunk(api, label_selector, ALL_CHUNK, token.as_deref()).await?;
        items.extend(chunk.items);
        token = chunk.next;
        if token.is_none() {
            return Ok(Page {
                items,
                next: None,
                resource_version: chunk.resource_version,
            });
        }
    }
    Err(InfraError::Invalid("list is longer than 100000 objects".to_owned()))
}

async fn chunk<K>(api: &Api<K>, selector: &str, limit: u32, token: Option<&str>) -> Result<Page<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = ListParams::default().limit(limit);
    if !selector.is_empty() {
        params = params.labels(selector);
    }
    if let Some(token) = token {
        params = params.continue_token(token);
    }
    let list = api.list(&params).await?;
    Ok(Page {
        items: list.items,
        next: list.metadata.continue_.filter(|token| !token.is_empty()),
        resource_version: list.metadata.resource_version.unwrap_or_default(),
    })
}
