//! A user's own bootstrap: its placeholders and what it must hold.
//!
//! A placeholder is `@steading.NAME@`. Shell, Jinja, JSON and YAML give that form no meaning, so `${token}` and
//! `{{ machine }}` stay what they are to the script or template that they stand in.

use steading_cloudinit::{Fault, Merge, check, compose};

use super::{part::part, token::Token};
use crate::domain::kubeconfig::Endpoint;

/// How a placeholder begins.
const OPEN: &str = "@steading.";

/// Why a user's own bootstrap is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomFault {
    /// A placeholder that nothing is known for.
    #[error("{OPEN}{0}@ is not known; there are {OPEN}machine@, {OPEN}server@, {OPEN}token@ and {OPEN}ca_data@")]
    Placeholder(String),
    /// What cloud-init would not take.
    #[error(transparent)]
    UserData(#[from] Fault),
}

/// What the placeholders of one machine stand for.
struct Values<'a> {
    machine: &'a str,
    server: &'a str,
    token: &'a str,
    ca_data: &'a str,
}

impl Values<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "machine" => Some(self.machine),
            "server" => Some(self.server),
            "token" => Some(self.token),
            "ca_data" => Some(self.ca_data),
            _ => None,
        }
    }
}

/// Checks a user's own bootstrap as it will be for a machine.
///
/// # Errors
/// If it has unknown placeholders, or is not valid once they are filled in.
pub fn check_custom(text: &str) -> Result<(), CustomFault> {
    let example = Values {
        machine: "pool-xxxxx",
        server: "https://192.0.2.1:6443",
        token: "abcdef.0123456789abcdef",
        ca_data: "QUJD",
    };
    let filled = fill(text, &example).map_err(|name| CustomFault::Placeholder(name.to_owned()))?;
    check(&filled)?;
    Ok(())
}

/// User data of a machine with a user's own bootstrap: the template's part as it is, then the bootstrap with its
/// placeholders filled in. Lists of both are joined; a text in both is the bootstrap's.
///
/// # Errors
/// If a part has no format that cloud-init knows.
pub fn custom_user_data(
    text: &str,
    template: &str,
    machine: &str,
    endpoint: &Endpoint,
    token: &Token,
) -> Result<String, CustomFault> {
    let token = token.text();
    let values = Values {
        machine,
        server: &endpoint.server,
        token: &token,
        ca_data: &endpoint.ca_data,
    };
    let filled = fill(text, &values).map_err(|name| CustomFault::Placeholder(name.to_owned()))?;
    if template.trim().is_empty() {
        return Ok(filled);
    }
    Ok(compose(&[
        part(template, Merge::Append)?,
        part(&filled, Merge::Append)?,
    ]))
}

/// Fills in the placeholders in one pass, so that no value is searched for others.
///
/// # Errors
/// The name that is not known.
fn fill<'a>(text: &'a str, values: &Values<'_>) -> Result<String, &'a str> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        filled.push_str(before);
        let length = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        let (name, end) = after.split_at(length);
        match (values.get(name), end.strip_prefix('@')) {
            (Some(value), Some(end)) => {
                filled.push_str(value);
                rest = end;
            }
            (None, Some(_)) => return Err(name),
            // Not closed: not a placeholder.
            (_, None) => {
                filled.push_str(OPEN);
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}
