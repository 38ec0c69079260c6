//! OpenAPI 3.1 from descriptors: what the gateway serves, said in the words of HTTP.
//!
//! ```text
//! methods ── rule::rules ──► Operation (operation.rs) ──► Operation Object (render.rs)
//!   ├─ path.rs    `/v1/{name=projects/*}` → `/v1/projects/{project}` and its parameters
//!   ├─ query.rs   what neither path nor body binds
//!   ├─ body.rs    request bodies and replies
//!   ├─ example.rs what a client could send
//!   └─ errors.rs  AIP-193 errors
//! whatever these refer to ──► component schemas (schemas.rs, usage.rs)
//! ```
//!
//! Invariants:
//! - The same descriptors give the same bytes, whatever the order of the files in the set.
//! - A component is there if and only if something refers to it.
//! - A request that the document allows is one that the gateway can bind; what a document cannot say (a `**` variable
//!   beside a `*` one, an HTTP method without a place in OpenAPI) is named in `x-not-represented`.

mod body;
mod comments;
mod errors;
mod example;
mod messages;
mod operation;
mod path;
mod query;
mod render;
mod schemas;
mod services;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde_json::{Map, Value, json};

use crate::catalog::Catalog;
use comments::Comments;
use operation::Taken;
use path::Paths;
use schemas::{SCHEMAS, Schemas};
use services::ServiceNames;
use usage::Usage;

/// What a document says besides what the descriptors say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Title of the API.
    pub title: String,
    /// Version of the API.
    pub version: String,
    /// Description of the API, Markdown; may be empty.
    pub description: String,
    /// URLs that it is served at; none means the place that the document came from.
    pub servers: Vec<String>,
}

/// The document of every annotated method in the pool.
pub fn document(pool: &DescriptorPool, options: &Options) -> Value {
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    build(pool, methods, options)
}

/// The document of the methods that a catalog serves.
pub fn document_of(catalog: &Catalog, options: &Options) -> Value {
    build(
        catalog.pool(),
        catalog
            .methods()
            .iter()
            .map(|method| method.descriptor.clone())
            .collect(),
        options,
    )
}

fn build(pool: &DescriptorPool, mut methods: Vec<MethodDescriptor>, options: &Options) -> Value {
    // Stable: methods keep their declared order within a service.
    methods.sort_by(|a, b| a.parent_service().full_name().cmp(b.parent_service().full_name()));
    let (operations, mut omitted) = operation::collect(&methods);
    let usage = Usage::of(&operations);
    let comments = Comments::new(pool);
    let schemas = Schemas {
        comments: &comments,
        usage: &usage,
    };
    let names = ServiceNames::new(&operations);

    let (mut paths, mut taken) = (Paths::default(), Taken::default());
    let mut items: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in &operations {
        let place = paths.place(operation);
        let item = items.entry(place.path.clone()).or_default();
        for &verb in operation.verbs() {
            if item.contains_key(verb) {
                omitted.push(operation.label());
                continue;
            }
            let id = taken.id(operation, &names.of(operation.method.parent_service()), verb);
            item.insert(
                verb.to_owned(),
                render::operation(operation, &place, &schemas, &names, &id),
            );
        }
    }
    items.retain(|_, item| !item.is_empty());

    let paths: Map<String, Value> = items
        .into_iter()
        .map(|(path, item)| (path, Value::Object(item)))
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": info(options),
        "servers": servers(options),
        "security": [{"bearer": []}, {}],
        "tags": names.tags(&operations, &comments),
        "paths": paths,
        "components": {},
    });
    let error = errors::schema_name(pool);
    let responses = errors::responses(&error);
    let schemas = components(pool, &schemas, &document, &error);
    document["components"] = json!({
        "schemas": schemas,
        "responses": responses,
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A bearer token (RFC 6750)."}},
    });
    if !omitted.is_empty() {
        document["x-not-represented"] = json!(omitted);
    }
    document
}

fn info(options: &Options) -> Value {
    let mut info = json!({"title": options.title, "version": options.version});
    if !options.description.is_empty() {
        info["description"] = json!(options.description);
    }
    info
}

fn servers(options: &Options) -> Value {
    if options.servers.is_empty() {
        return json!([{"url": "/"}]);
    }
    options.servers.iter().map(|url| json!({"url": url})).collect()
}

/// The schemas that the document refers to, and those that these refer to.
fn components(pool: &DescriptorPool, schemas: &Schemas<'_>, document: &Value, error: &str) -> Value {
    let mut done: BTreeMap<String, Value> = BTreeMap::new();
    let mut pending = BTreeSet::new();
    references(document, &mut pending);
    while let Some(name) = pending.pop_first() {
        if done.contains_key(&name) {
            continue;
        }
        let message = pool.get_message_by_name(&name).map(|message| schemas.message(&message));
        let schema = message.or_else(|| {
            pool.get_enum_by_name(&name)
                .map(|descriptor| schemas.enumeration(&descriptor))
        });
        if let Some(schema) = schema {
            references(&schema, &mut pending);
            done.insert(name, schema);
        }
    }
    done.insert(error.to_owned(), errors::schema());
    Value::Object(done.into_iter().collect())
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value
                    .as_str()
                    .filter(|_| key == "$ref")
                    .and_then(|target| target.strip_prefix(SCHEMAS))
                {
                    Some(name) => {
                        found.insert(name.to_owned());
                    }
                    None => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
