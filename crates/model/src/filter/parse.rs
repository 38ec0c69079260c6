//! The parser of filters: one pass, no recursion, so that its work is bounded by the text's length.

use super::comparison::{Comparison, FilterError, MAX_COMPARISONS, Operator};

/// A reader over the filter's text.
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
    known: &'a [&'a str],
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, known: &'a [&'a str]) -> Self {
        Self { text, at: 0, known }
    }

    /// The whole filter.
    pub(super) fn filter(mut self) -> Result<Vec<Comparison>, FilterError> {
        let mut all = Vec::new();
        self.skip_spaces();
        if self.rest().is_empty() {
            return Ok(all);
        }
        loop {
            if all.len() == MAX_COMPARISONS {
                return Err(FilterError::TooMany);
            }
            all.push(self.comparison()?);
            self.skip_spaces();
            if self.rest().is_empty() {
                return Ok(all);
            }
            let after = self
                .rest()
                .strip_prefix("AND")
                .filter(|rest| rest.is_empty() || rest.starts_with(' '));
            if after.is_none() {
                return Err(self.expected("AND"));
            }
            self.at += "AND".len();
            self.skip_spaces();
        }
    }

    fn comparison(&mut self) -> Result<Comparison, FilterError> {
        let (field, key) = self.field()?;
        self.skip_spaces();
        let operator = self.operator()?;
        self.skip_spaces();
        let quoted = self.rest().starts_with('"');
        let value = self.value()?;
        self.resolve(field, key, operator, value, quoted)
    }

    /// Checks the field against the known ones and gives `:` its meaning.
    fn resolve(
        &self,
        field: String,
        key: Option<String>,
        operator: Operator,
        value: String,
        quoted: bool,
    ) -> Result<Comparison, FilterError> {
        let field = self.proto_name(field);
        let is_map = self.known.iter().any(|k| k.strip_suffix(".*") == Some(field.as_str()));
        let is_plain = self.known.contains(&field.as_str());
        let star = operator == Operator::Has && value == "*" && !quoted;
        match key {
            Some(_) if is_map => {
                let (operator, value) = if star {
                    (Operator::Present, String::new())
                } else {
                    (operator, value)
                };
                Ok(Comparison {
                    field,
                    key,
                    operator,
                    value,
                })
            }
            None if is_map && operator == Operator::Has && !star => Ok(Comparison {
                field,
                key: Some(value),
                operator: Operator::Present,
                value: String::new(),
            }),
            None if is_plain && star => Ok(Comparison {
                field,
                key,
                operator: Operator::Present,
                value: String::new(),
            }),
            None if is_plain => Ok(Comparison {
                field,
                key,
                operator,
                value,
            }),
            _ => {
                let field = key.map_or_else(|| field.clone(), |key| format!("{field}.{key}"));
                Err(FilterError::UnknownField {
                    field,
                    known: self.known.join(", "),
                })
            }
        }
    }

    /// The name in the `.proto` file of a field that is written as in JSON, where that is a known one: output shows those names.
    fn proto_name(&self, field: String) -> String {
        let is_known = |name: &str| self.known.iter().any(|k| k.strip_suffix(".*").unwrap_or(k) == name);
        if is_known(&field) {
            return field;
        }
        let mut snake = String::with_capacity(field.len() + 2);
        for c in field.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        if is_known(&snake) { snake } else { field }
    }

    /// A name and, behind the first dot, a key; the key may have dots itself or be quoted.
    fn field(&mut self) -> Result<(String, Option<String>), FilterError> {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err(self.expected("a field"));
        }
        if !self.rest().starts_with('.') {
            return Ok((name.to_owned(), None));
        }
        self.at += 1;
        if self.rest().starts_with('"') {
            return Ok((name.to_owned(), Some(self.quoted()?)));
        }
        let key = self.take_while(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        if key.is_empty() {
            return Err(self.expected("a key"));
        }
        Ok((name.to_owned(), Some(key.to_owned())))
    }

    fn operator(&mut self) -> Result<Operator, FilterError> {
        for (text, operator) in [("!=", Operator::Differs), ("=", Operator::Equals), (":", Operator::Has)] {
            if self.rest().starts_with(text) {
                self.at += text.len();
                return Ok(operator);
            }
        }
        Err(self.expected("=, != or :"))
    }

    fn value(&mut self) -> Result<String, FilterError> {
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let value = self.take_while(|c| !c.is_whitespace() && c != '"' && c != '=');
        if value.is_empty() {
            Err(self.expected("a value"))
        } else {
            Ok(value.to_owned())
        }
    }

    /// A quoted text; a backslash takes the next character as it is.
    fn quoted(&mut self) -> Result<String, FilterError> {
        self.at += 1;
        let mut value = String::new();
        let mut escaped = false;
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => return Ok(value),
                _ => value.push(c),
            }
        }
        Err(self.expected("a closing quote"))
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError::Syntax { at: self.at, expected }
    }
}
