//! An HTTP request's parts as one request message, and a reply message as an HTTP body.
//!
//! The message is put together on the wire: the body's bytes, then the query's, then the path's. Protobuf merges
//! what is concatenated, so a path variable inside the body's message needs no surgery on it.

use std::borrow::Cow;

use crate::catalog::{self, Binding, BodyRule, Catalog, Matched};
use crate::codec::scalar::Scalar;
use crate::codec::{self, DecodeOptions, EncodeError, EncodeOptions, EnumStyle};
use crate::error::{InvalidRequest, join};
use crate::query;
pub use crate::query::SystemParameters;
use crate::router;
use crate::schema::{Kind, Message, MessageId, Schema};
use crate::wire::{self, Raw};
use crate::{mask, schema::Field};

/// The body of an HTTP request.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// None, or an empty one.
    Empty,
    /// JSON.
    Json(&'a [u8]),
    /// Something else, for `google.api.HttpBody`.
    Raw {
        /// Its content type.
        content_type: &'a str,
        /// Its bytes.
        data: &'a [u8],
    },
}

/// The parts of an HTTP request that make the message.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The raw path that was routed.
    pub path: &'a str,
    /// The raw query, without the question mark.
    pub query: &'a str,
    /// The body.
    pub body: Body<'a>,
    /// The etag from `If-Match`.
    pub if_match: Option<&'a str>,
    /// The last event that the client of a stream has seen (`Last-Event-ID`): becomes the request's `resume_token`
    /// where it has that field and the query does not set it.
    pub resume: Option<&'a str>,
}

impl Binding {
    /// Whether the body is taken as it is, whatever its type.
    pub fn takes_raw_body(&self, catalog: &Catalog) -> bool {
        let input = catalog.schema().message(catalog.method(self.method).input);
        match self.body {
            BodyRule::None => false,
            BodyRule::Whole => input.is_http_body,
            BodyRule::Field(index) => {
                let inner = input.fields.get(index).filter(|field| field.is_singular());
                let inner = inner.and_then(|field| field.kind.message());
                inner.is_some_and(|id| catalog.schema().message(id).is_http_body)
            }
        }
    }

    /// Whether `If-Match` can be honoured.
    pub fn takes_etag(&self) -> bool {
        self.etag.is_some()
    }
}

/// Appends the request message to `out`.
///
/// # Errors
/// Every violation that a client can mend, each with its field.
pub fn request(
    catalog: &Catalog,
    matched: &Matched<'_>,
    parts: &Parts<'_>,
    options: &DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<SystemParameters, InvalidRequest> {
    let (binding, schema) = (matched.binding, catalog.schema());
    let input = catalog.method(binding.method).input;
    let message = schema.message(input);
    let start = out.len();
    body(catalog, binding, input, parts.body, *options, out)?;
    let body_end = out.len();

    let (mut system, mut given) = (SystemParameters::default(), Vec::new());
    if !parts.query.is_empty() {
        let has_body = !matches!(parts.body, Body::Empty);
        (system, given) = query::apply(schema, input, binding, parts.query, has_body, options.unknown, out)?;
    }
    for bound in &binding.variables {
        let text = router::capture(parts.path, &matched.spans, &bound.variable);
        path_variable(catalog, input, bound, text, start..body_end, out)?;
    }
    if let Some(etag) = parts.if_match {
        if_match(binding, message, etag, start, out)?;
    }
    if let Some(token) = parts.resume
        && let Some(field) = resume_field(message).filter(|field| !given.contains(&vec![field.number]))
        && binding.body == BodyRule::None
    {
        wire::put_bytes(out, field.number, token.as_bytes());
    }
    if let Some(number) = binding.mask.filter(|number| !given.contains(&vec![*number])) {
        let Body::Json(json) = parts.body else {
            return Ok(system);
        };
        update_mask(catalog, binding, message, json, number, out)?;
    }
    Ok(system)
}

/// Appends a further message of a stream of requests: its body alone, since path and query belong to the first.
///
/// # Errors
/// As [`request`].
pub fn further_request(
    catalog: &Catalog,
    binding: &Binding,
    parts: Body<'_>,
    options: &DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let input = catalog.method(binding.method).input;
    body(catalog, binding, input, parts, *options, out)
}

fn body(
    catalog: &Catalog,
    binding: &Binding,
    input: MessageId,
    body: Body<'_>,
    options: DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let schema = catalog.schema();
    let field = match binding.body {
        BodyRule::Field(index) => schema.message(input).fields.get(index),
        BodyRule::None | BodyRule::Whole => None,
    };
    match (binding.body, body) {
        (_, Body::Empty) => Ok(()),
        // Some clients send an empty object with every request.
        (BodyRule::None, Body::Json(json)) if json.trim_ascii() == b"{}" => Ok(()),
        (BodyRule::None, _) => Err(InvalidRequest::new("", "this method takes no body")),
        (_, Body::Raw { content_type, data }) => {
            let mut content = Vec::with_capacity(data.len() + content_type.len() + 16);
            wire::put_bytes(&mut content, 1, content_type.as_bytes());
            wire::put_bytes(&mut content, 2, data);
            match field {
                Some(field) => wire::put_bytes(out, field.number, &content),
                None => out.extend_from_slice(&content),
            }
            Ok(())
        }
        (BodyRule::Whole, Body::Json(json)) => codec::decode(schema, input, json, &options, out),
        (BodyRule::Field(_), Body::Json(json)) => {
            let Some(field) = field else { return Ok(()) };
            codec::decode_field(schema, field, json, &options, out).map_err(|error| error.within(&field.json_name))
        }
    }
}

/// Appends a path variable's field, which the body must not contradict.
fn path_variable(
    catalog: &Catalog,
    input: MessageId,
    bound: &catalog::Bound,
    text: Cow<'_, str>,
    body: std::ops::Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let schema = catalog.schema();
    let path = &bound.variable.field_path;
    let Some((&number, outer)) = bound.numbers.split_last() else {
        return Ok(());
    };
    if let Some(id) = bound.kind.message() {
        let mut content = Vec::new();
        codec::put_text_message(schema, id, &text, &mut content)
            .map_err(|reason| InvalidRequest::new(path.as_str(), reason))?;
        query::nest(outer, out, |out| wire::put_bytes(out, number, &content));
        return Ok(());
    }
    let value = codec::scalar::from_text(schema, bound.kind, text)
        .map_err(|reason| InvalidRequest::new(path.as_str(), reason))?;
    if out
        .get(body.clone())
        .is_some_and(|body| chooses_otherwise(schema, input, &bound.numbers, body))
    {
        return Err(InvalidRequest::new(
            path.as_str(),
            "the body sets another field of the same oneof",
        ));
    }
    let in_body = out
        .get(body)
        .and_then(|body| wire::find(body, &bound.numbers).ok().flatten());
    if in_body.is_some_and(|raw| !wire::is_default(&raw) && !value.equals(&raw)) {
        return Err(InvalidRequest::new(path.as_str(), "differs between path and body"));
    }
    if !catalog::is_redundant(bound.presence, &value) {
        query::nest(outer, out, |out| value.put_field(number, bound.kind, out));
    }
    Ok(())
}

/// Whether the body has set another field of a oneof that this path leads through.
fn chooses_otherwise(schema: &Schema, input: MessageId, numbers: &[u32], body: &[u8]) -> bool {
    let mut message = schema.message(input);
    for (depth, &number) in numbers.iter().enumerate() {
        let Some(field) = message.field(number) else {
            return false;
        };
        let others = message
            .fields
            .iter()
            .filter(|other| field.oneof.is_some() && other.oneof == field.oneof && other.number != number);
        for other in others {
            let mut path = numbers.get(..depth).unwrap_or_default().to_vec();
            path.push(other.number);
            if matches!(wire::find(body, &path), Ok(Some(_))) {
                return true;
            }
        }
        let Some(inner) = field.kind.message() else {
            return false;
        };
        message = schema.message(inner);
    }
    false
}

fn if_match(
    binding: &Binding,
    message: &Message,
    etag: &str,
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let Some(numbers) = &binding.etag else { return Ok(()) };
    let value = Scalar::Text(Cow::Borrowed(etag));
    let present = out
        .get(start..)
        .and_then(|bytes| wire::find(bytes, numbers).ok().flatten());
    if present.is_some_and(|raw: Raw<'_>| !wire::is_default(&raw) && !value.equals(&raw)) {
        return Err(InvalidRequest::new("etag", "differs between If-Match and the request"));
    }
    // An etag inside the body's message means nothing if that message is not there.
    let Some((&number, outer)) = numbers.split_last() else {
        return Ok(());
    };
    let has_outer = outer.iter().all(|outer| message.field(*outer).is_some());
    if has_outer {
        query::nest(outer, out, |out| wire::put_bytes(out, number, etag.as_bytes()));
    }
    Ok(())
}

/// The field of a request or reply from which a stream resumes.
pub fn resume_field(message: &Message) -> Option<&Field> {
    message
        .field_by_name("resume_token")
        .filter(|field| field.is_singular() && field.kind == Kind::String)
}

/// Appends the mask that the body implies, without what the path says anyway.
fn update_mask(
    catalog: &Catalog,
    binding: &Binding,
    message: &Message,
    json: &[u8],
    number: u32,
    out: &mut Vec<u8>,
) -> Result<(), InvalidRequest> {
    let BodyRule::Field(index) = binding.body else {
        return Ok(());
    };
    let body: Option<&Field> = message.fields.get(index);
    let Some((field, id)) = body.and_then(|field| Some((field, field.kind.message()?))) else {
        return Ok(());
    };
    let Ok(json) = std::str::from_utf8(json) else {
        return Ok(());
    };
    let mut paths = mask::from_json(catalog.schema(), catalog.schema().message(id), json)?;
    paths.retain(|path| {
        let full = join(&field.name, path);
        !binding.variables.iter().any(|bound| bound.variable.field_path == full)
    });
    if paths.is_empty() {
        return Ok(());
    }
    let start = wire::open(out, number);
    for path in paths {
        wire::put_bytes(out, 1, path.as_bytes());
    }
    wire::close(out, start);
    Ok(())
}

/// A reply that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawReply<'w> {
    /// Its content type.
    pub content_type: &'w str,
    /// Its bytes.
    pub data: &'w [u8],
}

/// The reply as raw bytes, if its type is `google.api.HttpBody`.
pub fn raw_response<'w>(catalog: &Catalog, binding: &Binding, wire: &'w [u8]) -> Option<RawReply<'w>> {
    let schema = catalog.schema();
    let output = schema.message(catalog.method(binding.method).output);
    let prefix: &[u32] = match binding.response_body.and_then(|index| output.fields.get(index)) {
        None if output.is_http_body => &[],
        Some(field)
            if field.is_singular() && field.kind.message().is_some_and(|id| schema.message(id).is_http_body) =>
        {
            &[field.number]
        }
        _ => return None,
    };
    let part = |number: u32| {
        let path: Vec<u32> = prefix.iter().copied().chain([number]).collect();
        match wire::find(wire, &path) {
            Ok(Some(Raw::Bytes(bytes))) => bytes,
            _ => &[],
        }
    };
    let content_type = std::str::from_utf8(part(1)).unwrap_or_default();
    Some(RawReply {
        content_type: if content_type.is_empty() {
            "application/octet-stream"
        } else {
            content_type
        },
        data: part(2),
    })
}

/// Appends the JSON of a reply to `out`.
///
/// # Errors
/// The upstream's bytes are not a message of the type.
pub fn response(
    catalog: &Catalog,
    binding: &Binding,
    wire: &[u8],
    system: SystemParameters,
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let output = catalog.method(binding.method).output;
    let mut options = *options;
    if system.enum_numbers {
        options.enums = EnumStyle::Numbers;
    }
    match binding.response_body {
        Some(field) => codec::encode_field(catalog.schema(), output, field, wire, &options, out),
        None => codec::encode(catalog.schema(), output, wire, &options, out),
    }
}

/// The reply's etag, if it has one.
pub fn response_etag<'w>(catalog: &Catalog, binding: &Binding, wire: &'w [u8]) -> Option<&'w str> {
    catalog::etag_of(
        catalog.schema(),
        catalog.method(binding.method).output,
        binding.response_body,
        wire,
    )
}
