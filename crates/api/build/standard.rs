//! Says of each request what it is: which standard method of which resource, or which custom method. What is written here
//! implements the traits of `src/standard.rs`, and nothing else knows the names of requests.

use std::fmt::{self, Write};

use protox::prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor, MethodDescriptor, Value};

/// Fields of a resource that come from the object's metadata, as in `Meta`.
const META: [&str; 6] = [
    "uid",
    "create_time",
    "update_time",
    "delete_time",
    "labels",
    "annotations",
];

/// The implementations for everything under `package`.
pub(crate) fn generate(pool: &DescriptorPool, package: &str) -> Result<String, fmt::Error> {
    let mut code = String::new();
    let services = pool.services().filter(|s| s.package_name().starts_with(package));
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        match Standard::of(&method) {
            Some(Standard::Delete) => {
                Standard::Delete.write(&mut code, &method)?;
                // Some resources are deleted in their own way, such as machines, which are drained first.
                act(&mut code, &method, "delete")?;
            }
            Some(kind) => kind.write(&mut code, &method)?,
            None => {
                if let Some(verb) = verb(&method) {
                    act(&mut code, &method, &verb)?;
                }
            }
        }
    }
    Ok(code)
}

/// The standard methods (AIP-131 to 135) and Watch.
#[derive(Clone, Copy)]
enum Standard {
    Get,
    List,
    Create,
    Update,
    Delete,
    Watch,
}

impl Standard {
    /// What a method is: its name begins so, and it deals in one kind of resource.
    fn of(method: &MethodDescriptor) -> Option<Self> {
        let all = [
            ("Get", Self::Get),
            ("List", Self::List),
            ("Create", Self::Create),
            ("Update", Self::Update),
            ("Delete", Self::Delete),
            ("Watch", Self::Watch),
        ];
        let (_, kind) = all.into_iter().find(|(verb, _)| {
            let rest = method.name().strip_prefix(verb);
            rest.is_some_and(|rest| rest.starts_with(char::is_uppercase))
        })?;
        kind.resource(method).map(|_| kind)
    }

    fn resource(self, method: &MethodDescriptor) -> Option<MessageDescriptor> {
        match self {
            Self::Get | Self::Create | Self::Update | Self::Delete => {
                let output = method.output();
                (is_resource(&output) && method.name().ends_with(output.name())).then_some(output)
            }
            Self::List => carried(&method.output(), Cardinality::Repeated).map(|(_, resource)| resource),
            Self::Watch => carried(&method.output(), Cardinality::Optional).map(|(_, resource)| resource),
        }
    }

    fn write(self, code: &mut String, method: &MethodDescriptor) -> fmt::Result {
        let Some(resource) = self.resource(method) else {
            return Ok(());
        };
        let input = method.input();
        let (request, response) = (path(&input), path(&method.output()));
        let (target, own) = (path(&resource), snake(resource.name()));
        let take = |field: &str| take(&input, field);
        match self {
            Self::Get => {
                write_resource(code, &resource)?;
                writeln!(
                    code,
                    "impl crate::standard::Get for {request} {{\n    type Resource = {target};\n    fn name(&self) -> &str {{ &self.name }}\n}}"
                )
            }
            Self::List => {
                let items =
                    carried(&method.output(), Cardinality::Repeated).map_or_else(String::new, |(field, _)| field);
                writeln!(
                    code,
                    "impl crate::standard::List for {request} {{\n    type Resource = {target};\n    type Response = {response};\n    \
                     fn into_query(self) -> crate::standard::ListQuery {{ crate::standard::ListQuery {{ parent: {}, page_size: {}, page_token: {}, filter: {}, order_by: {} }} }}\n    \
                     fn page({items}: Vec<{target}>, next_page_token: String) -> {response} {{ {response} {{ {items}, next_page_token }} }}\n}}",
                    take("parent"),
                    take("page_size"),
                    take("page_token"),
                    take("filter"),
                    take("order_by"),
                )
            }
            Self::Watch => writeln!(
                code,
                "impl crate::standard::Watch for {request} {{\n    type Resource = {target};\n    type Response = {response};\n    \
                 fn into_query(self) -> crate::standard::WatchQuery {{ crate::standard::WatchQuery {{ parent: {}, filter: {}, resume_token: {} }} }}\n    \
                 fn event(r#type: crate::types::v1::WatchEventType, {own}: Option<{target}>, resume_token: String) -> {response} {{ {response} {{ r#type: r#type.into(), {own}, resume_token }} }}\n}}",
                take("parent"),
                take("filter"),
                take("resume_token"),
            ),
            Self::Create => writeln!(
                code,
                "impl crate::standard::Create for {request} {{\n    type Resource = {target};\n    const MESSAGE: &'static str = \"{}\";\n    const ID_FIELD: &'static str = \"{own}_id\";\n    \
                 fn into_creation(self) -> crate::standard::Creation<{target}> {{ crate::standard::Creation {{ parent: {}, id: {}, resource: {}, request_id: {}, validate_only: {} }} }}\n}}",
                input.full_name(),
                take("parent"),
                take(&format!("{own}_id")),
                take(&own),
                take("request_id"),
                take("validate_only"),
            ),
            Self::Update => writeln!(
                code,
                "impl crate::standard::Update for {request} {{\n    type Resource = {target};\n    const MESSAGE: &'static str = \"{}\";\n    \
                 fn into_change(self) -> crate::standard::Change<{target}> {{ crate::standard::Change {{ resource: {}, mask: {}, request_id: {}, validate_only: {} }} }}\n}}",
                input.full_name(),
                take(&own),
                take("update_mask"),
                take("request_id"),
                take("validate_only"),
            ),
            Self::Delete => writeln!(
                code,
                "impl crate::standard::Delete for {request} {{\n    type Resource = {target};\n    const MESSAGE: &'static str = \"{}\";\n    \
                 fn into_deletion(self) -> crate::standard::Deletion {{ crate::standard::Deletion {{ name: {}, etag: {}, allow_missing: {}, force: {}, request_id: {}, validate_only: {} }} }}\n}}",
                input.full_name(),
                take("name"),
                take("etag"),
                take("allow_missing"),
                take("force"),
                take("request_id"),
                take("validate_only"),
            ),
        }
    }
}

/// A custom method (AIP-136) on a stored resource, which it returns.
fn act(code: &mut String, method: &MethodDescriptor, verb: &str) -> fmt::Result {
    let (input, output) = (method.input(), method.output());
    if !is_resource(&output) || input.get_field_by_name("name").is_none() || method.is_server_streaming() {
        return Ok(());
    }
    let text = |field: &str| {
        let there = input.get_field_by_name(field).is_some();
        if there {
            format!("&self.{field}")
        } else {
            "\"\"".to_owned()
        }
    };
    let validate_only = input
        .get_field_by_name("validate_only")
        .map_or("false", |_| "self.validate_only");
    writeln!(
        code,
        "impl crate::standard::Act for {} {{\n    type Resource = {};\n    const MESSAGE: &'static str = \"{}\";\n    const VERB: &'static str = \"{verb}\";\n    \
         fn name(&self) -> &str {{ &self.name }}\n    fn etag(&self) -> &str {{ {} }}\n    fn request_id(&self) -> &str {{ {} }}\n    fn validate_only(&self) -> bool {{ {validate_only} }}\n}}",
        path(&input),
        path(&output),
        input.full_name(),
        text("etag"),
        text("request_id"),
    )
}

/// What follows the colon of a method's first HTTP rule.
fn verb(method: &MethodDescriptor) -> Option<String> {
    let http = method.parent_pool().get_extension_by_name("google.api.http")?;
    let options = method.options();
    let rule = options.get_extension(&http);
    let rule = rule.as_message()?;
    let pattern = ["post", "get", "put", "patch", "delete"]
        .iter()
        .filter_map(|name| rule.get_field_by_name(name))
        .find_map(|value| match value.as_ref() {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        })?;
    pattern.rsplit_once(':').map(|(_, verb)| verb.to_owned())
}

fn write_resource(code: &mut String, resource: &MessageDescriptor) -> fmt::Result {
    writeln!(
        code,
        "impl crate::standard::Resource for {} {{\n    const KIND: &'static str = \"{}\";\n    const MESSAGE: &'static str = \"{}\";\n    const FIELD: &'static str = \"{}\";\n    \
         fn name(&self) -> &str {{ &self.name }}\n    fn uid(&self) -> &str {{ &self.uid }}\n    fn etag(&self) -> &str {{ &self.etag }}\n    \
         fn set_name(&mut self, name: String) {{ self.name = name; }}\n    fn set_etag(&mut self, etag: String) {{ self.etag = etag; }}\n    \
         fn set_meta(&mut self, meta: crate::standard::Meta) {{",
        path(resource),
        resource.name(),
        resource.full_name(),
        snake(resource.name()),
    )?;
    for field in META.iter().filter(|field| resource.get_field_by_name(field).is_some()) {
        writeln!(code, "        self.{field} = meta.{field};")?;
    }
    writeln!(code, "    }}\n}}")
}

/// A message with an identity and a version of its own.
fn is_resource(message: &MessageDescriptor) -> bool {
    ["name", "uid", "etag", "create_time"]
        .iter()
        .all(|field| message.get_field_by_name(field).is_some())
}

/// The field of a response that carries resources, and their kind.
fn carried(response: &MessageDescriptor, cardinality: Cardinality) -> Option<(String, MessageDescriptor)> {
    response.fields().find_map(|field| match field.kind() {
        Kind::Message(inner) if field.cardinality() == cardinality && is_resource(&inner) => {
            Some((field.name().to_owned(), inner))
        }
        _ => None,
    })
}

/// An expression that moves a field out of a request; the default where there is no such field.
fn take(message: &MessageDescriptor, field: &str) -> String {
    let there = message.get_field_by_name(field).is_some();
    if there {
        format!("self.{field}")
    } else {
        "Default::default()".to_owned()
    }
}

/// Path of a message's Rust type in this crate.
fn path(message: &MessageDescriptor) -> String {
    let package = message
        .package_name()
        .strip_prefix("steading.")
        .unwrap_or(message.package_name());
    format!("crate::{}::{}", package.replace('.', "::"), message.name())
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
