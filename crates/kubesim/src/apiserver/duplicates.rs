//! Finds fields that a JSON text says twice: a parsed object shows only the last.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The paths of fields that stand more than once in their object, in the order of the text; none of what is no JSON.
pub(crate) fn find(text: &[u8]) -> Vec<String> {
    let found = RefCell::default();
    let place = Place {
        path: String::new(),
        found: &found,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    match place.deserialize(&mut deserializer) {
        Ok(()) => found.into_inner(),
        Err(_) => Vec::new(),
    }
}

struct Place<'a> {
    path: String,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut known = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = match self.path.as_str() {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            if !known.insert(key) {
                self.found.borrow_mut().push(path.clone());
            }
            map.next_value_seed(Place {
                path,
                found: self.found,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            let place = Place {
                path: format!("{}[{index}]", self.path),
                found: self.found,
            };
            if list.next_element_seed(place)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repetition_is_named_by_its_path() {
        let text = br#"{"a": 1, "b": {"c": 1, "c": [1, {"d": null, "d": true}]}, "a": "2"}"#;
        assert_eq!(find(text), ["b.c", "b.c[1].d", "a"]);
        assert!(find(br#"{"a": {"x": 1}, "b": {"x": 1}}"#).is_empty());
        assert!(find(b"no json").is_empty());
    }
}
