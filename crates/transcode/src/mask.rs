//! The update mask that a PATCH body implies: the paths of what is present in its JSON.

use crate::codec::{Lexer, MAX_DEPTH};
use crate::error::InvalidRequest;
use crate::schema::{Message, Schema, WellKnown};

/// Paths of the fields that `json`, an object of type `message`, mentions, in the names of the `.proto` file.
/// Goes into messages; stops at lists, maps, well-known types and `Any`, which are replaced as a whole.
pub(crate) fn from_json(schema: &Schema, message: &Message, json: &str) -> Result<Vec<String>, InvalidRequest> {
    let mut paths = Vec::new();
    let mut lex = Lexer::new(json);
    if lex.peek() == Some(b'{') {
        walk(schema, message, &mut lex, "", 0, &mut paths)?;
    }
    Ok(paths)
}

fn walk(
    schema: &Schema,
    message: &Message,
    lex: &mut Lexer<'_>,
    prefix: &str,
    depth: usize,
    paths: &mut Vec<String>,
) -> Result<(), InvalidRequest> {
    lex.expect(b'{', "an object")?;
    let mut first = true;
    while lex.more(&mut first, b'}')? {
        let key = lex.key()?;
        let Some(field) = message.field_by_name(&key) else {
            lex.skip(depth)?;
            continue;
        };
        let path = if prefix.is_empty() {
            field.name.to_string()
        } else {
            format!("{prefix}.{}", field.name)
        };
        let inner = field.kind.message().map(|id| schema.message(id));
        match inner.filter(|inner| field.is_singular() && inner.well_known == WellKnown::No) {
            Some(inner) if lex.peek() == Some(b'{') && depth < MAX_DEPTH => {
                let before = paths.len();
                walk(schema, inner, lex, &path, depth + 1, paths)?;
                if paths.len() == before {
                    paths.push(path);
                }
            }
            _ => {
                lex.skip(depth)?;
                paths.push(path);
            }
        }
    }
    Ok(())
}
