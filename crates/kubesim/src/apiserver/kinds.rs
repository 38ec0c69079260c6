//! Checks of single built-in kinds: those that clients run into, not all that there are.

use serde_json::Value;

use super::{
    dig,
    resource::ResourceDef,
    scheduling,
    selector::label_selector_matches,
    status::{ApiError, Cause},
};

/// Finds what is wrong with an object of a built-in kind, and with the change from `old`.
///
/// # Errors
///
/// 422 with every cause; 400 for what cannot be decoded.
pub(crate) fn check(def: &ResourceDef, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    match (def.group.as_str(), def.plural.as_str()) {
        ("", "configmaps") => {
            check_base64(def, object, "binaryData")?;
            immutable(old, object, &["data", "binaryData"], &mut causes);
        }
        ("", "secrets") => {
            check_base64(def, object, "data")?;
            secret(old, object, &mut causes);
            immutable(old, object, &["data"], &mut causes);
        }
        ("", "pods") => scheduling::check_gates(old, object, &mut causes),
        ("", "services") => service(old, object, &mut causes),
        ("" | "events.k8s.io", "events") => event(object, &mut causes),
        ("apps", "deployments") => deployment(old, object, &mut causes),
        ("coordination.k8s.io", "leases") => lease(object, &mut causes),
        _ => {}
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(def, dig::meta(object, "name"), causes))
    }
}

fn wrong(field: impl Into<String>, shown: impl std::fmt::Display, why: &str) -> Cause {
    Cause::new("FieldValueInvalid", field, format!("Invalid value: {shown}: {why}"))
}

fn required(field: impl Into<String>) -> Cause {
    Cause::new("FieldValueRequired", field, "Required value")
}

fn check_base64(def: &ResourceDef, object: &Value, field: &str) -> Result<(), ApiError> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let values = dig::at(object, &[field])
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    for (_, value) in values {
        let text = value.as_str().unwrap_or_default();
        if STANDARD.decode(text).is_err() {
            let good = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
            let place = text.find(|letter| !good(letter)).unwrap_or(text.len());
            let kind = &def.kind;
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"v1\" cannot be handled as a {kind}: illegal base64 data at input byte {place}"
            )));
        }
    }
    Ok(())
}

fn secret(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let kind = dig::text(object, &["type"]);
    if old.is_some_and(|old| dig::text(old, &["type"]) != kind) {
        causes.push(wrong("type", format!("{kind:?}"), "field is immutable"));
    }
    let needs: &[&str] = match kind {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        _ => &[],
    };
    for key in needs.iter().filter(|key| dig::at(object, &["data", key]).is_none()) {
        causes.push(required(format!("data[{key}]")));
    }
}

fn immutable(old: Option<&Value>, object: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|old| dig::at(old, &["immutable"]) == Some(&Value::Bool(true))) else {
        return;
    };
    let changed = |field: &&str| dig::at(old, &[field]) != dig::at(object, &[field]);
    for field in ["immutable"].iter().chain(fields).filter(|field| changed(field)) {
        let why = "Forbidden: field is immutable when `immutable` is set";
        causes.push(Cause::new("FieldValueForbidden", *field, why));
    }
}

fn service(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let kind = dig::text(object, &["spec", "type"]);
    let ports = dig::items(object, &["spec", "ports"]);
    let address = dig::text(object, &["spec", "clusterIP"]);
    if ports.is_empty() && kind != "ExternalName" && address != "None" {
        causes.push(required("spec.ports"));
    }
    if kind == "ExternalName" && dig::text(object, &["spec", "externalName"]).is_empty() {
        causes.push(required("spec.externalName"));
    }
    if !matches!(kind, "ClusterIP" | "ExternalName" | "LoadBalancer" | "NodePort") {
        let known = "\"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"";
        let message = format!("Unsupported value: {kind:?}: supported values: {known}");
        causes.push(Cause::new("FieldValueNotSupported", "spec.type", message));
    }
    for (index, port) in ports.iter().enumerate() {
        let name = dig::text(port, &["name"]);
        let mut before = ports.iter().take(index);
        if name.is_empty() && ports.len() > 1 {
            causes.push(required(format!("spec.ports[{index}].name")));
        } else if !name.is_empty() && before.any(|other| dig::text(other, &["name"]) == name) {
            let message = format!("Duplicate value: {name:?}");
            causes.push(Cause::new(
                "FieldValueDuplicate",
                format!("spec.ports[{index}].name"),
                message,
            ));
        }
        for key in ["port", "targetPort"] {
            let number = port.get(key).and_then(Value::as_i64);
            if let Some(number) = number.filter(|number| !(1..=65_535).contains(number)) {
                let why = "must be between 1 and 65535, inclusive";
                causes.push(wrong(format!("spec.ports[{index}].{key}"), number, why));
            }
        }
    }
    if let Some(old) = old.filter(|_| kind != "ExternalName") {
        let had = dig::text(old, &["spec", "clusterIP"]);
        if !had.is_empty() && had != address {
            let shown = serde_json::json!([address]);
            causes.push(wrong("spec.clusterIPs[0]", shown, "may not change once set"));
        }
        let class = |service| dig::text(service, &["spec", "loadBalancerClass"]);
        if dig::text(old, &["spec", "type"]) == "LoadBalancer" && kind == "LoadBalancer" && class(old) != class(object)
        {
            let shown = format!("{:?}", class(object));
            causes.push(wrong("spec.loadBalancerClass", shown, "may not change once set"));
        }
    }
}

fn event(object: &Value, causes: &mut Vec<Cause>) {
    let about = dig::text(object, &["involvedObject", "namespace"]);
    if !about.is_empty() && about != dig::meta(object, "namespace") {
        let why = "does not match event.namespace";
        causes.push(wrong("involvedObject.namespace", format!("{about:?}"), why));
    }
}

fn deployment(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let replicas = dig::at(object, &["spec", "replicas"])
        .and_then(Value::as_i64)
        .unwrap_or(1);
    if replicas < 0 {
        causes.push(wrong("spec.replicas", replicas, "must be greater than or equal to 0"));
    }
    let selector = dig::at(object, &["spec", "selector"]).filter(|selector| !selector.is_null());
    if selector.is_none() {
        causes.push(required("spec.selector"));
    }
    let labels = dig::at(object, &["spec", "template", "metadata", "labels"]);
    if !selector.is_some_and(|selector| label_selector_matches(selector, labels)) {
        let shown = labels.cloned().unwrap_or_default();
        let why = "`selector` does not match template `labels`";
        causes.push(wrong("spec.template.metadata.labels", shown, why));
    }
    let before = old.and_then(|old| dig::at(old, &["spec", "selector"]));
    if let (Some(before), Some(selector)) = (before, selector)
        && before != selector
    {
        causes.push(wrong("spec.selector", selector, "field is immutable"));
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let number = |key: &str| dig::at(object, &["spec", key]).and_then(Value::as_i64);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        causes.push(wrong("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(count) = number("leaseTransitions").filter(|count| *count < 0) {
        causes.push(wrong(
            "spec.leaseTransitions",
            count,
            "must be greater than or equal to 0",
        ));
    }
}
