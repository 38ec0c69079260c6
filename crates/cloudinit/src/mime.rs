//! MIME multipart messages, as far as cloud-init makes use of them.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::fault::Fault;

/// Most parts of a message: each costs the guest a handler's run.
const MAX_PARTS: usize = 64;
/// Deepest nesting of messages: the user's inside Steading's, and one more.
const MAX_DEPTH: usize = 4;

/// A part that is not itself a message of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MimePart {
    /// Its type in lower case, such as `text/cloud-config`.
    pub(crate) mime_type: String,
    /// How its body is encoded, in lower case.
    encoding: String,
    /// Its body as it stands in the message.
    body: String,
}

impl MimePart {
    /// The body, decoded.
    pub(crate) fn content(&self) -> Result<String, Fault> {
        match self.encoding.as_str() {
            "" | "7bit" | "8bit" | "binary" => Ok(self.body.clone()),
            "base64" => {
                let packed: String = self.body.split_whitespace().collect();
                let bytes = STANDARD
                    .decode(packed)
                    .map_err(|_| Fault::content("its base64 does not decode"))?;
                String::from_utf8(bytes).map_err(|_| Fault::content("its content is not UTF-8"))
            }
            other => Err(Fault::content(format!(
                "its encoding {other:?} is not supported; use base64"
            ))),
        }
    }
}

/// Headers with their names in lower case, in order.
type Headers = Vec<(String, String)>;

/// Whether a text begins with the headers of a message.
pub(crate) fn begins(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().to_ascii_lowercase();
    first.starts_with("content-type:") || first.starts_with("mime-version:")
}

/// All parts of a message in their order, those of messages within it in their place.
pub(crate) fn parts(text: &str) -> Result<Vec<MimePart>, Fault> {
    let mut all = Vec::new();
    let (headers, body) = headers(text)?;
    // By this header alone cloud-init recognises a message, and it looks no further than here.
    let head = text.get(..text.len().min(4096)).unwrap_or(text).to_ascii_lowercase();
    if !head.contains("mime-version:") {
        return Err(Fault::content("must have the header MIME-Version"));
    }
    collect(&headers, body, 0, &mut all)?;
    if all.is_empty() {
        return Err(Fault::content("must have parts"));
    }
    Ok(all)
}

fn collect(headers: &[(String, String)], body: &str, depth: usize, all: &mut Vec<MimePart>) -> Result<(), Fault> {
    let content_type = value(headers, "content-type");
    let mime_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if !mime_type.starts_with("multipart/") {
        if depth == 0 {
            return Err(Fault::content("must be a multipart message"));
        }
        if all.len() >= MAX_PARTS {
            return Err(Fault::content(format!("must have at most {MAX_PARTS} parts")));
        }
        all.push(MimePart {
            mime_type: if mime_type.is_empty() {
                "text/plain".to_owned()
            } else {
                mime_type
            },
            encoding: value(headers, "content-transfer-encoding").trim().to_ascii_lowercase(),
            body: body.to_owned(),
        });
        return Ok(());
    }
    if depth >= MAX_DEPTH {
        return Err(Fault::content(format!("is nested deeper than {MAX_DEPTH} messages")));
    }
    let boundary = boundary(&content_type).ok_or_else(|| Fault::content("its Content-Type has no boundary"))?;
    for part in split(body, &boundary)? {
        let (headers, body) = self::headers(part)?;
        collect(&headers, body, depth + 1, all)?;
    }
    Ok(())
}

/// Headers with lower-case names, and what follows the empty line.
fn headers(text: &str) -> Result<(Headers, &str), Fault> {
    let mut found = Headers::new();
    let mut rest = text;
    loop {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.trim_end_matches('\r');
        rest = after;
        if line.is_empty() {
            return Ok((found, rest));
        }
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = found.last_mut()
        {
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(Fault::content(format!(
                "{line:?} is not a header; an empty line ends the headers"
            )));
        };
        found.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn value(headers: &[(String, String)], name: &str) -> String {
    headers
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.clone())
        .unwrap_or_default()
}

fn boundary(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then(|| value.to_owned())
    })
}

/// The parts between the boundaries, each without the line end before its boundary.
fn split<'a>(body: &'a str, boundary: &str) -> Result<Vec<&'a str>, Fault> {
    let (open, close) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut parts = Vec::new();
    let mut start: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        let text = line.trim_end();
        if text == open || text == close {
            if let Some(start) = start.take() {
                let part = body.get(start..at).unwrap_or_default();
                let part = part.strip_suffix('\n').unwrap_or(part);
                parts.push(part.strip_suffix('\r').unwrap_or(part));
            }
            if text == close {
                return Ok(parts);
            }
            start = Some(at + line.len());
        }
        at += line.len();
    }
    Err(Fault::content(format!("ends before the boundary {close:?}")))
}
