//! How a stream of replies looks: newline-delimited JSON, server-sent events, one JSON array, or raw pieces.

use http::HeaderMap;

use crate::accept::{self, Refused};
use crate::problem::Problem;

/// How a stream looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON value a line.
    Lines,
    /// `text/event-stream`.
    Events,
    /// One JSON array.
    Array,
    /// The pieces of a `google.api.HttpBody`, as they are.
    Raw,
}

impl Format {
    /// The format that the client likes most; lines if it names none.
    ///
    /// # Errors
    /// It refuses all of them.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let formats = [Self::Lines, Self::Events, Self::Array];
        let index = accept::accepted(headers, &formats.map(Self::content_type), canonical)?;
        Ok(index
            .and_then(|index| formats.get(index))
            .copied()
            .unwrap_or(Self::Lines))
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Array => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }

    /// One value; `index` counts from zero.
    pub(super) fn item(self, index: u64, id: Option<&str>, json: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Events => {
                if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
                    out.extend_from_slice(b"id: ");
                    out.extend_from_slice(id.as_bytes());
                    out.push(b'\n');
                }
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n\n");
            }
            Self::Array => {
                out.extend_from_slice(if index == 0 { b"[" } else { b",\n" });
                out.extend_from_slice(json);
            }
            Self::Lines => {
                out.extend_from_slice(json);
                out.push(b'\n');
            }
            Self::Raw => out.extend_from_slice(json),
        }
    }

    /// The last word of a stream that failed.
    pub(super) fn error(self, index: u64, problem: &Problem, out: &mut Vec<u8>) {
        match self {
            Self::Events => {
                out.extend_from_slice(b"event: error\n");
                self.item(index, None, problem.json().as_bytes(), out);
            }
            Self::Raw => {}
            Self::Lines | Self::Array => self.item(index, None, problem.json().as_bytes(), out),
        }
    }

    /// The end of a stream of `count` values that is whole.
    pub(super) fn end(self, count: u64) -> &'static [u8] {
        match self {
            Self::Array if count == 0 => b"[]",
            Self::Array => b"]",
            _ => b"",
        }
    }
}

/// Newline-delimited JSON has no registered type; several are in use.
fn canonical(range: &str) -> &str {
    let aliases = ["application/ndjson", "application/jsonl", "application/json-lines"];
    if aliases.iter().any(|alias| range.eq_ignore_ascii_case(alias)) {
        Format::Lines.content_type()
    } else {
        range
    }
}
