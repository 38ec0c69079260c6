//! List: pages in the order of resource names.

use std::collections::BTreeMap;

use steading_api::{
    error::RpcError,
    reflect,
    standard::{ListQuery, Resource},
    types::v1::ErrorReason,
};
use steading_model::{
    filter::Filter,
    name::{ParentName, Within},
    page::PageRequest,
};

use super::{
    Collection, Index, ParentOf,
    catch_up::is_caught_up,
    collection::kind,
    read::{Chunks, is_expired, listing_fault, passes, require_parent, seal, unsealed},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

/// Attempts at one list: its version expires after minutes, so a second loss means that reading is too slow.
const MAX_ATTEMPTS: usize = 3;

pub(super) async fn list<C: Collection>(
    collection: &C,
    context: &CallContext,
    query: &ListQuery,
) -> Result<(Vec<C::Resource>, String), RpcError> {
    let within = ParentOf::<C>::parse_within(&query.parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
    if !matches!(query.order_by.as_str(), "" | "name") {
        let text = "order_by: only name is possible";
        return Err(RpcError::new(ErrorReason::InvalidField, text).with_field("order_by", "only name is possible"));
    }
    let message = <C::Resource as Resource>::MESSAGE;
    let filter = reflect::filter(message, &query.filter)?;
    let binding = [message, &query.parent, &query.filter];
    let request = PageRequest::parse(query.page_size, &query.page_token, &binding)?;
    let start = Start::parse(&request)?;
    context
        .authorize(Action::new(Verb::List, kind::<C>(), &query.parent))
        .await?;
    collection.available().await?;
    let asked = Asked {
        collection,
        within: &within,
        parent: &query.parent,
        filter: &filter,
    };
    let mut page = Page::new(start.name, request.size());
    let version = asked.read(&mut page, start.version).await?;
    if page.is_empty_collection {
        require_parent(collection, &within, &query.parent).await?;
    }
    let (items, last) = page.cut();
    let items = items.into_iter().map(seal).collect::<Result<Vec<_>, _>>()?;
    let token = last.map(|name| request.next_token(&format!("{version} {name}")));
    Ok((items, token.unwrap_or_default()))
}

/// Where a page begins: behind a name, not older than the page before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Start<'a> {
    version: &'a str,
    name: &'a str,
}

impl<'a> Start<'a> {
    fn parse(request: &'a PageRequest) -> Result<Self, RpcError> {
        let Some(cursor) = request.cursor() else {
            return Ok(Self::default());
        };
        let malformed = || RpcError::from(steading_model::page::PageError::Malformed);
        let (version, name) = cursor.split_once(' ').ok_or_else(malformed)?;
        Ok(Self { version, name })
    }
}

/// What a list asks for.
struct Asked<'a, C: Collection> {
    collection: &'a C,
    within: &'a Within<ParentOf<C>>,
    parent: &'a str,
    filter: &'a Filter,
}

impl<C: Collection> Asked<'_, C> {
    /// Fills the page, and returns the version that it shows.
    async fn read(&self, page: &mut Page<C::Resource>, not_before: &str) -> Result<String, RpcError> {
        if let Some(index) = self.collection.index()
            && let Some(version) = is_caught_up(self.collection, index.as_ref(), self.within, not_before).await?
        {
            self.read_index(index.as_ref(), page)?;
            return Ok(version);
        }
        for attempt in 1.. {
            match self.read_api_server(page).await? {
                Some(version) => return Ok(version),
                None if attempt < MAX_ATTEMPTS => page.clear(),
                None => break,
            }
        }
        let text = "the list changes faster than it can be read; ask for a narrower parent";
        Err(RpcError::new(ErrorReason::InfraUnavailable, text))
    }

    fn read_index(&self, index: &dyn Index<C::Resource>, page: &mut Page<C::Resource>) -> Result<(), RpcError> {
        let mut names: Vec<String> = index.names(self.within.namespace().as_deref());
        names.retain(|name| name.parse().is_ok_and(|name| self.within.contains::<C::Name>(&name)));
        page.is_empty_collection = names.is_empty();
        names.sort_unstable();
        let first = names.partition_point(|name| name.as_str() <= page.after.as_str());
        for name in names.iter().skip(first) {
            if page.is_full() {
                break;
            }
            if let Some(resource) = index.get(name)
                && passes(self.filter, &resource)?
            {
                page.offer(resource);
            }
        }
        Ok(())
    }

    /// Reads all objects in chunks and keeps no more than the page needs. `None` if the list has to begin again.
    async fn read_api_server(&self, page: &mut Page<C::Resource>) -> Result<Option<String>, RpcError> {
        let namespace = self.within.namespace();
        let api = self.collection.api(namespace.as_deref());
        let mut chunks = Chunks::new(api, &self.collection.selector(self.within));
        loop {
            let chunk = match chunks.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Some(chunks.version)),
                Err(error) if is_expired(&error) => return Ok(None),
                Err(error) => return Err(listing_fault::<C>(self.parent, &error)),
            };
            for object in &chunk {
                let Some(resource) = unsealed(self.collection, object) else {
                    continue;
                };
                if !resource
                    .name()
                    .parse()
                    .is_ok_and(|name| self.within.contains::<C::Name>(&name))
                {
                    continue;
                }
                page.is_empty_collection = false;
                if page.wants(resource.name()) && passes(self.filter, &resource)? {
                    page.offer(resource);
                }
            }
        }
    }
}

/// The smallest names behind the start, and one more that tells whether there is a next page.
struct Page<R> {
    after: String,
    size: usize,
    best: BTreeMap<String, R>,
    is_empty_collection: bool,
}

impl<R: Resource> Page<R> {
    fn new(after: &str, size: usize) -> Self {
        Self {
            after: after.to_owned(),
            size,
            best: BTreeMap::new(),
            is_empty_collection: true,
        }
    }

    fn clear(&mut self) {
        self.best.clear();
        self.is_empty_collection = true;
    }

    fn is_full(&self) -> bool {
        self.best.len() > self.size
    }

    fn wants(&self, name: &str) -> bool {
        let last = self.best.last_key_value().map(|(last, _)| last.as_str());
        name > self.after.as_str() && (!self.is_full() || last.is_some_and(|last| name < last))
    }

    fn offer(&mut self, resource: R) {
        self.best.insert(resource.name().to_owned(), resource);
        if self.best.len() > self.size + 1 {
            self.best.pop_last();
        }
    }

    /// The page, and its last name if there is more behind it.
    fn cut(mut self) -> (Vec<R>, Option<String>) {
        let more = self.is_full();
        if more {
            self.best.pop_last();
        }
        let last = self
            .best
            .last_key_value()
            .map(|(name, _)| name.clone())
            .filter(|_| more);
        (self.best.into_values().collect(), last)
    }
}
