//! Lists that are read page by page: what is left of each.

use std::{collections::VecDeque, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::json;

use super::{request::RequestInfo, status::ApiError, store::Object};

/// How many unfinished paged lists are remembered. A client that pages slower than this many others begin gets an honest 410.
const MAX_CONTINUATIONS: usize = 256;

/// The rest of paged lists, so that all pages show one moment.
#[derive(Debug, Default)]
pub(crate) struct Continuations {
    kept: Mutex<(u64, VecDeque<Continuation>)>,
}

#[derive(Debug)]
struct Continuation {
    token: String,
    question: String,
    revision: u64,
    rest: Vec<Arc<Object>>,
}

impl Continuations {
    pub(crate) fn keep(&self, rest: Vec<Arc<Object>>, revision: u64, info: &RequestInfo) -> String {
        let mut kept = self.kept.lock();
        kept.0 += 1;
        let token = URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": kept.0}).to_string());
        kept.1.push_back(Continuation {
            token: token.clone(),
            question: question(info),
            revision,
            rest,
        });
        if kept.1.len() > MAX_CONTINUATIONS {
            kept.1.pop_front();
        }
        token
    }

    /// The rest of the list; it stays known, so that a lost answer can be asked for again.
    pub(crate) fn take(&self, token: &str, info: &RequestInfo) -> Result<(Vec<Arc<Object>>, u64), ApiError> {
        let kept = self.kept.lock();
        let found = kept.1.iter().find(|continuation| continuation.token == token);
        match found {
            Some(found) if found.question == question(info) => Ok((found.rest.clone(), found.revision)),
            Some(_) => Err(ApiError::bad_request(
                "continue key is not valid: it belongs to another list",
            )),
            None if URL_SAFE_NO_PAD.decode(token).is_ok() => Err(ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result.",
            )),
            None => Err(ApiError::bad_request("continue key is not valid")),
        }
    }
}

fn question(info: &RequestInfo) -> String {
    let query = &info.query;
    format!(
        "{}?{:?}&{:?}",
        info.path,
        query.get("labelSelector"),
        query.get("fieldSelector")
    )
}
