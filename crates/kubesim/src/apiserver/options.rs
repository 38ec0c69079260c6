//! What a query may say, checked as Kubernetes does before it looks at any object.

use super::{
    Verb,
    exchange::Target,
    status::{ApiError, Cause},
};

/// Longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;

/// Refuses a query that makes no sense for its verb.
///
/// # Errors
///
/// 400 for what is no number; 422 with causes for the rest.
pub(crate) fn check(target: &Target<'_>) -> Result<(), ApiError> {
    match target.info.verb {
        Verb::List | Verb::DeleteCollection => {
            numbers(target)?;
            refuse("ListOptions", list(target))?;
            check_continue(target)
        }
        Verb::Watch => {
            numbers(target)?;
            refuse("ListOptions", watch(target))
        }
        Verb::Create => refuse("CreateOptions", write(target)),
        Verb::Update => refuse("UpdateOptions", write(target)),
        Verb::Patch => refuse("PatchOptions", [patch(target), write(target)].concat()),
        Verb::Delete => refuse("DeleteOptions", dry_run(target)),
        Verb::Get | Verb::Other => Ok(()),
    }
}

fn refuse(kind: &str, causes: Vec<Cause>) -> Result<(), ApiError> {
    let list: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    let text = match list.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let message = format!("{kind}.meta.k8s.io \"\" is invalid: {text}");
    let mut error = ApiError::new(422, "Invalid", message);
    "meta.k8s.io".clone_into(&mut error.details.group);
    kind.clone_into(&mut error.details.kind);
    error.details.causes = causes;
    Err(error)
}

fn forbidden(field: &str, why: &str) -> Cause {
    Cause::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

fn unsupported(field: &str, value: &str, supported: &str) -> Cause {
    let message = format!("Unsupported value: {value}: supported values: {supported}");
    Cause::new("FieldValueNotSupported", field, message)
}

fn numbers(target: &Target<'_>) -> Result<(), ApiError> {
    for key in ["limit", "timeoutSeconds"] {
        if let Some(text) = target.info.query.get(key)
            && text.parse::<i64>().is_err()
        {
            let message = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

fn list(target: &Target<'_>) -> Vec<Cause> {
    const MATCH: &str = "resourceVersionMatch";
    let query = &target.info.query;
    let mut causes = Vec::new();
    if let Some(how) = query.get(MATCH) {
        if query.get("resourceVersion").is_none() {
            causes.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.get("continue").is_some() {
            causes.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(how, "Exact" | "NotOlderThan") {
            let supported = r#""Exact", "NotOlderThan", """#;
            causes.push(unsupported(MATCH, &format!("\"{how}\""), supported));
        }
        if how == "Exact" && query.get("resourceVersion") == Some("0") {
            let why = r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#;
            causes.push(forbidden(MATCH, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        causes.push(forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    causes
}

fn watch(target: &Target<'_>) -> Vec<Cause> {
    const MATCH: &str = "resourceVersionMatch";
    let query = &target.info.query;
    let how = query.get(MATCH);
    let mut causes = Vec::new();
    if query.get("sendInitialEvents").is_some() {
        if how != Some("NotOlderThan") {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(forbidden(MATCH, why));
        }
    } else if how.is_some() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        causes.push(forbidden(MATCH, why));
    }
    if let Some(how) = how.filter(|how| *how != "NotOlderThan") {
        causes.push(unsupported(MATCH, &format!("\"{how}\""), r#""NotOlderThan""#));
    }
    causes
}

fn check_continue(target: &Target<'_>) -> Result<(), ApiError> {
    let query = &target.info.query;
    if query.get("continue").is_some() && query.get("resourceVersion").is_some_and(|version| version != "0") {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    Ok(())
}

fn dry_run(target: &Target<'_>) -> Vec<Cause> {
    let said = target.info.query.get("dryRun").filter(|said| *said != "All");
    said.map(|said| unsupported("dryRun", &format!("[\"{said}\"]"), r#""All""#))
        .into_iter()
        .collect()
}

fn write(target: &Target<'_>) -> Vec<Cause> {
    let query = &target.info.query;
    let mut causes = Vec::new();
    if query
        .get("fieldManager")
        .is_some_and(|name| name.len() > LONGEST_MANAGER)
    {
        let message = format!("Too long: may not be more than {LONGEST_MANAGER} bytes");
        causes.push(Cause::new("FieldValueTooLong", "fieldManager", message));
    }
    causes.extend(dry_run(target));
    if let Some(how) = query.get("fieldValidation")
        && !matches!(how, "Ignore" | "Strict" | "Warn")
    {
        let supported = r#""", "Ignore", "Strict", "Warn""#;
        causes.push(unsupported("fieldValidation", &format!("\"{how}\""), supported));
    }
    causes
}

fn patch(target: &Target<'_>) -> Vec<Cause> {
    let query = &target.info.query;
    let applies = target.info.content_type.starts_with("application/apply-patch");
    if applies && query.get("fieldManager").is_none() {
        let message = "Required value: is required for apply patch";
        return vec![Cause::new("FieldValueRequired", "fieldManager", message)];
    }
    if !applies && query.get("force").is_some() {
        return vec![forbidden("force", "may not be specified for non-apply patch")];
    }
    Vec::new()
}
