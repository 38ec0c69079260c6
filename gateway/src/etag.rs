//! Etags: the field of a resource on one side, the entity-tag of HTTP on the other (AIP-154; RFC 9110, sections 8.8.3 and 13.1).
//!
//! AIP-154 wants the field to be an entity-tag, quotes included; such a field passes as it is, both ways. Many services
//! have a bare text there: it is quoted on its way out, with what may not stand between quotes percent-encoded, and
//! unquoted on its way in. A weak tag is never made here, so it is known to be the field itself. Of a strong one only
//! the service's own replies can tell, so each service's [`Form`] is learned from them.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};

use crate::{headers, hex};

/// What the etag fields of a service hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text that is quoted for HTTP.
    Bare,
    /// Entity-tags.
    EntityTag,
}

/// The form that a service's replies had last; bare until one was seen.
#[derive(Debug, Default)]
pub(crate) struct LearnedForm(AtomicBool);

impl LearnedForm {
    pub(crate) fn learn(&self, field: &str) {
        let is_tag = is_entity_tag(field);
        // Mostly it is so already, and a line of cache need not be taken from other cores.
        if self.0.load(Ordering::Relaxed) != is_tag {
            self.0.store(is_tag, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Form {
        if self.0.load(Ordering::Relaxed) {
            Form::EntityTag
        } else {
            Form::Bare
        }
    }
}

/// A resource's etag as a header.
pub(crate) fn header(field: &str) -> Option<HeaderValue> {
    if is_entity_tag(field) {
        return HeaderValue::try_from(field).ok();
    }
    let mut quoted = String::with_capacity(field.len() + 2);
    quoted.push('"');
    for byte in field.bytes() {
        if matches!(byte, 0x21 | 0x23 | 0x24 | 0x26..=0x7e) {
            quoted.push(char::from(byte));
        } else {
            quoted.extend(['%', hex::digit(byte >> 4), hex::digit(byte)]);
        }
    }
    quoted.push('"');
    HeaderValue::try_from(quoted).ok()
}

/// What an `If-Match` asks for, as the resource's field has it: `Ok(None)` where any will do, or nothing is asked.
///
/// # Errors
/// Why it cannot be served.
pub(crate) fn if_match(headers: &HeaderMap, form: Form) -> Result<Option<String>, &'static str> {
    if headers.get_all(IF_MATCH).iter().any(|line| line.to_str().is_err()) {
        return Err("must be an entity-tag");
    }
    let mut tags = headers::items(headers, &IF_MATCH);
    let (first, second) = (tags.next(), tags.next());
    match (first, second) {
        (None, _) if headers.contains_key(IF_MATCH) => Err("must be an entity-tag"),
        (None, _) | (Some("*"), None) => Ok(None),
        (Some(_), Some(_)) => Err("a list of entity-tags is not served: give one"),
        (Some(tag), None) if !is_entity_tag(tag) => Err("must be an entity-tag, such as \"abc\""),
        (Some(tag), None) if form == Form::EntityTag || tag.starts_with("W/") => Ok(Some(tag.to_owned())),
        (Some(tag), None) => unescape(tag.trim_matches('"'))
            .map(Some)
            .ok_or("must be an etag that the service gave"),
    }
}

/// Whether `If-None-Match` names this etag, by the weak comparison of RFC 9110, section 8.8.3.2.
pub(crate) fn none_match(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let own = etag.to_str().map(opaque).unwrap_or_default();
    headers::items(headers, &IF_NONE_MATCH).any(|candidate| candidate == "*" || opaque(candidate) == own)
}

/// Whether a text is an entity-tag of ASCII; others are legal, but few clients could send them back.
fn is_entity_tag(text: &str) -> bool {
    let inner = opaque(text).strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e)))
}

/// An etag without the mark of a weak one.
fn opaque(text: &str) -> &str {
    text.strip_prefix("W/").unwrap_or(text)
}

fn unescape(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            out.push(hex::pair(after)?);
            rest = after.get(2..)?;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn with(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_condition_is_one_entity_tag_or_any() {
        let asked = |values: &[&str]| if_match(&with(IF_MATCH, values), Form::Bare);
        assert_eq!(asked(&["\"a\""]), Ok(Some("a".to_owned())));
        assert_eq!(asked(&["W/\"a\""]), Ok(Some("W/\"a\"".to_owned())));
        assert_eq!(asked(&["*"]), Ok(None));
        assert_eq!(asked(&[]), Ok(None));
        for wrong in [
            &["a"][..],
            &[""],
            &["\"a"],
            &["\""],
            &["\"a\", \"b\""],
            &["\"a\"", "\"b\""],
            &["\"a\"", "*"],
            &["w/\"a\""],
            &["\"%\""],
            &["\"%zz\""],
            &["\"%+1\""],
            &["\"%ff\""],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_entity_tag_passes_as_it_is_both_ways() {
        for tag in ["W/\"42\"", "\"42\"", "\"%41\"", "\"\""] {
            let learned = LearnedForm::default();
            learned.learn(tag);
            let value = header(tag).unwrap();
            assert_eq!(value, tag);
            assert_eq!(
                if_match(&with(IF_MATCH, &[tag]), learned.get()),
                Ok(Some(tag.to_owned()))
            );
            assert!(none_match(&with(IF_NONE_MATCH, &["\"x\"", tag]), &value), "{tag}");
        }
        let learned = LearnedForm::default();
        assert_eq!(learned.get(), Form::Bare);
        learned.learn("\"42\"");
        learned.learn("42");
        assert_eq!(learned.get(), Form::Bare);
    }

    #[test]
    fn none_match_reads_all_lines_as_one_list() {
        let own = HeaderValue::from_static("W/\"a\"");
        for (lines, matches) in [
            (&["\"a\""][..], true),
            (&["\"b\"", "\"c\" , W/\"a\""], true),
            (&["\"b,\"a\""], false),
            (&["*"], true),
            (&["a"], false),
        ] {
            assert_eq!(none_match(&with(IF_NONE_MATCH, lines), &own), matches, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_etag_comes_back_as_it_was(text in any::<String>()) {
            let learned = LearnedForm::default();
            learned.learn(&text);
            let value = header(&text).ok_or(TestCaseError::fail("no header"))?;
            let asked = HeaderMap::from_iter([(IF_MATCH, value.clone())]);
            prop_assert_eq!(if_match(&asked, learned.get()), Ok(Some(text)));
            prop_assert!(none_match(&HeaderMap::from_iter([(IF_NONE_MATCH, value.clone())]), &value));
        }
    }
}
