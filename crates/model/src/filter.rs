//! Filters of list and watch calls: a subset of AIP-160.
//!
//! ```text
//! filter     = [ comparison { "AND" comparison } ]
//! comparison = field ( "=" | "!=" | ":" ) value
//! field      = name [ "." key ]             labels.env, labels."example.com/team"
//! value      = text | "\"" quoted "\""      a text runs to the next space
//! ```
//!
//! - `=` and `!=` compare the whole value; a field that is absent equals nothing and differs from everything.
//!   On a list, `=` holds if one item equals.
//! - `:` on a text is *contains*, on a list *has the item*, on a map *has the key* (`labels:env`), and with
//!   `*` *is there and not empty*.
//!
//! Which fields there are is given when parsing, so that a filter on a field that does not exist is an error and
//! never silently matches nothing.

use std::borrow::Cow;

use parse::Parser;

mod comparison;
mod parse;

pub use comparison::{Comparison, FilterError, MAX_COMPARISONS, MAX_FILTER, Operator};

/// Value of a field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Not set.
    Absent,
    /// A text, number or enum value as text.
    Text(Cow<'a, str>),
    /// Several texts.
    List(Vec<Cow<'a, str>>),
}

impl<'a> FieldValue<'a> {
    /// A text; an empty one is absent.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        if text.is_empty() {
            Self::Absent
        } else {
            Self::Text(text)
        }
    }

    /// A map's value, if the key is there. An empty value is there.
    pub fn entry(value: Option<&'a String>) -> Self {
        value.map_or(Self::Absent, |text| Self::Text(Cow::Borrowed(text.as_str())))
    }
}

/// What can be filtered: gives the value of a field by its name, of a map by its key.
pub trait Fields {
    /// The value of `field`; `key` is set if and only if the field is a map. Only known fields are asked for.
    fn field(&self, field: &str, key: Option<&str>) -> FieldValue<'_>;
}

/// A parsed filter: all comparisons must hold. The empty filter matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter(Vec<Comparison>);

impl Filter {
    /// Parses a filter over the `known` fields; a map is known as `labels.*`.
    ///
    /// # Errors
    /// If the text breaks the grammar, is too long, or names another field.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER {
            return Err(FilterError::TooLong);
        }
        Parser::new(text, known).filter().map(Self)
    }

    /// Whether the object passes.
    pub fn matches(&self, object: &dyn Fields) -> bool {
        self.0.iter().all(|comparison| comparison.holds(object))
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The comparisons, in order.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.0
    }

    /// The value that a field must equal, so that a list can be narrowed before it is read.
    pub fn required(&self, field: &str, key: Option<&str>) -> Option<&str> {
        let wanted = |c: &&Comparison| c.operator == Operator::Equals && c.field == field && c.key.as_deref() == key;
        self.0.iter().find(wanted).map(|c| c.value.as_str())
    }
}

impl Comparison {
    fn holds(&self, object: &dyn Fields) -> bool {
        let value = object.field(&self.field, self.key.as_deref());
        match self.operator {
            Operator::Equals => value.any(|text| text == self.value),
            Operator::Differs => !value.any(|text| text == self.value),
            Operator::Present => value != FieldValue::Absent,
            Operator::Has => match value {
                FieldValue::Text(text) => text.contains(&self.value),
                FieldValue::List(_) | FieldValue::Absent => value.any(|text| text == self.value),
            },
        }
    }
}

impl FieldValue<'_> {
    fn any(&self, holds: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Absent => false,
            Self::Text(text) => holds(text),
            Self::List(items) => items.iter().any(|text| holds(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const KNOWN: &[&str] = &["state", "zones", "machine", "labels.*", "node_name"];

    struct Machine {
        state: &'static str,
        zones: Vec<&'static str>,
        labels: BTreeMap<String, String>,
    }

    impl Fields for Machine {
        fn field(&self, field: &str, key: Option<&str>) -> FieldValue<'_> {
            match (field, key) {
                ("state", _) => FieldValue::text(self.state),
                ("zones", _) if !self.zones.is_empty() => {
                    FieldValue::List(self.zones.iter().map(|z| Cow::Borrowed(*z)).collect())
                }
                ("node_name", _) => FieldValue::text("n1"),
                ("labels", Some(key)) => FieldValue::entry(self.labels.get(key)),
                _ => FieldValue::Absent,
            }
        }
    }

    fn mk_machine() -> Machine {
        let labels = [("env", "prod"), ("example.com/team", "a b"), ("flag", "")];
        Machine {
            state: "RUNNING",
            zones: vec!["z1", "z2"],
            labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
        }
    }

    #[test]
    fn filters_match_as_the_grammar_says() {
        for (text, matches) in [
            ("", true),
            ("   ", true),
            ("state=RUNNING", true),
            ("state = \"RUNNING\"", true),
            ("state=running", false),
            ("state!=RUNNING", false),
            ("state != DELETING", true),
            ("state:RUN", true),
            ("state:*", true),
            ("machine:*", false),
            ("machine=x", false),
            ("machine!=x", true),
            ("zones:z2", true),
            ("zones=z2", true),
            ("zones:z", false),
            ("labels.env=prod", true),
            ("labels.env=prod AND state=RUNNING", true),
            ("labels.env=prod AND state=FAILED", false),
            ("labels:env", true),
            ("labels:\"example.com/team\"", true),
            ("labels.example.com/team=\"a b\"", true),
            ("labels.\"example.com/team\"=\"a b\"", true),
            ("labels:none", false),
            ("labels:flag", true),
            ("labels.flag=\"\"", true),
            ("state=\"a\\\"b\"", false),
            ("nodeName=n1", true),
            ("node_name=n1", true),
        ] {
            assert_eq!(
                Filter::parse(text, KNOWN).map(|f| f.matches(&mk_machine())),
                Ok(matches),
                "{text}"
            );
        }
    }

    #[test]
    fn faults_are_told_with_their_place() {
        for (text, message) in [
            ("state", "filter is not valid at byte 5: expected =, != or :"),
            ("state=", "filter is not valid at byte 6: expected a value"),
            ("state=a b=c", "filter is not valid at byte 8: expected AND"),
            ("state=a AND", "filter is not valid at byte 11: expected a field"),
            ("state=\"a", "filter is not valid at byte 8: expected a closing quote"),
            ("=a", "filter is not valid at byte 0: expected a field"),
            ("state>a", "filter is not valid at byte 5: expected =, != or :"),
            (
                "colour=red",
                "cannot filter by \"colour\"; known fields are state, zones, machine, labels.*, node_name",
            ),
            (
                "labels=red",
                "cannot filter by \"labels\"; known fields are state, zones, machine, labels.*, node_name",
            ),
            (
                "state.x=red",
                "cannot filter by \"state.x\"; known fields are state, zones, machine, labels.*, node_name",
            ),
        ] {
            assert_eq!(
                Filter::parse(text, KNOWN).map_err(|e| e.to_string()),
                Err(message.into()),
                "{text}"
            );
        }
        assert_eq!(Filter::parse(&"a".repeat(3000), KNOWN), Err(FilterError::TooLong));
        assert_eq!(
            Filter::parse(&["state=a"; 17].join(" AND "), KNOWN),
            Err(FilterError::TooMany)
        );
    }

    #[test]
    fn required_values_can_be_pushed_down() {
        let filter = Filter::parse("state=A AND labels.env=prod AND machine!=m", KNOWN).expect("parses");
        assert_eq!(filter.required("labels", Some("env")), Some("prod"));
        assert_eq!(filter.required("machine", None), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-zé.=!:\" \\\\*AND]{0,40}") {
            let _ = Filter::parse(&text, KNOWN);
        }

        #[test]
        fn any_quoted_value_comes_through(value in ".{0,20}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = Filter::parse(&format!("state=\"{quoted}\""), KNOWN)?;
            prop_assert_eq!(filter.required("state", None), Some(value.as_str()));
        }
    }
}
