//! Get and list.

use std::{collections::VecDeque, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::json;

use super::{
    Verb,
    output::Writer,
    request::RequestInfo,
    selector::Selection,
    server::{Answer, Target},
    status::ApiError,
    store::Object,
};

/// How many unfinished paged lists are remembered. A client that pages slower than this many others begin gets an honest 410.
const MAX_CONTINUATIONS: usize = 256;

pub(crate) fn get(target: &Target<'_>) -> Result<Answer, ApiError> {
    let key = target.key()?;
    check_not_ahead(target)?;
    let object = target
        .collection
        .get(&key)
        .ok_or_else(|| ApiError::not_found(target.def, &key.name))?;
    Ok(Answer::bytes(200, Writer::new(target)?.object(&object)))
}

pub(crate) fn list(target: &Target<'_>) -> Result<Answer, ApiError> {
    let writer = Writer::new(target)?;
    let limit = match target.info.query.get("limit") {
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| ApiError::bad_request("limit must be a number"))?,
        None => 0,
    };
    let (objects, revision) = match target.info.query.get("continue") {
        Some(token) => target.server.continuations().take(token, target.info)?,
        None => fresh(target)?,
    };
    let mut meta = json!({"resourceVersion": revision.to_string()});
    let mut page = objects;
    if limit > 0 && page.len() > limit {
        let rest = page.split_off(limit);
        let left = rest.len();
        let token = target.server.continuations().keep(rest, revision, target.info);
        let map = super::dig::object(&mut meta);
        map.insert("continue".to_owned(), json!(token));
        if target.info.query.get("labelSelector").is_none() && target.info.query.get("fieldSelector").is_none() {
            map.insert("remainingItemCount".to_owned(), json!(left));
        }
    }
    Ok(writer.list(&page, &meta))
}

fn fresh(target: &Target<'_>) -> Result<(Vec<Arc<Object>>, u64), ApiError> {
    let asked = check_not_ahead(target)?;
    let exact = target.info.query.get("resourceVersionMatch") == Some("Exact");
    let selection = selection(target)?;
    let (mut objects, revision) = match asked.filter(|_| exact) {
        Some(asked) => {
            let then = target.collection.list_at(target.info.ns(), asked);
            let objects = then.map_err(|_| {
                ApiError::expired(format!(
                    "The provided resource version {asked} is too old to display a list."
                ))
            })?;
            (objects, asked)
        }
        None => target.collection.list(target.info.ns()),
    };
    if !selection.is_everything() {
        objects.retain(|object| selection.matches(&object.value));
    }
    Ok((objects, revision))
}

/// The selection of a list or watch.
pub(crate) fn selection(target: &Target<'_>) -> Result<Selection, ApiError> {
    let query = &target.info.query;
    let selection = Selection::parse(
        target.def,
        &target.version.name,
        query.get("labelSelector"),
        query.get("fieldSelector"),
    )?;
    Ok(match &target.info.name {
        Some(name) => selection.named(name),
        None => selection,
    })
}

/// The `resourceVersion` that was asked for, if it is not from the future.
pub(crate) fn check_not_ahead(target: &Target<'_>) -> Result<Option<u64>, ApiError> {
    let Some(text) = target.info.query.get("resourceVersion") else {
        return Ok(None);
    };
    let asked = text.parse::<u64>().map_err(|_| {
        let why = format!(
            "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        );
        match target.info.verb {
            Verb::List => ApiError::bad_request(format!("invalid resource version: {why}")),
            _ => ApiError::new(500, "", why),
        }
    })?;
    let current = target.server.store().revision();
    if asked > current {
        Err(ApiError::version_too_large(asked, current))
    } else {
        Ok(Some(asked))
    }
}

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
    fn keep(&self, rest: Vec<Arc<Object>>, revision: u64, info: &RequestInfo) -> String {
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
    fn take(&self, token: &str, info: &RequestInfo) -> Result<(Vec<Arc<Object>>, u64), ApiError> {
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
