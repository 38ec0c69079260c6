//! Where disks and images come from.

use steading_infra::{
    crd::machine_template::{HttpSource, PvcSource, RegistrySource},
    labels,
};
use steading_model::{ids::Id, violation::Violations};

/// Checks a claim that a project's template or image clones. Steading makes the clone, and its own rights would open the
/// claims of everybody: so only the namespaces of the project's own clusters may be named.
pub(super) fn claim_of(all: &mut Violations, path: &str, project: &Id, claim: &PvcSource) {
    let own = claim
        .namespace
        .strip_prefix(&format!("{project}{}", labels::PROJECT_SEPARATOR))
        .is_some_and(|cluster| Id::parse(cluster).is_ok());
    all.require(
        own,
        format!("{path}.namespace"),
        format!(
            "must be the namespace of a cluster of the project, {project}{}<cluster>",
            labels::PROJECT_SEPARATOR
        ),
    );
    claim_name(all, path, claim);
}

/// Refuses the Secrets that Steading itself keeps in a cluster's namespace: CDI would send them to the source's address.
pub(super) fn secret_of_user(all: &mut Violations, path: &str, name: &str) {
    let ours = name == labels::KUBECONFIG_SECRET || name.ends_with(labels::USER_DATA_SUFFIX);
    all.require(
        !ours,
        path,
        format!("may not send the Secret {name}, which is Steading's own"),
    );
}

/// Checks the name of a claim.
pub(super) fn claim_name(all: &mut Violations, path: &str, claim: &PvcSource) {
    all.require(!claim.name.is_empty(), format!("{path}.name"), "must be set");
}

/// Checks a source by HTTP.
pub(super) fn http_source(all: &mut Violations, path: &str, source: &HttpSource) {
    let good = ["http://", "https://"]
        .iter()
        .any(|scheme| source.url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    all.require(good, format!("{path}.url"), "must begin with http:// or https://");
    if let Some(checksum) = &source.checksum {
        let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        let good = checksum.strip_prefix("sha256:").is_some_and(|h| hex(h, 64))
            || checksum.strip_prefix("sha512:").is_some_and(|h| hex(h, 128));
        all.require(
            good,
            format!("{path}.checksum"),
            "must be sha256:<64 hex digits> or sha512:<128 hex digits>",
        );
    }
    for header in &source.extra_headers {
        all.require(
            header.contains(':'),
            format!("{path}.extra_headers"),
            "must have the form `Name: value`",
        );
    }
}

/// Checks a source in a registry.
pub(super) fn registry_source(all: &mut Violations, path: &str, source: &RegistrySource) {
    let good = ["docker://", "oci-archive://"]
        .iter()
        .any(|s| source.url.strip_prefix(s).is_some_and(|rest| !rest.is_empty()));
    all.require(
        good,
        format!("{path}.url"),
        "must begin with docker:// or oci-archive://",
    );
    let node = source.pull_method.as_deref() == Some("node");
    all.require(
        !node || source.secret.is_none(),
        format!("{path}.secret"),
        "cannot be used when the infra node pulls",
    );
    all.require(
        !node || source.cert_config_map.is_none(),
        format!("{path}.cert_config_map"),
        "cannot be used when the infra node pulls",
    );
}
