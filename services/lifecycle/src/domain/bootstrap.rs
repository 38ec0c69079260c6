//! User data with which a guest joins its tenant cluster: a bootstrap kubeconfig with a single-use token.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steading_infra::labels;

use super::kubeconfig::Endpoint;

/// A bootstrap token as Kubernetes knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Public half, six characters; follows from the machine, so that it can be found again.
    pub id: String,
    /// Secret half, sixteen characters.
    pub secret: String,
}

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Public half of the token of a machine.
pub fn token_id(namespace: &str, machine: &str) -> String {
    short_hash(&[namespace, machine], 6)
}

/// A text of `length` characters `[0-9a-z]` that follows from the parts.
pub fn short_hash(parts: &[&str], length: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    letters(hash.finalize().as_slice(), length)
}

/// Letters of a token from random bytes.
pub fn letters(bytes: &[u8], length: usize) -> String {
    bytes
        .iter()
        .take(length)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

impl Token {
    /// Name of the Secret in `kube-system`.
    pub fn secret_name(id: &str) -> String {
        format!("bootstrap-token-{id}")
    }

    /// The whole token.
    pub fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// A kubeconfig, JSON and so YAML too, that authenticates with the token.
pub fn bootstrap_kubeconfig(endpoint: &Endpoint, token: &Token) -> String {
    let mut cluster = json!({"server": endpoint.server});
    if !endpoint.ca_data.is_empty() {
        cluster["certificate-authority-data"] = json!(endpoint.ca_data);
    } else if endpoint.insecure {
        cluster["insecure-skip-tls-verify"] = json!(true);
    }
    if !endpoint.tls_server_name.is_empty() {
        // The guest dials the same address as we do and checks the same certificate.
        cluster["tls-server-name"] = json!(endpoint.tls_server_name);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tenant", "cluster": cluster}],
        "users": [{"name": "bootstrap", "user": {"token": token.text()}}],
        "contexts": [{"name": "bootstrap", "context": {"cluster": "tenant", "user": "bootstrap"}}],
        "current-context": "bootstrap",
    })
    .to_string()
}

/// The template's cloud-config with our part added; lists are joined, ours come last.
pub fn cloud_config(template: Option<Value>, machine: &str, kubeconfig: &str) -> String {
    let mut config = template.filter(Value::is_object).unwrap_or_else(|| json!({}));
    config["hostname"] = json!(machine);
    config["preserve_hostname"] = json!(false);
    let file = json!({"path": labels::BOOTSTRAP_KUBECONFIG_PATH, "permissions": "0600", "owner": "root:root", "content": kubeconfig});
    match config.get_mut("write_files").and_then(Value::as_array_mut) {
        Some(files) => files.push(file),
        None => config["write_files"] = json!([file]),
    }
    format!("#cloud-config\n{config}\n")
}

/// A user's own cloud-config with the places filled in.
pub fn custom_user_data(text: &str, machine: &str, endpoint: &Endpoint, token: &Token) -> String {
    text.replace("{machine}", machine)
        .replace("{server}", &endpoint.server)
        .replace("{token}", &token.text())
        .replace("{ca_data}", &endpoint.ca_data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_file_carries_server_and_token_beside_the_templates_own() {
        let token = Token {
            id: token_id("p--c", "w-1"),
            secret: letters(&[7; 16], 16),
        };
        let endpoint = Endpoint {
            server: "https://10.0.0.1:6443".into(),
            ..Endpoint::default()
        };
        let template = json!({"packages": ["curl"], "write_files": [{"path": "/etc/motd"}]});
        let text = cloud_config(Some(template), "w-1", &bootstrap_kubeconfig(&endpoint, &token));
        let config: Value = serde_json::from_str(text.trim_start_matches("#cloud-config")).expect("json");
        assert_eq!(config["write_files"].as_array().map(Vec::len), Some(2));
        let kubeconfig: Value =
            serde_json::from_str(config["write_files"][1]["content"].as_str().expect("text")).expect("json");
        assert_eq!(kubeconfig["users"][0]["user"]["token"], json!(token.text()));
        assert_eq!(
            (config["hostname"].as_str(), token.id.len(), token.secret.len()),
            (Some("w-1"), 6, 16)
        );
    }

    #[test]
    fn the_guest_checks_the_certificate_against_the_same_name_as_we_do() {
        let token = Token {
            id: token_id("p--c", "w-1"),
            secret: letters(&[7; 16], 16),
        };
        let endpoint = Endpoint {
            server: "https://10.0.0.1:6443".into(),
            tls_server_name: "api.prod.test".into(),
            ..Endpoint::default()
        };
        let kubeconfig: Value = serde_json::from_str(&bootstrap_kubeconfig(&endpoint, &token)).expect("json");
        assert_eq!(
            kubeconfig["clusters"][0]["cluster"]["tls-server-name"],
            json!("api.prod.test")
        );
    }
}
