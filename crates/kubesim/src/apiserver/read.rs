//! Get and list.

use std::sync::Arc;

use serde_json::json;

use super::{
    Verb,
    exchange::{Answer, Target},
    output::Writer,
    selector::Selection,
    status::ApiError,
    store::Object,
};

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
