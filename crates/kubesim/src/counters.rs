//! Counts of the requests that an API server has answered, for the figures "requests per machine".

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::apiserver::{RequestInfo, Verb};

/// How many different rows are kept; user agents and field managers come from clients, so something must bound them.
const MAX_ROWS: usize = 4096;

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// What was asked for.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, empty without one.
    pub subresource: String,
    /// The client's user agent, empty when it sent none.
    pub user_agent: String,
    /// The field manager named by a write, empty without one.
    pub field_manager: String,
}

/// Request counters of one API server; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    rows: Arc<Mutex<BTreeMap<RequestKey, u64>>>,
}

impl Counters {
    /// Counts one request.
    pub fn record(&self, info: &RequestInfo) {
        let mut key = RequestKey {
            verb: info.verb,
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone().unwrap_or_default(),
            user_agent: info.user_agent.clone(),
            field_manager: info.query.get("fieldManager").unwrap_or_default().to_owned(),
        };
        let mut rows = self.rows.lock();
        if rows.len() >= MAX_ROWS && !rows.contains_key(&key) {
            "(other)".clone_into(&mut key.user_agent);
            key.field_manager.clear();
        }
        *rows.entry(key).or_default() += 1;
    }

    /// All rows, in order.
    pub fn snapshot(&self) -> Vec<(RequestKey, u64)> {
        self.rows
            .lock()
            .iter()
            .map(|(key, count)| (key.clone(), *count))
            .collect()
    }

    /// The number of requests whose row satisfies `predicate`.
    pub fn count(&self, predicate: impl Fn(&RequestKey) -> bool) -> u64 {
        self.rows
            .lock()
            .iter()
            .filter(|(key, _)| predicate(key))
            .map(|(_, count)| count)
            .sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.count(|_| true)
    }

    /// The number of requests that would change something.
    pub fn writes(&self) -> u64 {
        self.count(|key| key.verb.is_write())
    }

    /// Begins anew.
    pub fn reset(&self) {
        self.rows.lock().clear();
    }
}
