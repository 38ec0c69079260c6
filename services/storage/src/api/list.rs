//! Pages of volumes, from the indexes.
//!
//! A first page is as new as the API server wherever that costs little: its version is asked for, and if the index is not known
//! to be that new, a small cluster is listed there. A large one is answered from the index as long as its watches are live: then
//! it has all writes of this replica, and others' up to the moment that a watch takes. Further pages continue behind a name, so
//! that nothing is repeated or skipped.

use std::time::Duration;

use kube::api::ListParams;
use steading_api::{error::RpcError, reflect, storage::v1 as proto};
use steading_controller::{ObjectRef, Version};
use steading_infra::labels;
use steading_model::{filter::Filter, name::ClusterName, page::PageRequest, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{self, Collection, ListRequest},
};

use super::volumes::{Volumes, parse_cluster};

/// How long a page waits for the index to become as new as the API server.
const PATIENCE: Duration = Duration::from_millis(50);
/// Clusters with at most so many volumes are listed at the API server if the index is not known to be as new: one request.
const SMALL: usize = 500;
/// Volumes that are looked at between two pauses while a filter throws most away.
const CHUNK: usize = 256;

/// Returns one page in order of the names, and the token of the next.
///
/// # Errors
/// If a parameter is wrong or the caller may not.
pub async fn list(
    volumes: &Volumes,
    context: &CallContext,
    request: &ListRequest,
) -> Result<(Vec<proto::Volume>, String), RpcError> {
    let cluster = parse_cluster(&request.parent)?;
    if !matches!(request.order_by.as_str(), "" | "name") {
        return Err(Violations::one("order_by", "only name is possible").into());
    }
    let known = reflect::filter_fields(Volumes::MESSAGE);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let filter = Filter::parse(&request.filter, &known)?;
    let binding = [Volumes::MESSAGE, &request.parent, &request.filter, &request.order_by];
    let asked = PageRequest::parse(request.page_size, &request.page_token, &binding)?;
    context
        .authorize(Action::new(Verb::List, Volumes::KIND, &request.parent))
        .await?;
    if asked.cursor().is_none() && !is_current(volumes, &cluster).await {
        return collection::list(volumes, context, request).await;
    }
    page(volumes, &cluster, &asked, &filter)
}

/// Whether a list may be answered from the index.
async fn is_current(volumes: &Volumes, cluster: &ClusterName) -> bool {
    let source = &volumes.observed.volumes;
    if !source.health().is_live() {
        return false;
    }
    let newest = ListParams::default().limit(1).labels(labels::VOLUME);
    let Ok(list) = volumes.objects(&cluster.namespace()).list_metadata(&newest).await else {
        return false;
    };
    let version = Version::of(list.metadata.resource_version.as_ref());
    let reached = version != Version::NONE
        && (source.index().version() >= version
            || tokio::time::timeout(PATIENCE, source.index().reaches(version))
                .await
                .is_ok());
    reached || source.index().in_namespace(&cluster.namespace()).len() > SMALL
}

/// One page out of the index.
///
/// # Errors
/// If the filter does not fit.
pub fn page(
    volumes: &Volumes,
    cluster: &ClusterName,
    asked: &PageRequest,
    filter: &Filter,
) -> Result<(Vec<proto::Volume>, String), RpcError> {
    let namespace = cluster.namespace();
    let lens = volumes.lens();
    let index = volumes.observed.volumes.index();
    let prefix = format!("{cluster}/volumes/");
    // The cursor is a resource name, as in lists that the API server answers.
    let mut place = asked
        .cursor()
        .and_then(|cursor| cursor.strip_prefix(&prefix))
        .map(|id| ObjectRef::new(&namespace, id));
    let mut page: Vec<proto::Volume> = Vec::with_capacity(asked.size());
    let chunk = if filter.is_empty() { asked.size() + 1 } else { CHUNK };
    loop {
        let found = index.page(Some(&namespace), place.as_ref(), chunk);
        let whole = found.len() < chunk;
        for (object, volume) in found {
            place = Some(object);
            let message = volumes.render_through(volume, &lens);
            if !filter.is_empty()
                && !filter.matches(&reflect::Filterable(reflect::dynamic(Volumes::MESSAGE, &message)?))
            {
                continue;
            }
            if page.len() == asked.size() {
                let token = page.last().map(|last| asked.next_token(&last.name)).unwrap_or_default();
                return Ok((page, token));
            }
            page.push(message);
        }
        if whole {
            return Ok((page, String::new()));
        }
    }
}
