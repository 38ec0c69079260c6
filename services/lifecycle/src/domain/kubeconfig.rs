//! A tenant's kubeconfig: read and checked before anything uses it.
//!
//! It is foreign data that becomes HTTP headers, TLS material and addresses of this process, so that each field is checked here, at
//! the door, for both ways in: the API and the Secret. A [`KubeconfigFault`] names the field and never quotes its value: faults
//! reach conditions, logs and replies.

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::config::Kubeconfig;
use serde_json::Value;

/// Largest kubeconfig that is read: certificates and keys, with room to spare.
pub const MAX_KUBECONFIG: usize = 128 * 1024;

/// What a kubeconfig says about its server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// URL of the API server.
    pub server: String,
    /// Its certificate authority, base64 of PEM; empty if the system's are trusted.
    pub ca_data: String,
    /// Whether its certificate is not checked.
    pub insecure: bool,
    /// Name that its certificate is checked against; empty for the one in `server`.
    pub tls_server_name: String,
    /// Version that the server reported; empty until it was asked.
    pub version: String,
}

/// A kubeconfig that a client can be made from: one context, credentials inline, surrounding white space removed.
#[derive(Debug, Clone)]
pub struct TenantKubeconfig {
    /// The current context with its cluster and user, and nothing else.
    pub kubeconfig: Kubeconfig,
    /// Where the server is.
    pub endpoint: Endpoint,
}

/// Why a kubeconfig is refused. No variant carries a value of the kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigFault {
    /// There is nothing in it.
    #[error("the kubeconfig is empty")]
    Empty,
    /// It is larger than any real one.
    #[error("the kubeconfig has more than {MAX_KUBECONFIG} bytes")]
    TooLarge,
    /// It is not text.
    #[error("the kubeconfig is not UTF-8")]
    NotText,
    /// It is not YAML, or a field has another type than kubeconfigs have.
    #[error("the kubeconfig cannot be parsed (line {line}, column {column})")]
    NotParsable {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// What the current context leads to is missing.
    #[error("the kubeconfig has no {0}")]
    Missing(&'static str),
    /// It asks this process to read its own files, run commands, or take another way to the server.
    #[error(
        "{0} is not allowed in a tenant's kubeconfig: it must reach its server directly and hold its credentials inline \
         (token, client-certificate-data, certificate-authority-data)"
    )]
    NotAllowed(&'static str),
    /// The server is not a URL that can be reached.
    #[error("server must be an http or https URL with a host")]
    BadServer,
    /// It cannot be a header.
    #[error("{0} has characters that an HTTP header cannot have, such as a line break")]
    NotAHeader(&'static str),
    /// It is not base64.
    #[error("{0} is not base64")]
    NotBase64(&'static str),
    /// The certificate's name is not one.
    #[error("tls-server-name must be a DNS name or an IP address")]
    BadServerName,
}

/// Reads a kubeconfig.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<TenantKubeconfig, KubeconfigFault> {
    if bytes.len() > MAX_KUBECONFIG {
        return Err(KubeconfigFault::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| KubeconfigFault::NotText)?;
    if text.trim().is_empty() {
        return Err(KubeconfigFault::Empty);
    }
    let parsed = Kubeconfig::from_yaml(text).map_err(|error| not_parsable(&error))?;
    // From here on it is handled as JSON, which can be changed without a type for each secret.
    let all = serde_json::to_value(&parsed).map_err(|_| NOWHERE)?;
    let (mut cluster, mut user) = current(&all)?;
    tidy(&mut cluster);
    tidy(&mut user);
    check_cluster(&cluster)?;
    check_user(&user)?;
    let endpoint = Endpoint {
        server: text_of(&cluster, "server").to_owned(),
        ca_data: text_of(&cluster, "certificate-authority-data").to_owned(),
        insecure: cluster
            .get("insecure-skip-tls-verify")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        tls_server_name: text_of(&cluster, "tls-server-name").to_owned(),
        version: String::new(),
    };
    let one = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tenant",
        "contexts": [{"name": "tenant", "context": {"cluster": "tenant", "user": "tenant"}}],
        "clusters": [{"name": "tenant", "cluster": cluster}],
        "users": [{"name": "tenant", "user": user}],
    });
    let kubeconfig = serde_json::from_value(one).map_err(|_| NOWHERE)?;
    Ok(TenantKubeconfig { kubeconfig, endpoint })
}

const NOWHERE: KubeconfigFault = KubeconfigFault::NotParsable { line: 0, column: 0 };

/// The parser's own words quote the text around the fault, which may be a token.
fn not_parsable(error: &kube::config::KubeconfigError) -> KubeconfigFault {
    let kube::config::KubeconfigError::Parse(error) = error else {
        return NOWHERE;
    };
    error.location().map_or(NOWHERE, |at| KubeconfigFault::NotParsable {
        line: at.line(),
        column: at.column(),
    })
}

/// The cluster and the user that the current context names. As for kubectl, a user may be absent.
fn current(all: &Value) -> Result<(Value, Value), KubeconfigFault> {
    let named = |list: &str, inner: &str, name: &str| {
        let items = all.get(list).and_then(Value::as_array).into_iter().flatten();
        let mut found = items.filter(|item| text_of(item, "name") == name);
        found.next().and_then(|item| item.get(inner)).cloned()
    };
    let context = Some(text_of(all, "current-context"))
        .filter(|name| !name.is_empty())
        .ok_or(KubeconfigFault::Missing("current-context"))?;
    let context = named("contexts", "context", context).ok_or(KubeconfigFault::Missing("context of that name"))?;
    let cluster = named("clusters", "cluster", text_of(&context, "cluster"))
        .ok_or(KubeconfigFault::Missing("cluster of the current context"))?;
    let user = named("users", "user", text_of(&context, "user")).unwrap_or_else(|| serde_json::json!({}));
    Ok((cluster, user))
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Removes white space around values (a token read from a file ends in a line break) and fields without any.
fn tidy(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    for field in fields.values_mut() {
        if let Value::String(text) = field {
            *text = text.trim().to_owned();
        }
    }
    fields.retain(|_, field| !field.is_null() && field.as_str() != Some(""));
}

fn check_cluster(cluster: &Value) -> Result<(), KubeconfigFault> {
    refuse(cluster, &["certificate-authority", "proxy-url"])?;
    if text_of(cluster, "server").is_empty() {
        return Err(KubeconfigFault::Missing("server"));
    }
    let server: http::Uri = text_of(cluster, "server")
        .parse()
        .map_err(|_| KubeconfigFault::BadServer)?;
    let scheme_fits = matches!(server.scheme_str(), Some("http" | "https"));
    if !scheme_fits || server.host().is_none_or(str::is_empty) {
        return Err(KubeconfigFault::BadServer);
    }
    if let Some(name) = cluster.get("tls-server-name").and_then(Value::as_str) {
        let is_label = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let fits = name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label));
        if !fits {
            return Err(KubeconfigFault::BadServerName);
        }
    }
    check_base64(cluster, "certificate-authority-data")
}

fn check_user(user: &Value) -> Result<(), KubeconfigFault> {
    refuse(
        user,
        &["exec", "auth-provider", "tokenFile", "client-certificate", "client-key"],
    )?;
    for key in ["token", "as", "as-uid"] {
        check_header(key, text_of(user, key))?;
    }
    let groups = user.get("as-groups").and_then(Value::as_array).into_iter().flatten();
    for group in groups {
        check_header("as-groups", group.as_str().unwrap_or_default())?;
    }
    if user.get("as-user-extra").is_some() {
        // Its keys become names of headers.
        return Err(KubeconfigFault::NotAllowed("as-user-extra"));
    }
    check_base64(user, "client-certificate-data")?;
    check_base64(user, "client-key-data")
}

fn refuse(fields: &Value, keys: &[&'static str]) -> Result<(), KubeconfigFault> {
    let present = |key: &&&str| fields.get(**key).is_some();
    match keys.iter().find(present) {
        Some(key) => Err(KubeconfigFault::NotAllowed(key)),
        None => Ok(()),
    }
}

fn check_header(key: &'static str, text: &str) -> Result<(), KubeconfigFault> {
    match http::HeaderValue::try_from(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(KubeconfigFault::NotAHeader(key)),
    }
}

fn check_base64(fields: &Value, key: &'static str) -> Result<(), KubeconfigFault> {
    match STANDARD.decode(text_of(fields, key)) {
        Ok(_) => Ok(()),
        Err(_) => Err(KubeconfigFault::NotBase64(key)),
    }
}

#[cfg(test)]
mod tests;
