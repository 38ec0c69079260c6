//! Subresources other than `status`, and resources that are questions (reviews).

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    ApiServer, Identity, admission,
    body::decode,
    dig, eviction,
    exchange::{Answer, Target},
    managed::Intent,
    patch, read,
    registry::SubresourceRequest,
    request::{RequestInfo, Verb},
    resource::{Origin, ResourceDef, ScalePaths, Scope},
    scheduling,
    status::{ApiError, Cause},
    write,
};

/// Answers a request to a subresource.
pub(crate) async fn answer(server: &ApiServer, info: &RequestInfo, body: &Bytes) -> Result<Answer, ApiError> {
    let sub = info.subresource.as_deref().unwrap_or_default();
    if let Some(handler) = server.admission().handler(&info.group, &info.resource, sub) {
        let body = decode(body, &info.content_type)?;
        let request = SubresourceRequest {
            info: info.clone(),
            body,
        };
        let (status, body) = handler.handle(request).await?;
        return Ok(if body.is_null() {
            Answer::bytes(status, Bytes::new())
        } else {
            Answer::json(status, &body)
        });
    }
    let (collection, def) = server
        .store()
        .lookup(&info.group, &info.resource)
        .ok_or_else(ApiError::no_such_path)?;
    let version = def.version(&info.version).ok_or_else(ApiError::no_such_path)?;
    let target = Target {
        server,
        info,
        collection: &collection,
        def: &def,
        version,
    };
    match (info.group.as_str(), info.resource.as_str(), sub) {
        ("", "pods", "eviction") => eviction::answer(&target, body).await,
        ("", "pods", "binding") => bind(&target, body).await,
        ("", "pods", "log") => Ok(Answer::text("")),
        ("", "namespaces", "finalize") => finalize(&target, body).await,
        ("", "serviceaccounts", "token") => token(&target, body),
        (_, _, "scale") => match version.scale.clone() {
            Some(paths) => scale(&target, &paths, body).await,
            None => Err(ApiError::no_such_path()),
        },
        ("", "pods", "ephemeralcontainers" | "resize") | ("certificates.k8s.io", _, "approval") => match info.verb {
            Verb::Get => read::get(&target),
            Verb::Update => write::update(&target, body).await,
            Verb::Patch => patch::answer(&target, body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        _ => Err(ApiError::no_such_path()),
    }
}

async fn bind(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let mut binding = decode(body, &target.info.content_type)?;
    let node = dig::text(&binding, &["target", "name"]).to_owned();
    let key = target.key()?;
    let name = dig::meta(&binding, "name");
    if !name.is_empty() && name != key.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    if node.is_empty() {
        return Err(ApiError::new(500, "", "target.name: Required value"));
    }
    let pod = target
        .collection
        .get(&key)
        .ok_or_else(|| ApiError::not_found(target.def, &key.name))?;
    admission::admit(target, Some(&pod.value), &mut binding).await?;
    let now = target.server.timestamp();
    write::modify(target, &key, Intent::Update, |pod| {
        if let Some(why) = scheduling::unbindable(pod, &key.name) {
            let mut error = ApiError::conflict(target.def, &key.name, &why);
            "pods/binding".clone_into(&mut error.details.kind);
            error.message = format!("Operation cannot be fulfilled on pods/binding \"{}\": {why}", key.name);
            return Err(error);
        }
        let mut next = pod.clone();
        scheduling::take_over_topology(target.server, &mut next, &node);
        dig::object_at(&mut next, &["spec"]).insert("nodeName".to_owned(), json!(node));
        let status = dig::object_at(&mut next, &["status"]);
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|condition| dig::text(condition, &["type"]) != "PodScheduled");
            list.push(
                json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
            );
        }
        Ok(next)
    })
    .await?;
    Ok(Answer::json(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

async fn finalize(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let sent = decode(body, &target.info.content_type)?;
    let key = target.key()?;
    write::modify(target, &key, Intent::Update, |current| {
        let mut next = current.clone();
        let finalizers = dig::at(&sent, &["spec", "finalizers"])
            .cloned()
            .unwrap_or_else(|| json!([]));
        dig::object_at(&mut next, &["spec"]).insert("finalizers".to_owned(), finalizers);
        if let Some(version) = dig::at(&sent, &["metadata", "resourceVersion"]) {
            dig::set_meta(&mut next, "resourceVersion", version.clone());
        }
        Ok(next)
    })
    .await
}

fn token(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let mut request = decode(body, &target.info.content_type)?;
    let key = target.key()?;
    if target.collection.get(&key).is_none() {
        return Err(ApiError::not_found(target.def, &key.name));
    }
    let seconds = dig::at(&request, &["spec", "expirationSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(3600);
    let audiences: Vec<String> = dig::items(&request, &["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let token = format!("sim.{}.{}", key.name, target.server.new_uid());
    target.server.access().add_token(
        &token,
        Identity {
            username: format!("system:serviceaccount:{}:{}", key.namespace, key.name),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", key.namespace),
                "system:authenticated".to_owned(),
            ],
            audiences,
        },
    );
    let expires = target.server.deletion_timestamp(seconds);
    let map = dig::object(&mut request);
    map.insert("kind".to_owned(), json!("TokenRequest"));
    map.insert("apiVersion".to_owned(), json!("authentication.k8s.io/v1"));
    map.insert(
        "status".to_owned(),
        json!({"token": token, "expirationTimestamp": expires}),
    );
    Ok(Answer::json(201, &request))
}

fn steps(path: &str) -> Vec<&str> {
    path.split('.').filter(|step| !step.is_empty()).collect()
}

fn scale_of(target: &Target<'_>, paths: &ScalePaths, object: &Value) -> Value {
    let number = |path: &str| dig::at(object, &steps(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut selector = dig::text(object, &steps(&paths.selector)).to_owned();
    if selector.is_empty()
        && let Some(labels) = dig::at(object, &["spec", "selector", "matchLabels"]).and_then(Value::as_object)
    {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        selector = pairs.join(",");
    }
    let meta = |key: &str| dig::at(object, &["metadata", key]).cloned().unwrap_or_default();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta("name"), "namespace": target.info.ns(), "uid": meta("uid"),
            "resourceVersion": meta("resourceVersion"), "creationTimestamp": meta("creationTimestamp"),
        },
        "spec": {}, "status": {"replicas": number(&paths.status)},
    });
    if number(&paths.spec) != 0 {
        dig::object_at(&mut scale, &["spec"]).insert("replicas".to_owned(), json!(number(&paths.spec)));
    }
    if !selector.is_empty() {
        dig::object_at(&mut scale, &["status"]).insert("selector".to_owned(), json!(selector));
    }
    scale
}

/// Built-in kinds refuse the Scale, custom ones the object.
fn negative(target: &Target<'_>, name: &str, replicas: i64) -> ApiError {
    let cause = |field: &str, why: &str| {
        vec![Cause::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {replicas}: {why}"),
        )]
    };
    if target.def.origin == Origin::BuiltIn {
        let scale = ResourceDef::built_in("autoscaling", "v1", "scales", "Scale", Scope::Namespaced);
        ApiError::invalid(
            &scale,
            name,
            cause("spec.replicas", "must be greater than or equal to 0"),
        )
    } else {
        ApiError::invalid(
            target.def,
            name,
            cause(".spec.replicas", "should be a non-negative integer"),
        )
    }
}

async fn scale(target: &Target<'_>, paths: &ScalePaths, body: &Bytes) -> Result<Answer, ApiError> {
    let key = target.key()?;
    let read = || {
        target
            .collection
            .get(&key)
            .ok_or_else(|| ApiError::not_found(target.def, &key.name))
    };
    let sent = decode(body, &target.info.content_type)?;
    match target.info.verb {
        Verb::Get => return Ok(Answer::json(200, &scale_of(target, paths, &read()?.value))),
        Verb::Update | Verb::Patch => {}
        _ => return Err(ApiError::method_not_allowed()),
    }
    write::modify(target, &key, Intent::Update, |current| {
        let mut scaled = scale_of(target, paths, current);
        match target.info.content_type.as_str() {
            "application/json-patch+json" => {
                let patch: json_patch::Patch =
                    serde_json::from_value(sent.clone()).map_err(|error| ApiError::bad_request(error.to_string()))?;
                patch::operate(&mut scaled, &patch)
                    .map_err(|error| ApiError::new(422, "Invalid", error.to_string()))?;
            }
            _ => patch::merge(&mut scaled, &sent),
        }
        let replicas = dig::at(&scaled, &["spec", "replicas"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if replicas < 0 {
            return Err(negative(target, &key.name, replicas));
        }
        let mut next = current.clone();
        let mut path = steps(&paths.spec);
        if let Some(last) = path.pop() {
            dig::object_at(&mut next, &path).insert(last.to_owned(), json!(replicas));
        }
        if let Some(version) = dig::at(&sent, &["metadata", "resourceVersion"]) {
            dig::set_meta(&mut next, "resourceVersion", version.clone());
        }
        Ok(next)
    })
    .await?;
    Ok(Answer::json(200, &scale_of(target, paths, &read()?.value)))
}

/// A question must be about something.
fn check_review(def: &ResourceDef, spec: &Value) -> Result<(), ApiError> {
    let asked = |key: &str| spec.get(key).is_some_and(|value| !value.is_null());
    match def.plural.as_str() {
        "tokenreviews" if dig::text(spec, &["token"]).is_empty() => Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        )),
        "selfsubjectaccessreviews" | "subjectaccessreviews"
            if asked("resourceAttributes") == asked("nonResourceAttributes") =>
        {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::new(
                "FieldValueInvalid",
                "spec.resourceAttributes",
                format!("Invalid value: null: {why}"),
            );
            let nobody = ResourceDef::built_in(&def.group, "v1", "", "", Scope::Cluster);
            Err(ApiError::invalid(&nobody, "", vec![cause]))
        }
        _ => Ok(()),
    }
}

/// The request that an access review asks about, as far as its attributes say.
fn asked(info: &RequestInfo, spec: &Value) -> Option<RequestInfo> {
    let attributes = spec.get("resourceAttributes")?;
    let text = |key: &str| Some(dig::text(attributes, &[key]).to_owned()).filter(|text| !text.is_empty());
    Some(RequestInfo {
        verb: Verb::named(dig::text(attributes, &["verb"])),
        group: text("group").unwrap_or_default(),
        resource: text("resource").unwrap_or_default(),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        ..info.clone()
    })
}

/// Answers a review.
pub(crate) fn review(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    if target.info.verb != Verb::Create {
        return Err(ApiError::method_not_allowed());
    }
    let mut review = decode(body, &target.info.content_type)?;
    let spec = review.get("spec").cloned().unwrap_or_default();
    check_review(target.def, &spec)?;
    let access = target.server.access();
    let caller = target.info.bearer.as_deref().and_then(|token| access.identify(token));
    let user = caller
        .as_ref()
        .map_or("system:admin", |identity| identity.username.as_str());
    let status = match target.def.plural.as_str() {
        "tokenreviews" => access.token_review(&spec),
        "selfsubjectreviews" => {
            let groups = caller.as_ref().map_or_else(
                || ["system:masters", "system:authenticated"].map(str::to_owned).to_vec(),
                |identity| identity.groups.clone(),
            );
            json!({"userInfo": {"username": user, "groups": groups}})
        }
        "selfsubjectrulesreviews" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        _ => match asked(target.info, &spec).filter(|asked| target.server.faults().forbids(asked)) {
            Some(_) => json!({"allowed": false}),
            None => access.access_review(user, &spec),
        },
    };
    let map = dig::object(&mut review);
    map.insert("kind".to_owned(), json!(target.def.kind));
    map.insert(
        "apiVersion".to_owned(),
        json!(target.def.api_version(&target.version.name)),
    );
    map.entry("metadata").or_insert_with(|| json!({}));
    map.insert("status".to_owned(), status);
    Ok(Answer::json(201, &review))
}
