//! Which formats there are, and what each must hold to be valid.

use crate::{
    fault::{Fault, MAX_BYTES},
    mime,
    yaml::{self, Node},
};

/// What a text of user data is, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `#cloud-config`: a YAML mapping.
    CloudConfig,
    /// `#cloud-config-archive`: a YAML list of texts with their types.
    Archive,
    /// `#!`: a script that runs once, late in the first boot.
    Script,
    /// `#cloud-boothook`: a script that runs at each boot, early.
    Boothook,
    /// `#include` and `#include-once`: addresses of more user data.
    Include,
    /// `## template: jinja`: a template that cloud-init renders on the machine before it reads what it is.
    Jinja,
    /// A MIME multipart message with any of the others.
    Multipart,
}

impl Format {
    /// The MIME type by which cloud-init knows a part of this format.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::CloudConfig => "text/cloud-config",
            Self::Archive => "text/cloud-config-archive",
            Self::Script => "text/x-shellscript",
            Self::Boothook => "text/cloud-boothook",
            Self::Include => "text/x-include-url",
            Self::Jinja => "text/jinja2",
            Self::Multipart => "multipart/mixed",
        }
    }

    fn of_mime_type(mime_type: &str) -> Option<Self> {
        let all = [
            Self::CloudConfig,
            Self::Archive,
            Self::Script,
            Self::Boothook,
            Self::Include,
            Self::Jinja,
        ];
        all.into_iter().find(|format| format.mime_type() == mime_type)
    }

    /// The format that a text says it has.
    ///
    /// # Errors
    /// If cloud-init would not know it, or Steading does not serve it.
    pub fn of(text: &str) -> Result<Self, Fault> {
        let first = text.lines().next().unwrap_or_default().trim_end();
        let word = first.split_whitespace().next().unwrap_or_default();
        match word {
            "#cloud-config" => return Ok(Self::CloudConfig),
            "#cloud-config-archive" => return Ok(Self::Archive),
            "#cloud-boothook" => return Ok(Self::Boothook),
            "#include" | "#include-once" => return Ok(Self::Include),
            "#part-handler" => return Err(Fault::Unsupported("a part handler")),
            "#cloud-config-jsonp" => return Err(Fault::Unsupported("a JSON patch")),
            "#upstart-job" => return Err(Fault::Unsupported("an upstart job")),
            _ => {}
        }
        if first.starts_with("#!") {
            return Ok(Self::Script);
        }
        if let Some(engine) = first.strip_prefix("## template:") {
            return match engine.trim() {
                "jinja" => Ok(Self::Jinja),
                _ => Err(Fault::Unsupported("a template engine other than jinja")),
            };
        }
        if mime::begins(text) {
            return Ok(Self::Multipart);
        }
        if text.trim_start().starts_with('{') {
            return Err(if text.contains("\"ignition\"") {
                Fault::Unsupported("Ignition")
            } else {
                Fault::Unsupported("JSON")
            });
        }
        if text.starts_with("variant:") {
            return Err(Fault::Unsupported("Butane"));
        }
        Err(Fault::UnknownFormat)
    }
}

/// Checks a whole text of user data.
///
/// # Errors
/// If cloud-init would not take it, or would take only a part of it.
pub fn check(text: &str) -> Result<Format, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::TooLong(text.len()));
    }
    let format = Format::of(text)?;
    check_body(format, text)?;
    Ok(format)
}

fn check_body(format: Format, text: &str) -> Result<(), Fault> {
    match format {
        Format::CloudConfig => cloud_config(text),
        Format::Archive => archive(text),
        Format::Script => no_nul(text),
        Format::Boothook | Format::Include => Ok(()),
        Format::Jinja => jinja(text),
        Format::Multipart => multipart(text),
    }
}

fn cloud_config(text: &str) -> Result<(), Fault> {
    let entries = match yaml::document(text)? {
        None => return Ok(()),
        Some(Node::Mapping(entries)) => entries,
        Some(Node::Scalar(_) | Node::Sequence(_) | Node::Alias) => {
            return Err(Fault::content("must be a mapping below #cloud-config"));
        }
    };
    // Steading adds to these lists, and cloud-init drops what is added to anything else.
    for key in ["write_files", "ssh_authorized_keys"] {
        let good = entries
            .get(key)
            .is_none_or(|node| matches!(node, Node::Sequence(_) | Node::Alias));
        if !good {
            return Err(Fault::content(format!("{key} must be a list")));
        }
    }
    Ok(())
}

fn archive(text: &str) -> Result<(), Fault> {
    let Some(Node::Sequence(entries)) = yaml::document(text)? else {
        return Err(Fault::content("must be a list below #cloud-config-archive"));
    };
    for (index, entry) in entries.iter().enumerate() {
        archive_entry(entry).map_err(|fault| Fault::in_part(index + 1, fault))?;
    }
    Ok(())
}

fn archive_entry(entry: &Node) -> Result<(), Fault> {
    let (content, given) = match entry {
        Node::Scalar(text) => (text.as_str(), None),
        Node::Mapping(fields) => {
            let content = fields.get("content").and_then(Node::text);
            let content = content.ok_or_else(|| Fault::content("content must be a text"))?;
            (content, fields.get("type").and_then(Node::text))
        }
        Node::Sequence(_) | Node::Alias => return Err(Fault::content("must be a text or a mapping with content")),
    };
    part(given, content)
}

/// Checks a part whose type may be given beside it.
fn part(given: Option<&str>, content: &str) -> Result<(), Fault> {
    let format = match given {
        None | Some("text/plain" | "text/x-not-multipart") => Format::of(content)?,
        Some(mime_type) => Format::of_mime_type(mime_type)
            .ok_or_else(|| Fault::content(format!("cloud-init does not know parts of type {mime_type:?}")))?,
    };
    match format {
        // The type says what it is; the first line need not.
        Format::Jinja if given.is_some() && !content.starts_with("##") => {
            Err(Fault::content("must begin with ## template: jinja"))
        }
        Format::Script if !content.starts_with("#!") => Err(Fault::content("a script must begin with #!")),
        Format::Multipart => Err(Fault::content("must not be a multipart message again")),
        other => check_body(other, content),
    }
}

fn multipart(text: &str) -> Result<(), Fault> {
    let parts = mime::parts(text)?;
    for (index, each) in parts.iter().enumerate() {
        let content = each.content().map_err(|fault| Fault::in_part(index + 1, fault))?;
        part(Some(&each.mime_type), &content).map_err(|fault| Fault::in_part(index + 1, fault))?;
    }
    Ok(())
}

/// What can be said before cloud-init renders it: what it will be, and that each of its brackets ends.
fn jinja(text: &str) -> Result<(), Fault> {
    let body = text.split_once('\n').map_or("", |(_, body)| body);
    match Format::of(body)? {
        Format::CloudConfig | Format::Script | Format::Boothook | Format::Include => {}
        Format::Archive | Format::Jinja | Format::Multipart => {
            return Err(Fault::at(
                2,
                "must begin with #cloud-config, #!, #cloud-boothook or #include",
            ));
        }
    }
    let mut rest = body;
    while let Some(at) = rest.find(['{']) {
        let tail = rest.get(at..).unwrap_or_default();
        let end = match tail.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                rest = tail.get(1..).unwrap_or_default();
                continue;
            }
        };
        let inner = tail.get(2..).unwrap_or_default();
        let Some(length) = inner.find(end) else {
            let line = text.len() - tail.len();
            let line = text.get(..line).unwrap_or_default().matches('\n').count() + 1;
            return Err(Fault::at(line, format!("the template's bracket is not ended by {end}")));
        };
        rest = inner.get(length + 2..).unwrap_or_default();
    }
    Ok(())
}

fn no_nul(text: &str) -> Result<(), Fault> {
    if text.contains('\0') {
        return Err(Fault::content("must not hold NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
