//! User data with which a guest joins its tenant cluster: a bootstrap kubeconfig with a single-use token.

use serde_json::json;
use steading_cloudinit::{Fault, Merge, compose};
use steading_infra::labels;

use super::kubeconfig::Endpoint;

mod custom;
mod part;
mod token;

pub use custom::{CustomFault, check_custom, custom_user_data};
use part::part;
pub use token::{Token, letters, short_hash, token_id};

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

/// User data of a machine that Steading lets join: the template's part as it is, then the machine's name, which nothing
/// before it may change, then the kubeconfig, which joins the template's files.
///
/// # Errors
/// If the template's part has no format that cloud-init knows.
pub fn user_data(template: &str, machine: &str, kubeconfig: &str) -> Result<String, Fault> {
    let name = json!({"hostname": machine, "preserve_hostname": false});
    let file = json!({"path": labels::BOOTSTRAP_KUBECONFIG_PATH, "permissions": "0600", "owner": "root:root", "content": kubeconfig});
    if template.trim().is_empty() {
        let mut whole = name;
        whole["write_files"] = json!([file]);
        return Ok(format!("#cloud-config\n{whole}\n"));
    }
    let name = format!("#cloud-config\n{name}\n");
    let files = format!("#cloud-config\n{}\n", json!({"write_files": [file]}));
    Ok(compose(&[
        part(template, Merge::Append)?,
        part(&name, Merge::Replace)?,
        part(&files, Merge::Append)?,
    ]))
}

#[cfg(test)]
mod tests;
