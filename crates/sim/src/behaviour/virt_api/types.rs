//! Instance types and preferences: what a VM is made from.

mod apply;
mod check;
mod kinds;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Map, Value, json};

use super::fields::text;

pub(super) use self::check::{admit, admit_preference, check_matchers, unmet};
use self::kinds::{INSTANCETYPE, Kinds, PREFERENCE, is_kind};
pub(in crate::behaviour) use self::{apply::apply, kinds::Found};

/// Annotations of a VMI: what it was made from.
const ORIGINS: [(&str, &str); 2] = [("instancetype", "instancetype-name"), ("preference", "preference-name")];

/// Why a matcher finds nothing: the word for the VM's condition, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::behaviour) struct NotFound {
    pub(in crate::behaviour) reason: &'static str,
    pub(in crate::behaviour) message: String,
}

/// Whether a matcher means something of the namespace.
fn is_namespaced(kind: &str) -> bool {
    is_kind(kind, INSTANCETYPE.of_namespace) || is_kind(kind, PREFERENCE.of_namespace)
}

/// Finds what a VM is to be made from: what it was made from before, or what its matchers name now.
///
/// # Errors
/// The outer one when the API server cannot be read.
pub(in crate::behaviour) async fn find(client: &Client, vm: &Value) -> kube::Result<Result<Found, NotFound>> {
    let mut found = Found::default();
    for kinds in [INSTANCETYPE, PREFERENCE] {
        let matcher = &vm["spec"][kinds.matcher];
        if matcher.is_null() || text(matcher, "/name").is_empty() {
            continue;
        }
        match find_one(client, vm, &kinds).await? {
            Ok(object) if kinds.matcher == INSTANCETYPE.matcher => found.instancetype = Some(object),
            Ok(object) => found.preference = Some(object),
            Err(message) => {
                return Ok(Err(NotFound {
                    reason: kinds.reason,
                    message,
                }));
            }
        }
    }
    Ok(Ok(found))
}

async fn find_one(client: &Client, vm: &Value, kinds: &Kinds) -> kube::Result<Result<Value, String>> {
    let namespace = text(vm, "/metadata/namespace");
    let matcher = &vm["spec"][kinds.matcher];
    let (name, kind) = (text(matcher, "/name"), text(matcher, "/kind"));
    if let Some(revision) = revision_in_use(vm, kinds.matcher) {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        if let Some(data) = api.get_opt(&revision).await?.and_then(|revision| revision.data) {
            return Ok(Ok(data.0));
        }
    }
    let (kind, plural, of_namespace) = match kind {
        kind if is_kind(kind, kinds.of_namespace) => (kinds.of_namespace.0, kinds.of_namespace.1, true),
        kind if kind.is_empty() || is_kind(kind, kinds.of_cluster) => (kinds.of_cluster.0, kinds.of_cluster.1, false),
        other => return Ok(Err(format!("got unexpected kind in {}: {other}", kinds.unknown))),
    };
    let gvk = GroupVersionKind::gvk("instancetype.kubevirt.io", "v1beta1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> = if of_namespace {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    Ok(match api.get_opt(name).await? {
        Some(object) => Ok(serde_json::to_value(object).map_err(kube::Error::SerdeError)?),
        None => Err(format!("{plural}.instancetype.kubevirt.io \"{name}\" not found")),
    })
}

/// The revision that a VM was made from, if its matcher still names the same.
fn revision_in_use(vm: &Value, matcher: &str) -> Option<String> {
    let wanted = &vm["spec"][matcher];
    let asked = text(wanted, "/revisionName");
    if !asked.is_empty() {
        return Some(asked.to_owned());
    }
    let known = vm.pointer(&format!("/status/{matcher}Ref"))?;
    let same = text(known, "/name") == text(wanted, "/name")
        && (text(wanted, "/kind").is_empty() || text(known, "/kind") == text(wanted, "/kind"));
    let revision = text(known, "/controllerRevisionRef/name");
    (same && !revision.is_empty()).then(|| revision.to_owned())
}

/// The annotations that tell what a VMI was made from.
pub(in crate::behaviour) fn origins(vm: &Value) -> Map<String, Value> {
    let origins = ORIGINS.iter().filter_map(|(matcher, annotation)| {
        let matcher = vm["spec"].get(matcher)?;
        let name = text(matcher, "/name");
        let of_cluster = if is_namespaced(text(matcher, "/kind")) {
            ""
        } else {
            "cluster-"
        };
        (!name.is_empty()).then(|| (format!("kubevirt.io/{of_cluster}{annotation}"), json!(name)))
    });
    origins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_holds_only_while_the_matcher_is_the_same() {
        let vm = |name: &str| {
            json!({
                "spec": { "instancetype": { "name": name } },
                "status": { "instancetypeRef": { "name": "small", "controllerRevisionRef": { "name": "r" } } },
            })
        };
        assert_eq!(revision_in_use(&vm("small"), "instancetype").as_deref(), Some("r"));
        assert_eq!(revision_in_use(&vm("large"), "instancetype"), None);
    }
}
