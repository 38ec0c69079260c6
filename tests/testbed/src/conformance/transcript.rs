//! What a client saw, in order and without what differs from run to run.
//!
//! Uids, revisions, generated names, addresses and ports become placeholders that are numbered by their first appearance, so that what is
//! equal in a run stays equal in its transcript; times and continue tokens just say what they are.

use std::{collections::HashMap, sync::LazyLock};

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

use super::{
    lab::{Answer, Lab},
    stream::at,
};

static UID: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").ok());
static TIME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").ok());

/// Fields whose texts are addresses of the server's choice.
const ADDRESSES: [&str; 6] = ["clusterIP", "clusterIPs", "podIP", "hostIP", "ip", "ipAddress"];
/// Fields whose numbers are ports of the server's choice.
const PORTS: [&str; 2] = ["nodePort", "healthCheckNodePort"];

/// What can be noted.
pub trait Noted {
    /// As it is noted.
    fn noted(&self) -> Value;
}

impl Noted for Answer {
    fn noted(&self) -> Value {
        let mut noted = json!({"code": self.code, "body": without_managers(&self.body)});
        if !self.warnings.is_empty()
            && let Some(noted) = noted.as_object_mut()
        {
            noted.insert("warnings".to_owned(), json!(self.warnings));
        }
        noted
    }
}

impl Noted for Value {
    fn noted(&self) -> Value {
        self.clone()
    }
}

impl Noted for str {
    fn noted(&self) -> Value {
        json!(self)
    }
}

impl Noted for String {
    fn noted(&self) -> Value {
        json!(self)
    }
}

impl Noted for bool {
    fn noted(&self) -> Value {
        json!(self)
    }
}

impl Noted for u16 {
    fn noted(&self) -> Value {
        json!(self)
    }
}

impl Noted for usize {
    fn noted(&self) -> Value {
        json!(self)
    }
}

impl<T: Noted> Noted for Vec<T> {
    fn noted(&self) -> Value {
        self.iter().map(Noted::noted).collect()
    }
}

impl<T: Noted> Noted for Option<T> {
    fn noted(&self) -> Value {
        self.as_ref().map_or(Value::Null, Noted::noted)
    }
}

impl Answer {
    /// The code and, of a success, only these paths of the body; of a refusal all of it.
    pub fn only(&self, paths: &[&str]) -> Value {
        if !self.ok() {
            return self.noted();
        }
        let mut noted = json!({"code": self.code, "body": pick(&self.body, paths)});
        if !self.warnings.is_empty()
            && let Some(noted) = noted.as_object_mut()
        {
            noted.insert("warnings".to_owned(), json!(self.warnings));
        }
        noted
    }
}

/// Of a value only what is at these paths, as `{"spec/ports/0/port": 80}`; null where nothing is.
pub fn pick(value: &Value, paths: &[&str]) -> Value {
    let picked = paths
        .iter()
        .map(|path| ((*path).to_owned(), at(value, path).cloned().unwrap_or(Value::Null)));
    Value::Object(picked.collect())
}

/// An object or a list without the managers' records, which only few cases are about.
fn without_managers(body: &Value) -> Value {
    let mut body = body.clone();
    let strip = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
        }
    };
    strip(&mut body);
    if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(strip);
    }
    if body.get("type").is_some()
        && let Some(object) = body.get_mut("object")
    {
        strip(object);
    }
    body
}

/// One note: what was done and what was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What was done.
    pub what: String,
    /// What was seen.
    pub saw: Value,
}

/// A normalised transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The case's id.
    pub case: String,
    /// Its notes.
    pub notes: Vec<Note>,
}

/// What a client sees while a case runs.
#[derive(Debug, Default)]
pub struct Transcript {
    notes: Vec<Note>,
    aliases: Vec<(String, String)>,
}

impl Transcript {
    /// Notes what was seen.
    pub fn note(&mut self, what: &str, saw: &(impl Noted + ?Sized)) {
        self.notes.push(Note {
            what: what.to_owned(),
            saw: without_managers(&saw.noted()),
        });
    }

    /// Notes what was seen as it is, with the managers' records.
    pub fn note_whole(&mut self, what: &str, saw: Value) {
        self.notes.push(Note {
            what: what.to_owned(),
            saw,
        });
    }

    /// Lets `text` read `<name>` wherever it stands as a word of its own, as a revision inside a message.
    pub fn alias(&mut self, text: impl Into<String>, name: &str) {
        let text = text.into();
        if !text.is_empty() {
            self.aliases.push((text, format!("<{name}>")));
        }
    }

    /// The transcript without what differs from run to run.
    pub fn normalise(self, case: &str, lab: &Lab) -> Recording {
        let Self { notes, mut aliases } = self;
        let mut placeholders = Placeholders::default();
        for note in &notes {
            placeholders.find_generated(&note.saw, &mut aliases);
        }
        aliases.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        placeholders.aliases = aliases;
        placeholders.id.clone_from(&lab.id);
        let notes = notes
            .into_iter()
            .map(|note| Note {
                what: note.what,
                saw: placeholders.value("", &note.saw),
            })
            .collect();
        Recording {
            case: case.to_owned(),
            notes,
        }
    }
}

#[derive(Default)]
struct Placeholders {
    id: String,
    aliases: Vec<(String, String)>,
    known: HashMap<(&'static str, String), usize>,
    counts: HashMap<&'static str, usize>,
}

impl Placeholders {
    fn number(&mut self, kind: &'static str, text: &str) -> String {
        let key = (kind, text.to_owned());
        let number = match self.known.get(&key) {
            Some(number) => *number,
            None => {
                let count = self.counts.entry(kind).or_default();
                *count += 1;
                let number = *count;
                self.known.insert(key, number);
                number
            }
        };
        format!("<{kind}:{number}>")
    }

    fn find_generated(&mut self, value: &Value, aliases: &mut Vec<(String, String)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.find_generated(item, aliases)),
            Value::Object(map) => {
                let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
                let (prefix, name) = (text("generateName"), text("name"));
                if !prefix.is_empty() && name.len() > prefix.len() && name.starts_with(prefix) {
                    let stands_for = format!("{prefix}{}", self.number("generated", name));
                    if aliases.iter().all(|(known, _)| known != name) {
                        aliases.push((name.to_owned(), stands_for));
                    }
                }
                map.values().for_each(|value| self.find_generated(value, aliases));
            }
            _ => {}
        }
    }

    fn value(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.value(key, item)).collect(),
            Value::Object(map) => {
                let mut sorted: Vec<(&String, &Value)> = map.iter().collect();
                sorted.sort_by(|left, right| left.0.cmp(right.0));
                let pairs = sorted.into_iter().map(|(key, value)| {
                    let place = key.rsplit('/').next().unwrap_or(key);
                    let normal = self.value(place, value);
                    (self.text(key), normal)
                });
                Value::Object(pairs.collect::<Map<_, _>>())
            }
            Value::String(text) => json!(self.keyed(key, text)),
            Value::Number(number) if PORTS.contains(&key) && number.as_u64() != Some(0) => {
                json!(self.number("port", &number.to_string()))
            }
            other => other.clone(),
        }
    }

    fn keyed(&mut self, key: &str, text: &str) -> String {
        if let Some((_, name)) = self.aliases.iter().find(|(known, _)| known == text) {
            return name.clone();
        }
        match key {
            _ if text.is_empty() => String::new(),
            "resourceVersion" if text != "0" => self.number("rv", text),
            "continue" => "<continue>".to_owned(),
            key if ADDRESSES.contains(&key) && text.parse::<std::net::IpAddr>().is_ok() => self.number("ip", text),
            _ => self.text(text),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.replace(&self.id, "<id>");
        for (known, name) in &self.aliases {
            text = replace_word(&text, known, name);
        }
        if let Some(uid) = UID.as_ref() {
            text = uid
                .replace_all(&text, |found: &Captures<'_>| self.number("uid", &found[0]))
                .into_owned();
        }
        if let Some(time) = TIME.as_ref() {
            text = time
                .replace_all(&text, |found: &Captures<'_>| match found.get(1) {
                    Some(_) => "<microtime>",
                    None => "<time>",
                })
                .into_owned();
        }
        text
    }
}

/// Replaces `word` where no letter, digit or hyphen of a longer word touches it.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(word) {
        let (before, after) = (&rest[..place], &rest[place + word.len()..]);
        let touches = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric());
        result.push_str(before);
        let alone = !touches(before.chars().next_back().or_else(|| result.chars().next_back()))
            && !touches(after.chars().next());
        result.push_str(if alone { by } else { word });
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(value: &Value, aliases: &[(&str, &str)]) -> Value {
        let mut placeholders = Placeholders {
            id: "zq7".to_owned(),
            ..Placeholders::default()
        };
        let mut all = aliases
            .iter()
            .map(|(text, name)| ((*text).to_owned(), (*name).to_owned()))
            .collect();
        placeholders.find_generated(value, &mut all);
        placeholders.aliases = all;
        placeholders.value("", value)
    }

    #[test]
    fn what_differs_from_run_to_run_becomes_a_placeholder() {
        let seen = json!({
            "metadata": {
                "generateName": "a-", "name": "a-x7k2p", "namespace": "case-zq7", "resourceVersion": "12",
                "uid": "01234567-89ab-cdef-0123-456789abcdef", "creationTimestamp": "2026-01-02T03:04:05Z",
            },
            "again": {"resourceVersion": "12", "message": "a-x7k2p of 01234567-89ab-cdef-0123-456789abcdef"},
            "spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"nodePort": 31000}], "clusterIPx": "None"},
            "later": {"resourceVersion": "13", "time": "2026-01-02T03:04:05.123456Z"},
        });
        insta_free(
            &normal(&seen, &[]),
            &json!({
                "again": {"message": "a-<generated:1> of <uid:1>", "resourceVersion": "<rv:1>"},
                "later": {"resourceVersion": "<rv:2>", "time": "<microtime>"},
                "metadata": {
                    "creationTimestamp": "<time>", "generateName": "a-", "name": "a-<generated:1>", "namespace": "case-<id>",
                    "resourceVersion": "<rv:1>", "uid": "<uid:1>",
                },
                "spec": {"clusterIP": "<ip:1>", "clusterIPs": ["<ip:1>"], "clusterIPx": "None", "ports": [{"nodePort": "<port:1>"}]},
            }),
        );
    }

    fn insta_free(got: &Value, want: &Value) {
        assert_eq!(got.to_string(), want.to_string(), "also in the order of the keys");
    }

    #[test]
    fn an_alias_replaces_whole_words_only() {
        let seen = json!({"message": "revision 12 of 112, not 12x but 12."});
        assert_eq!(
            normal(&seen, &[("12", "<stale>")]),
            json!({"message": "revision <stale> of 112, not 12x but <stale>."})
        );
    }
}
