//! A custom kind of a case's own: `Widget` in a group that no other case has.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::conformance::{Answer, Lab};

/// Where definitions are.
pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// How often in a row a new kind must be served.
const STEADY: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// An established definition.
pub(super) struct Widgets<'a> {
    lab: &'a Lab,
    /// Its API group.
    pub(super) group: String,
}

/// A version whose objects have a `spec` of this schema.
pub(super) fn mk_version(spec: Value) -> Value {
    mk_schema(json!({"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}))
}

/// A version whose objects have these fields beside the usual ones.
pub(super) fn mk_schema(properties: Value) -> Value {
    let schema = json!({"type": "object", "properties": properties});
    json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}})
}

/// A definition of `Widget` with these versions.
pub(super) fn mk_definition(group: &str, versions: &[Value]) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"}, "versions": versions},
    })
}

/// The case's own group.
pub(super) fn group(lab: &Lab) -> String {
    format!("{}.example.com", lab.id)
}

/// Makes the kind with these versions and waits until it is served.
pub(super) async fn establish<'a>(lab: &'a Lab, versions: &[Value]) -> Result<Widgets<'a>> {
    establish_as(lab, &mk_definition(&group(lab), versions)).await
}

/// The same with a whole definition.
pub(super) async fn establish_as<'a>(lab: &'a Lab, definition: &Value) -> Result<Widgets<'a>> {
    let widgets = Widgets { lab, group: group(lab) };
    lab.make(DEFINITIONS, definition).await?;
    lab.clean_up(widgets.definition()).await;
    settled(lab, &widgets.definition(), &widgets.path("")).await?;
    Ok(widgets)
}

/// Waits until a kind is established and served. Its handler is made anew with each change of the definition, and refuses by 503 meanwhile.
pub(super) async fn settled(lab: &Lab, definition: &str, objects: &str) -> Result<()> {
    let established = |answer: &Answer| {
        let conditions = answer.at("status/conditions");
        let mut conditions = conditions.as_array().into_iter().flatten();
        conditions.any(|one| one["type"] == "Established" && one["status"] == "True")
    };
    lab.until("established", definition, established).await?;
    for _ in 0..STEADY {
        lab.until("served", objects, Answer::ok).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

impl Widgets<'_> {
    /// The definition's path.
    pub(super) fn definition(&self) -> String {
        format!("{DEFINITIONS}/widgets.{}", self.group)
    }

    /// The path of `widgets`, followed by `rest`.
    pub(super) fn path(&self, rest: &str) -> String {
        self.path_of("v1", rest)
    }

    /// The same in another version.
    pub(super) fn path_of(&self, version: &str, rest: &str) -> String {
        self.lab
            .path_in(&format!("{}/{version}", self.group), &format!("widgets{rest}"))
    }

    /// An object with this spec.
    pub(super) fn mk(&self, name: &str, spec: Value) -> Value {
        json!({"apiVersion": format!("{}/v1", self.group), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
    }

    /// Creates one.
    pub(super) async fn create(&self, name: &str, spec: Value) -> Result<Answer> {
        self.post(&self.mk(name, spec)).await
    }

    /// Creates this one, as soon as the kind's handler is there.
    pub(super) async fn post(&self, object: &Value) -> Result<Answer> {
        let path = self.path("");
        let attempt = || self.lab.post(&path, object);
        self.lab.retry("create", attempt, |answer| answer.code != 503).await
    }
}
