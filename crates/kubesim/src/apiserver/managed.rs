//! `metadata.managedFields`: who set which fields, kept at every write.

use serde_json::{Value, json};

use super::{
    dig,
    exchange::Target,
    fieldset::{Difference, FieldSet},
    types::Cursor,
};

/// What a write does to fields, for the managers' records.
pub(crate) enum Intent {
    /// The object as a whole was sent.
    Update,
    /// Fields are declared by a manager.
    Apply { config: Value },
}

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
        if self.time.is_empty() {
            dig::object(&mut entry).shift_remove("time");
        }
        if !self.subresource.is_empty() {
            dig::object(&mut entry).insert("subresource".to_owned(), json!(self.subresource));
        }
        entry
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.applies == other.applies
            && self.subresource == other.subresource
            && self.api_version == other.api_version
    }
}

/// The managers of an object.
pub(crate) fn read(object: &Value) -> Vec<Manager> {
    dig::items(object, &["metadata", "managedFields"])
        .iter()
        .filter(|entry| !dig::is_void(entry))
        .map(Manager::from_json)
        .collect()
}

/// The managers of an object that something is applied to: what nobody is known to manage was set by somebody before.
pub(crate) fn before_apply(target: &Target<'_>, live: &Value) -> Vec<Manager> {
    let managers = read(live);
    if !managers.is_empty() {
        return managers;
    }
    let at = Cursor::root(target.def, target.version);
    let scope = Scope::of(target);
    let somebody = Manager {
        name: "before-first-apply".to_owned(),
        subresource: String::new(),
        fields: difference(None, live, scope, &at).changed,
        ..writer(target, false)
    };
    vec![somebody]
}

/// The writer of a request, with no fields yet.
pub(crate) fn writer(target: &Target<'_>, applies: bool) -> Manager {
    Manager {
        name: target.info.manager().chars().take(128).collect(),
        applies,
        subresource: target
            .info
            .subresource
            .clone()
            .filter(|sub| sub == "status")
            .unwrap_or_default(),
        api_version: target.def.api_version(&target.version.name),
        time: target.server.timestamp(),
        fields: FieldSet::default(),
    }
}

/// Which half of an object a request can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Whole,
    /// All but `status`, which is a subresource.
    Main,
    /// `status` and metadata.
    Status,
}

impl Scope {
    pub(crate) fn of(target: &Target<'_>) -> Self {
        match (target.info.subresource.as_deref(), target.version.status) {
            (Some("status"), _) => Self::Status,
            (_, true) => Self::Main,
            (_, false) => Self::Whole,
        }
    }

    fn has(self, key: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Main => key != "status",
            Self::Status => matches!(key, "status" | "metadata"),
        }
    }
}

/// The managed fields at the top of an object and in its metadata, as path and value: without type, identity and what the server says.
fn parts(object: &Value, scope: Scope) -> impl Iterator<Item = (Option<&'static str>, &str, &Value)> {
    let top = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(move |(key, _)| scope.has(key));
    top.flat_map(|(key, value)| {
        let metadata = (key == "metadata").then(|| value.as_object()).flatten();
        let inner = metadata
            .into_iter()
            .flatten()
            .filter(|(key, _)| !NOBODYS.contains(&key.as_str()));
        let plain = !matches!(key.as_str(), "metadata" | "apiVersion" | "kind");
        inner
            .map(|(key, value)| (Some("metadata"), key.as_str(), value))
            .chain(plain.then_some((None, key.as_str(), value)))
    })
}

fn place(parent: Option<&'static str>, key: &str, set: FieldSet, into: &mut FieldSet) {
    if set.is_empty() {
        return;
    }
    match parent {
        Some(parent) => {
            let mut outer = FieldSet::default();
            outer.put(format!("f:{key}"), set);
            into.put(format!("f:{parent}"), outer);
        }
        None => into.put(format!("f:{key}"), set),
    }
}

fn cursor<'a>(parent: Option<&'static str>, key: &str, at: &Cursor<'a>) -> Cursor<'a> {
    match parent {
        Some(parent) => at.field(parent).field(key),
        None => at.field(key),
    }
}

/// All managed fields of an object.
pub(crate) fn fields_of(object: &Value, scope: Scope, at: &Cursor<'_>) -> FieldSet {
    let mut all = FieldSet::default();
    for (parent, key, value) in parts(object, scope) {
        place(parent, key, FieldSet::of(value, &cursor(parent, key, at)), &mut all);
    }
    all
}

/// How the managed fields of an object change.
pub(crate) fn difference(old: Option<&Value>, new: &Value, scope: Scope, at: &Cursor<'_>) -> Difference {
    let mut all = Difference::default();
    let mut put = |parent, key: &str, part: Difference| {
        place(parent, key, part.changed, &mut all.changed);
        place(parent, key, part.removed, &mut all.removed);
    };
    for (parent, key, value) in parts(new, scope) {
        let before = in_object(old, parent, key);
        if before != Some(value) {
            put(
                parent,
                key,
                Difference::between(before, Some(value), &cursor(parent, key, at)),
            );
        }
    }
    for (parent, key, value) in old.into_iter().flat_map(|old| parts(old, scope)) {
        if in_object(Some(new), parent, key).is_none() {
            put(
                parent,
                key,
                Difference::between(Some(value), None, &cursor(parent, key, at)),
            );
        }
    }
    all
}

fn in_object<'a>(object: Option<&'a Value>, parent: Option<&'static str>, key: &str) -> Option<&'a Value> {
    match parent {
        Some(parent) => dig::at(object?, &[parent, key]),
        None => object?.get(key),
    }
}

/// Brings the record in `next` up to date.
pub(crate) fn record(target: &Target<'_>, old: Option<&Value>, next: &mut Value, intent: &Intent) {
    let at = Cursor::root(target.def, target.version);
    let mut managers = match (intent, old) {
        (Intent::Apply { .. }, Some(old)) => before_apply(target, old),
        _ => starting_point(old, next),
    };
    let scope = Scope::of(target);
    let difference = difference(old, next, scope, &at);
    let mut writer = writer(target, matches!(intent, Intent::Apply { .. }));
    let position = managers.iter().position(|manager| manager.is(&writer));
    let own = position.map(|index| managers.remove(index));
    let mut lost = difference.changed.clone();
    lost.add(&difference.removed);
    for manager in &mut managers {
        manager.fields = manager.fields.minus(&lost);
    }
    match intent {
        Intent::Apply { config, .. } => writer.fields = fields_of(config, scope, &at),
        Intent::Update => {
            writer.fields = own
                .as_ref()
                .map(|own| own.fields.minus(&difference.removed))
                .unwrap_or_default();
            writer.fields.add(&difference.changed);
        }
    }
    let changes = !difference.changed.is_empty() || !difference.removed.is_empty();
    match own {
        Some(own) if own.fields == writer.fields || !changes => writer.time = own.time,
        // An apply that changes nothing but who owns what leaves no time.
        None if writer.applies && !changes && old.is_some() => writer.time.clear(),
        _ => {}
    }
    // Its old place in the list: a write that changes nothing must not change the order either.
    managers.insert(position.unwrap_or(managers.len()), writer);
    managers.retain(|manager| !manager.fields.is_empty() && manager.fields != FieldSet::leaf());
    forget_old_updaters(&mut managers);
    let entries: Vec<Value> = managers.iter().map(Manager::to_json).collect();
    if entries.is_empty() {
        dig::metadata(next).remove("managedFields");
    } else {
        dig::set_meta(next, "managedFields", entries);
    }
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
        let oldest = |managers: &[Manager]| {
            managers
                .iter()
                .position(|manager| !manager.applies && manager.name != "ancient-changes")
        };
        let Some(index) = oldest(managers) else {
            return;
        };
        let gone = managers.remove(index);
        match managers.iter_mut().find(|manager| manager.name == "ancient-changes") {
            Some(ancient) => ancient.fields.add(&gone.fields),
            None => managers.insert(
                0,
                Manager {
                    name: "ancient-changes".to_owned(),
                    ..gone
                },
            ),
        }
    }
}
