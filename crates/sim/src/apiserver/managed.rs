//! `metadata.managedFields`: who set which fields, kept at every write.

use serde_json::{Map, Value, json};

use super::{
    dig,
    fieldset::{Difference, FieldSet},
    server::Target,
    status::ApiError,
    types::Cursor,
    write::Intent,
};

/// Fields of the server's own, which nobody manages.
const NOBODYS: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
    "managedFields",
    "resourceVersion",
    "selfLink",
];
/// How many managers that update (not apply) are remembered, as in Kubernetes; older ones are merged into one.
const MAX_UPDATERS: usize = 10;

/// Who set fields, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) applies: bool,
    pub(crate) subresource: String,
    pub(crate) api_version: String,
    pub(crate) time: String,
    pub(crate) fields: FieldSet,
}

impl Manager {
    fn from_json(entry: &Value) -> Self {
        let text = |key: &str| dig::text(entry, &[key]).to_owned();
        Self {
            name: text("manager"),
            applies: text("operation") == "Apply",
            subresource: text("subresource"),
            api_version: text("apiVersion"),
            time: text("time"),
            fields: FieldSet::from_json(entry.get("fieldsV1").unwrap_or(&Value::Null)),
        }
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "manager": self.name,
            "operation": if self.applies { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            dig::object(&mut entry).insert("subresource".to_owned(), json!(self.subresource));
        }
        entry
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.applies == other.applies && self.subresource == other.subresource && self.api_version == other.api_version
    }
}

/// The managers of an object.
pub(crate) fn read(object: &Value) -> Vec<Manager> {
    dig::items(object, &["metadata", "managedFields"]).iter().filter(|entry| !dig::is_void(entry)).map(Manager::from_json).collect()
}

/// The writer of a request, with no fields yet.
pub(crate) fn writer(target: &Target<'_>, applies: bool) -> Manager {
    Manager {
        name: target.info.manager().chars().take(128).collect(),
        applies,
        subresource: target.info.subresource.clone().filter(|sub| sub == "status").unwrap_or_default(),
        api_version: target.def.api_version(&target.version.name),
        time: target.server.timestamp(),
        fields: FieldSet::default(),
    }
}

/// The managed part of an object: without type, identity and what the server says.
pub(crate) fn manageable(object: &Value) -> Value {
    let mut copy: Map<String, Value> = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let fields = value.as_object().into_iter().flatten().filter(|(key, _)| !NOBODYS.contains(&key.as_str()));
                let fields: Map<String, Value> = fields.map(|(key, value)| (key.clone(), value.clone())).collect();
                if !fields.is_empty() {
                    copy.insert(key.clone(), Value::Object(fields));
                }
            }
            _ => {
                copy.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(copy)
}

/// Brings the record in `next` up to date.
pub(crate) fn record(target: &Target<'_>, old: Option<&Value>, next: &mut Value, intent: &Intent) -> Result<(), ApiError> {
    let at = Cursor::root(target.def, target.version);
    let mut managers = starting_point(old, next);
    let before = old.map(manageable);
    let difference = Difference::between(before.as_ref(), Some(&manageable(next)), &at);
    let mut writer = writer(target, matches!(intent, Intent::Apply { .. }));
    let position = managers.iter().position(|manager| manager.is(&writer));
    let own = position.map(|index| managers.remove(index));
    let mut lost = difference.changed.clone();
    lost.add(&difference.removed);
    for manager in &mut managers {
        manager.fields = manager.fields.minus(&lost);
    }
    match intent {
        Intent::Apply { config, .. } => writer.fields = FieldSet::of(&manageable(config), &at),
        Intent::Update => {
            writer.fields = own.as_ref().map(|own| own.fields.minus(&difference.removed)).unwrap_or_default();
            writer.fields.add(&difference.changed);
        }
    }
    if let Some(own) = own.filter(|own| own.fields == writer.fields) {
        writer.time = own.time;
    }
    managers.push(writer);
    managers.retain(|manager| !manager.fields.is_empty() && manager.fields != FieldSet::leaf());
    forget_old_updaters(&mut managers);
    let entries: Vec<Value> = managers.iter().map(Manager::to_json).collect();
    if entries.is_empty() {
        dig::metadata(next).remove("managedFields");
    } else {
        dig::set_meta(next, "managedFields", entries);
    }
    Ok(())
}

/// The record to start from: what the client sent if it sent one (an empty one begins anew), else the old one.
fn starting_point(old: Option<&Value>, next: &Value) -> Vec<Manager> {
    let sent = dig::at(next, &["metadata", "managedFields"]).filter(|fields| fields.is_array());
    match (old, sent) {
        (Some(_), Some(_)) => read(next),
        (Some(old), None) => read(old),
        (None, _) => Vec::new(),
    }
}

fn forget_old_updaters(managers: &mut Vec<Manager>) {
    while managers.iter().filter(|manager| !manager.applies).count() > MAX_UPDATERS {
        let oldest = |managers: &[Manager]| managers.iter().position(|manager| !manager.applies && manager.name != "ancient-changes");
        let Some(index) = oldest(managers) else {
            return;
        };
        let gone = managers.remove(index);
        match managers.iter_mut().find(|manager| manager.name == "ancient-changes") {
            Some(ancient) => ancient.fields.add(&gone.fields),
            None => managers.insert(0, Manager { name: "ancient-changes".to_owned(), ..gone }),
        }
    }
}
