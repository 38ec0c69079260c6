//! The part of JSONPath that printer columns use: fields, `['quoted.fields']`, indexes, `[*]` and `[?(@.type=="Ready")]`.

use serde_json::Value;

enum Step<'a> {
    Field(&'a str),
    Index(usize),
    All,
    Filter(&'a str, &'a str),
}

/// All values at a path.
pub(crate) fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}');
    let unescaped = path.replace("\\.", "\u{0}");
    let mut found = vec![value];
    for step in steps(&unescaped) {
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
    }
    found.retain(|value| !value.is_null());
    found
}

fn take<'a>(value: &'a Value, step: &Step<'_>) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name.replace('\u{0}', ".")).into_iter().collect(),
        Step::Index(index) => value.get(*index).into_iter().collect(),
        Step::All => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Filter(field, wanted) => value
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| match find(item, field).first() {
                Some(Value::String(text)) => text == wanted,
                Some(other) => other.to_string().as_str() == *wanted,
                None => false,
            })
            .collect(),
    }
}

fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            rest = tail;
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            if !name.is_empty() {
                steps.push(if name == "*" { Step::All } else { Step::Field(name) });
            }
            rest = tail;
        } else if let Some((inside, tail)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            steps.extend(bracket(inside));
            rest = tail;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len()).max(1);
            let (name, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
            steps.push(Step::Field(name));
            rest = tail;
        }
    }
    steps
}

fn bracket(inside: &str) -> Option<Step<'_>> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|inside| inside.strip_suffix(')')) {
        let (field, wanted) = condition.split_once("==")?;
        let wanted = wanted.trim().trim_matches(['"', '\'']);
        return Some(Step::Filter(field.trim().trim_start_matches('@'), wanted));
    }
    let quoted = inside.trim_matches(['"', '\'']);
    Some(quoted.parse().map_or(Step::Field(quoted), Step::Index))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns_find_their_values() {
        let value = json!({
            "metadata": {"labels": {"a.b/c": "l"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}], "ips": ["1", "2"], "null": null},
        });
        for (path, expected) in [
            (".status.conditions[?(@.type=='Ready')].status", vec!["True"]),
            (".status.conditions[?(@.type==\"X\")].status", vec!["False"]),
            (".status.ips[1]", vec!["2"]),
            (".status.ips[*]", vec!["1", "2"]),
            (".metadata.labels.a\\.b/c", vec!["l"]),
            (".metadata.labels['a.b/c']", vec!["l"]),
            (".status.null", vec![]),
            (".missing.field", vec![]),
        ] {
            let found: Vec<&str> = find(&value, path).into_iter().filter_map(Value::as_str).collect();
            assert_eq!(found, expected, "{path}");
        }
    }
}
