//! Descriptor sets compiled into methods, bindings and a routing table.

mod binding;
mod editions;
mod error;
mod fields;
mod merge;

use std::panic::AssertUnwindSafe;

use ahash::AHashMap;
use http::Method as HttpMethod;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::router::{Methods, RouteError, Router, Spans};
use crate::rule::{self, HttpRule};
use crate::schema::{MessageId, Schema};
use crate::template::{Template, Variable};

pub(crate) use binding::Bound;
pub use binding::{Binding, BodyRule, MethodId};
pub use error::CatalogError;
pub(crate) use fields::{etag_of, is_redundant, takes_text};

/// An RPC.
#[derive(Debug)]
pub struct Method {
    /// Full name of the service.
    pub service: Box<str>,
    /// Full name of the method.
    pub full_name: Box<str>,
    /// `/package.Service/Method`.
    pub path: Box<str>,
    /// Request type.
    pub input: MessageId,
    /// Reply type.
    pub output: MessageId,
    /// Takes a stream of requests.
    pub client_streaming: bool,
    /// Gives a stream of replies.
    pub server_streaming: bool,
    /// Marked `idempotency_level` `NO_SIDE_EFFECTS` or `IDEMPOTENT`.
    pub idempotent: bool,
    /// The descriptor it was made from.
    pub descriptor: MethodDescriptor,
}

/// A request's binding and where in its path the variables are.
#[derive(Debug)]
pub struct Matched<'c> {
    /// The binding.
    pub binding: &'c Binding,
    pub(crate) spans: Spans,
}

/// Everything a gateway knows about its services.
#[derive(Debug)]
pub struct Catalog {
    pool: DescriptorPool,
    schema: Schema,
    methods: Vec<Method>,
    bindings: Vec<Binding>,
    router: Router,
    by_path: AHashMap<Box<str>, MethodId>,
}

impl Catalog {
    /// Compiles descriptor sets. `library` holds sets whose types are wanted whether or not a set has them (for instance
    /// error details), and that stand in for imports that a set leaves out; files of it that do not fit are left out. `serves` tells which services are.
    ///
    /// # Errors
    /// The sets do not fit together, or a rule cannot be served; nothing is left out silently.
    pub fn new(sets: &[&[u8]], library: &[&[u8]], serves: impl Fn(&str) -> bool) -> Result<Self, CatalogError> {
        // The library that links descriptors trusts that a compiler made them: it panics at maps without values and at names that are not
        // there. Whoever hands them in gets an error all the same, and a gateway that reloads them keeps serving.
        std::panic::catch_unwind(AssertUnwindSafe(|| Self::link(sets, library, serves)))
            .unwrap_or(Err(CatalogError::Malformed))
    }

    fn link(sets: &[&[u8]], library: &[&[u8]], serves: impl Fn(&str) -> bool) -> Result<Self, CatalogError> {
        let (pool, traits) = merge::pool(sets, library)?;
        // As many as compilers allow, extensions included.
        let is_huge =
            |message: &MessageDescriptor| message.fields().len() + message.extensions().len() > usize::from(u16::MAX);
        if let Some(message) = pool.all_messages().find(is_huge) {
            return Err(CatalogError::Fields(message.full_name().to_owned()));
        }
        let schema = Schema::with_traits(&pool, &traits);
        let mut catalog = Self {
            pool,
            schema,
            methods: Vec::new(),
            bindings: Vec::new(),
            router: Router::new(),
            by_path: AHashMap::new(),
        };
        let services: Vec<_> = catalog
            .pool
            .services()
            .filter(|service| serves(service.full_name()))
            .collect();
        for service in services {
            for method in service.methods() {
                catalog.add_method(&method)?;
            }
        }
        Ok(catalog)
    }

    fn add_method(&mut self, descriptor: &MethodDescriptor) -> Result<(), CatalogError> {
        let service = descriptor.parent_service();
        let id = MethodId(self.methods.len());
        let path: Box<str> = format!("/{}/{}", service.full_name(), descriptor.name()).into();
        let find = |name: &str| self.schema.find(name).ok_or(CatalogError::NotASet);
        let (input, output) = (
            find(descriptor.input().full_name())?,
            find(descriptor.output().full_name())?,
        );
        let level = descriptor
            .method_descriptor_proto()
            .options
            .as_ref()
            .map(prost_types::MethodOptions::idempotency_level);
        self.methods.push(Method {
            service: service.full_name().into(),
            full_name: descriptor.full_name().into(),
            path: path.clone(),
            input,
            output,
            client_streaming: descriptor.is_client_streaming(),
            server_streaming: descriptor.is_server_streaming(),
            idempotent: level.is_some_and(|level| level as i32 != 0),
            descriptor: descriptor.clone(),
        });
        self.by_path.insert(path, id);
        for rule in rule::rules(descriptor) {
            self.add_rule(id, descriptor.full_name(), input, output, rule)?;
        }
        Ok(())
    }

    fn add_rule(
        &mut self,
        id: MethodId,
        name: &str,
        input: MessageId,
        output: MessageId,
        rule: HttpRule,
    ) -> Result<(), CatalogError> {
        let template = Template::parse(&rule.template).map_err(|source| CatalogError::Template {
            method: name.to_owned(),
            template: rule.template.clone(),
            source,
        })?;
        let fail = |field: &str, problem| CatalogError::Field {
            method: name.to_owned(),
            template: rule.template.clone(),
            field: field.to_owned(),
            problem,
        };
        let methods = match rule.method.as_str() {
            "*" => Methods::Any,
            kind => Methods::Only(
                HttpMethod::from_bytes(kind.as_bytes()).map_err(|_| CatalogError::HttpMethod {
                    method: name.to_owned(),
                    kind: kind.to_owned(),
                })?,
            ),
        };
        let resolve = |variable: &Variable| {
            fields::resolve(&self.schema, input, variable).map_err(|problem| fail(&variable.field_path, problem))
        };
        let variables: Box<[Bound]> = template.variables.iter().map(resolve).collect::<Result<_, _>>()?;
        let message = self.schema.message(input);
        let body = match rule.body.as_str() {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            field => BodyRule::Field(
                message
                    .index_by_name(field)
                    .ok_or_else(|| fail(field, "does not exist"))?,
            ),
        };
        let response_body = match rule.response_body.as_str() {
            "" => None,
            field => {
                let found = self.schema.message(output).index_by_name(field);
                Some(found.ok_or_else(|| fail(field, "does not exist in the reply"))?)
            }
        };
        let binding = self.bindings.len();
        self.router
            .insert(&template, methods, binding)
            .map_err(|other| CatalogError::Ambiguous {
                method: name.to_owned(),
                other: self
                    .bindings
                    .get(other)
                    .and_then(|other| self.methods.get(other.method.0))
                    .map_or_else(String::new, |m| m.full_name.to_string()),
                template: rule.template.clone(),
            })?;
        let mask = if rule.method == "PATCH" {
            fields::mask_field(&self.schema, input, body)
        } else {
            None
        };
        let etag = fields::etag_field(&self.schema, input, body);
        self.bindings.push(Binding {
            method: id,
            rule,
            body,
            response_body,
            variables,
            mask,
            etag,
        });
        Ok(())
    }

    /// The binding of a request. `path` is the raw path, without the query.
    ///
    /// # Errors
    /// No template fits, or none with this method.
    pub fn route(&self, method: &HttpMethod, path: &str) -> Result<Matched<'_>, RouteError> {
        let (index, spans) = self.router.find(method, path)?;
        let binding = self.bindings.get(index).ok_or(RouteError::NotFound)?;
        Ok(Matched { binding, spans })
    }

    /// The method of an id of this catalog.
    #[allow(
        clippy::indexing_slicing,
        reason = "ids are only made by this catalog and never outlive it"
    )]
    pub fn method(&self, id: MethodId) -> &Method {
        &self.methods[id.0]
    }

    /// The method that is called as `/package.Service/Method`.
    pub fn method_by_path(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path).map(|id| self.method(*id))
    }

    /// All methods, in the order of their declaration.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// All bindings, in the order of their declaration.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The compiled types.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The descriptors, options and comments included.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}
