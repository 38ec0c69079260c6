//! A body that holds a sequence of JSON values, taken apart while it arrives.
//!
//! The values stand one after another, as newline-delimited JSON has them, or are the items of one array. What is
//! between two values is checked here; whether a value is JSON, its decoder finds out.

use crate::error::InvalidRequest;

/// Takes values out of what arrives.
#[derive(Debug)]
pub struct Values {
    buffer: Vec<u8>,
    /// Where the value begins that is looked at.
    start: usize,
    /// Everything before it was looked at.
    at: usize,
    limit: usize,
    frame: Frame,
    value: Value,
}

/// What is around the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// An array, if the first byte says so.
    Unknown,
    /// Nothing but white space.
    Sequence,
    /// In an array, where an item or its end may come.
    First,
    /// In an array after a comma.
    Item,
    /// In an array after an item.
    AfterItem,
    /// After the end of an array.
    Closed,
}

/// Where in a value `at` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Between two.
    Outside,
    /// In an object or list.
    Nested { depth: usize, string: Text },
    /// In a string that is the whole value.
    Text(Text),
    /// In a number or a word.
    Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    No,
    Yes,
    Escaped,
}

impl Text {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::No, b'"') | (Self::Escaped, _) => Self::Yes,
            (Self::Yes, b'\\') => Self::Escaped,
            (Self::Yes, b'"') => Self::No,
            (same, _) => same,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Values {
    /// Expects values of at most `limit` bytes; as one array, too, if `may_be_array` and the first byte is `[`.
    pub fn new(limit: usize, may_be_array: bool) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            at: 0,
            limit,
            frame: if may_be_array { Frame::Unknown } else { Frame::Sequence },
            value: Value::Outside,
        }
    }

    /// Adds what arrived. Take all values out before more is added: that keeps the buffer within the limit and one piece.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.at -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(data);
    }

    /// Bytes that wait for the rest of their value.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next value that is whole.
    ///
    /// # Errors
    /// A value is over the limit, or the items of an array are not separated as they should be.
    pub fn next_value(&mut self) -> Result<Option<Vec<u8>>, InvalidRequest> {
        while let Some(&byte) = self.buffer.get(self.at) {
            if self.value == Value::Outside {
                if is_space(byte) || self.separator(byte)? {
                    self.at += 1;
                    self.start = self.at;
                    continue;
                }
                self.value = match byte {
                    b'{' | b'[' => Value::Nested {
                        depth: 0,
                        string: Text::No,
                    },
                    b'"' => Value::Text(Text::No),
                    _ => Value::Word,
                };
            }
            let (ended, takes) = self.step(byte);
            self.at += usize::from(takes);
            if self.at - self.start > self.limit {
                return Err(self.too_large());
            }
            if ended {
                return Ok(Some(self.take()));
            }
        }
        Ok(None)
    }

    /// The last value, which nothing but the end of the body ends.
    ///
    /// # Errors
    /// The body ends within a value or an array.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, InvalidRequest> {
        let last = (self.value == Value::Word).then(|| self.take());
        let whole =
            self.value == Value::Outside && matches!(self.frame, Frame::Unknown | Frame::Sequence | Frame::Closed);
        if whole {
            Ok(last)
        } else {
            Err(InvalidRequest::new("", "the body ends within a value"))
        }
    }

    /// Whether the byte belongs to what is around values.
    fn separator(&mut self, byte: u8) -> Result<bool, InvalidRequest> {
        let (next, around) = match (self.frame, byte) {
            (Frame::Unknown, b'[') => (Frame::First, true),
            (Frame::Unknown | Frame::Sequence, _) => (Frame::Sequence, false),
            (Frame::First | Frame::AfterItem, b']') => (Frame::Closed, true),
            (Frame::AfterItem, b',') => (Frame::Item, true),
            (Frame::First | Frame::Item, byte) if byte != b',' && byte != b']' => (Frame::AfterItem, false),
            (Frame::Closed, _) => return Err(InvalidRequest::new("", "there is something after the end of the array")),
            _ => {
                return Err(InvalidRequest::new(
                    "",
                    "items of an array must be separated by one comma",
                ));
            }
        };
        self.frame = next;
        Ok(around)
    }

    /// Goes past a byte of a value: whether it ends there, and whether the byte belongs to it.
    fn step(&mut self, byte: u8) -> (bool, bool) {
        match &mut self.value {
            Value::Outside => (false, true),
            Value::Text(text) => {
                let before = *text;
                *text = text.after(byte);
                (before == Text::Yes && *text == Text::No, true)
            }
            Value::Word => {
                let in_array = self.frame == Frame::AfterItem;
                let ends = is_space(byte) || (in_array && matches!(byte, b',' | b']'));
                (ends, !ends)
            }
            Value::Nested { depth, string } => {
                if *string == Text::No {
                    match byte {
                        b'{' | b'[' => *depth += 1,
                        b'}' | b']' => *depth -= 1,
                        _ => {}
                    }
                }
                *string = string.after(byte);
                (*depth == 0, true)
            }
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let value = self.buffer.get(self.start..self.at).unwrap_or_default().to_vec();
        self.start = self.at;
        self.value = Value::Outside;
        value
    }

    fn too_large(&self) -> InvalidRequest {
        InvalidRequest::new("", format!("a value is larger than {} bytes", self.limit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All values of a body that arrives in pieces of `size` bytes.
    fn split(body: &str, may_be_array: bool, size: usize) -> Result<Vec<String>, InvalidRequest> {
        let mut values = Values::new(100, may_be_array);
        let mut out = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            values.push(piece);
            while let Some(value) = values.next_value()? {
                out.push(String::from_utf8(value).unwrap());
            }
        }
        out.extend(values.finish()?.map(|value| String::from_utf8(value).unwrap()));
        Ok(out)
    }

    #[test]
    fn values_come_out_whole_wherever_the_pieces_end() {
        for size in [1, 2, 3, 1000] {
            let all = |body, array| split(body, array, size).unwrap();
            assert_eq!(
                all("{\"a\":\"}\\\"\"}\n[1,[2]] 3\n\"x y\"true", false),
                [r#"{"a":"}\""}"#, "[1,[2]]", "3", "\"x y\"", "true"]
            );
            assert_eq!(
                all(" [ {\"a\":1} , [2],3,\"]\"]\n", true),
                ["{\"a\":1}", "[2]", "3", "\"]\""]
            );
            assert_eq!(all("{}{}", true), ["{}", "{}"]);
            assert_eq!(all("[1]", false), ["[1]"]);
            for empty in ["", " \n", "[]", "[ ]"] {
                assert!(all(empty, true).is_empty());
            }
        }
    }

    #[test]
    fn only_what_is_not_whole_is_held() {
        let mut values = Values::new(100, true);
        values.push(b"[{}, {\"a\"");
        assert_eq!(values.next_value().unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(values.next_value().unwrap(), None);
        assert_eq!(values.held(), 4);
        values.push(b":1}]");
        assert_eq!(values.next_value().unwrap().as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!((values.next_value().unwrap(), values.held()), (None, 0));
    }

    #[test]
    fn what_is_around_values_is_checked() {
        for (body, what) in [
            ("[{},]", "comma"),
            ("[,{}]", "comma"),
            ("[{} {}]", "comma"),
            ("[{}]{}", "after the end"),
            ("[{}", "ends within"),
            ("{\"a\"", "ends within"),
            ("\"a", "ends within"),
            (&format!("[{}]", "1".repeat(101)), "larger than 100"),
            (&format!("\"{}\"", "x".repeat(100)), "larger than 100"),
        ] {
            for size in [1, 1000] {
                let error = split(body, true, size).unwrap_err().to_string();
                assert!(error.contains(what), "{body}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(body in r#"[\[\]{},"\\ a1\n]{0,40}"#, size in 1_usize..10, array in any::<bool>()) {
            prop_assert_eq!(split(&body, array, size), split(&body, array, 1000));
        }
    }
}
