//! Query parameters as fields of the request message.

use std::borrow::Cow;

use ahash::{AHashMap, AHashSet};

use crate::catalog::{Binding, BodyRule, takes_text};
use crate::codec::scalar;
use crate::codec::{MAX_REQUEST_DEPTH, Unknown};
use crate::codec::{put_text, put_text_message};
use crate::error::{FieldViolation, InvalidRequest};
use crate::percent;
use crate::schema::{Field, MessageId, Schema, Shape};
use crate::wire;

/// Parameters that are not fields but say how the reply is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemParameters {
    /// `$alt=json;enum-encoding=int`.
    pub enum_numbers: bool,
}

const NO_FIELD: &str = "no such field";

/// A decoded key and value.
type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

/// The decoded pairs of a query, in order.
fn pairs(query: &str) -> Result<Vec<Pair<'_>>, InvalidRequest> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text| percent::decode_query(text).map_err(|error| InvalidRequest::new(key, error.to_string()));
        pairs.push((decode(key)?, decode(value)?));
    }
    Ok(pairs)
}

/// Appends every parameter to the request; tells what they set besides, and which fields.
pub(crate) fn apply(
    schema: &Schema,
    input: MessageId,
    binding: &Binding,
    query: &str,
    has_body: bool,
    unknown: Unknown,
    out: &mut Vec<u8>,
) -> Result<(SystemParameters, Vec<Vec<u32>>), InvalidRequest> {
    let mut system = SystemParameters::default();
    let mut given: AHashSet<Vec<u32>> = AHashSet::new();
    let mut choices = Choices::of(schema, input, binding, has_body);
    let mut violations = Vec::new();
    for (key, value) in pairs(query)? {
        if is_system(schema, input, &key) {
            match alt(&value) {
                Some(numbers) => system.enum_numbers = numbers,
                None => violations.push(violation(
                    &key,
                    "not a supported representation: must be json or json;enum-encoding=int",
                )),
            }
            continue;
        }
        let parameter = match Parameter::resolve(schema, input, &key) {
            Ok(parameter) => parameter,
            Err(NO_FIELD) if unknown == Unknown::Ignore => continue,
            Err(problem) => {
                violations.push(violation(&key, problem));
                continue;
            }
        };
        let problem = parameter.conflict(schema, input, binding).or_else(|| {
            let fresh =
                given.insert(parameter.numbers.clone()) || matches!(parameter.field.shape, Shape::Repeated { .. });
            (!fresh).then_some("given twice")
        });
        let problem = problem.or_else(|| {
            let agrees = choices.agree(schema, input, &parameter.numbers);
            (!agrees).then_some("another field of the same oneof is set")
        });
        match problem {
            Some(problem) => violations.push(violation(&key, problem)),
            None => {
                if let Err(reason) = parameter.write(schema, value, out) {
                    violations.push(violation(&key, &reason));
                }
            }
        }
    }
    if violations.is_empty() {
        Ok((system, given.into_iter().collect()))
    } else {
        Err(InvalidRequest { violations })
    }
}

fn violation(key: &str, problem: &str) -> FieldViolation {
    FieldViolation {
        field: key.chars().take(200).collect(),
        description: problem.to_owned(),
    }
}

/// `$alt`, or `alt` where no field has that name.
fn is_system(schema: &Schema, input: MessageId, key: &str) -> bool {
    key == "$alt" || (key == "alt" && schema.message(input).field_by_name("alt").is_none())
}

/// Whether enums are asked for by number.
fn alt(value: &str) -> Option<bool> {
    match value {
        "json" => Some(false),
        "json;enum-encoding=int" => Some(true),
        _ => None,
    }
}

/// Which field of each oneof is set: by the path, the body, or an earlier parameter.
struct Choices(AHashMap<(Vec<u32>, u16), u32>);

impl Choices {
    fn of(schema: &Schema, input: MessageId, binding: &Binding, has_body: bool) -> Self {
        let mut choices = Self(AHashMap::new());
        let message = schema.message(input);
        if let BodyRule::Field(index) = binding.body
            && let Some(field) = message.fields.get(index).filter(|_| has_body)
        {
            choices.agree(schema, input, &[field.number]);
        }
        for bound in &binding.variables {
            choices.agree(schema, input, &bound.numbers);
        }
        choices
    }

    /// Sets the field that this path leads to, and every message on the way; `false` if that contradicts what is set.
    fn agree(&mut self, schema: &Schema, input: MessageId, numbers: &[u32]) -> bool {
        let mut message = schema.message(input);
        for (depth, &number) in numbers.iter().enumerate() {
            let Some(field) = message.field(number) else {
                return true;
            };
            if let Some(oneof) = field.oneof {
                let outer = numbers.get(..depth).unwrap_or_default().to_vec();
                if *self.0.entry((outer, oneof)).or_insert(number) != number {
                    return false;
                }
            }
            let Some(inner) = field.kind.message() else { return true };
            message = schema.message(inner);
        }
        true
    }
}

/// A parameter's field.
struct Parameter<'s> {
    numbers: Vec<u32>,
    field: &'s Field,
}

impl<'s> Parameter<'s> {
    fn resolve(schema: &'s Schema, input: MessageId, key: &str) -> Result<Self, &'static str> {
        let mut message = schema.message(input);
        let mut numbers = Vec::new();
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if numbers.len() >= MAX_REQUEST_DEPTH {
                return Err("nested too deep");
            }
            let field = message.field_by_name(part).ok_or(NO_FIELD)?;
            numbers.push(field.number);
            let inner = field.kind.message().map(|id| schema.message(id));
            if parts.peek().is_none() {
                return match (field.shape, inner) {
                    (Shape::Map { .. }, _) => Err("a map cannot be given as a query parameter"),
                    (_, Some(inner)) if !takes_text(inner.well_known) => {
                        Err("a message cannot be given as a query parameter")
                    }
                    _ => Ok(Self { numbers, field }),
                };
            }
            message = inner.filter(|_| field.is_singular()).ok_or(NO_FIELD)?;
        }
        Err(NO_FIELD)
    }

    /// Why the rule does not take this parameter.
    fn conflict(&self, schema: &Schema, input: MessageId, binding: &Binding) -> Option<&'static str> {
        if binding.variables.iter().any(|bound| *bound.numbers == *self.numbers) {
            return Some("is part of the path");
        }
        match binding.body {
            BodyRule::None => None,
            BodyRule::Whole => Some("belongs into the body"),
            BodyRule::Field(index) => {
                let body = schema.message(input).fields.get(index).map(|field| field.number);
                (self.numbers.first().copied() == body).then_some("belongs into the body")
            }
        }
    }

    fn write(&self, schema: &Schema, value: Cow<'_, str>, out: &mut Vec<u8>) -> Result<(), scalar::Reason> {
        let Some((&number, outer)) = self.numbers.split_last() else {
            return Ok(());
        };
        let mut content = Vec::new();
        match self.field.kind.message() {
            Some(id) => put_text_message(schema, id, &value, &mut content)?,
            None => return self.write_scalar(schema, value, out),
        }
        nest(outer, out, |out| wire::put_bytes(out, number, &content));
        Ok(())
    }

    fn write_scalar(&self, schema: &Schema, value: Cow<'_, str>, out: &mut Vec<u8>) -> Result<(), scalar::Reason> {
        let Some((_, outer)) = self.numbers.split_last() else {
            return Ok(());
        };
        let mut field = Vec::new();
        put_text(schema, self.field, value, &mut field)?;
        nest(outer, out, |out| out.extend_from_slice(&field));
        Ok(())
    }
}

/// Writes something inside nested messages; pieces of one message are merged by whoever reads them.
pub(crate) fn nest(path: &[u32], out: &mut Vec<u8>, inner: impl FnOnce(&mut Vec<u8>)) {
    let starts: Vec<usize> = path.iter().map(|number| wire::open(out, *number)).collect();
    inner(out);
    for start in starts.into_iter().rev() {
        wire::close(out, start);
    }
}
