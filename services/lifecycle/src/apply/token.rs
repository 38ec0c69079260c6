//! Bootstrap tokens in the tenant's `kube-system`. Their end is kept on the machine's VirtualMachine as well, so that nothing is asked
//! of the tenant for a machine that has none.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use steading_infra::{
    apply::FieldManager,
    crd::Cluster,
    error::{InfraError, optional},
    kubevirt::VirtualMachine,
    labels,
};

use super::annotation::annotate;
use crate::{
    context::Context,
    domain::bootstrap::{Token, token_id},
    error::Error,
    tenant::Tenant,
};

/// How long a token is valid unless the cluster says otherwise.
const TOKEN_SECONDS: i64 = 3600;
/// Key of a machine's user-data Secret that holds its token, from which one that the tenant removed is made again.
pub const JOIN_TOKEN_KEY: &str = "join-token";

/// How long tokens of a cluster are valid.
pub fn lifetime(cluster: &Cluster) -> SignedDuration {
    SignedDuration::from_secs(cluster.spec.bootstrap.token_seconds.unwrap_or(TOKEN_SECONDS).max(60))
}

/// When a token that is written now expires.
pub fn expiry(context: &Context, cluster: &Cluster) -> Timestamp {
    let now = context.clock.now();
    now.saturating_add(lifetime(cluster)).unwrap_or(now)
}

/// As Kubernetes' token controllers read it.
fn text_of(expires: Timestamp) -> String {
    expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn secrets(tenant: &Tenant) -> Result<Api<Secret>, Error> {
    let client = tenant
        .client()
        .ok_or_else(|| Error::Malformed("the tenant api server was not reached yet".into()))?;
    Ok(Api::namespaced(client, "kube-system"))
}

/// Writes the token of a machine.
///
/// # Errors
/// If the tenant refuses or cannot be reached.
pub async fn put(
    cluster: &Cluster,
    tenant: &Tenant,
    machine: &str,
    token: &Token,
    expires: Timestamp,
) -> Result<(), Error> {
    let groups = ["system:bootstrappers:steading".to_owned()]
        .into_iter()
        .chain(cluster.spec.bootstrap.extra_groups.iter().cloned());
    let data = BTreeMap::from([
        ("token-id".to_owned(), token.id.clone()),
        ("token-secret".to_owned(), token.secret.clone()),
        ("expiration".to_owned(), text_of(expires)),
        ("usage-bootstrap-authentication".to_owned(), "true".to_owned()),
        ("usage-bootstrap-signing".to_owned(), "false".to_owned()),
        ("auth-extra-groups".to_owned(), groups.collect::<Vec<_>>().join(",")),
        ("description".to_owned(), format!("machine {machine}")),
    ]);
    let body = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": Token::secret_name(&token.id),
            "namespace": "kube-system",
            "labels": {labels::MACHINE: machine, labels::MANAGED_BY: labels::MANAGED_BY_STEADING},
        },
        "type": "bootstrap.kubernetes.io/token",
        "data": data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect::<BTreeMap<_, _>>(),
    });
    let params = PatchParams::apply(FieldManager::Lifecycle.as_str()).force();
    let name = Token::secret_name(&token.id);
    secrets(tenant)?
        .patch(&name, &params, &Patch::Apply(&body))
        .await
        .map_err(|error| Error::tenant(&tenant.namespace, error))?;
    Ok(())
}

/// Moves the end of a machine's token. One that the tenant's token cleaner removed is made again with the secret that the guest has.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn renew(context: &Context, cluster: &Cluster, tenant: &Tenant, machine: &str) -> Result<(), Error> {
    let expires = expiry(context, cluster);
    let name = Token::secret_name(&token_id(&tenant.namespace, machine));
    let patch = json!({"data": {"expiration": ByteString(text_of(expires).into_bytes())}});
    let params = PatchParams {
        field_manager: Some(FieldManager::Lifecycle.as_str().to_owned()),
        ..PatchParams::default()
    };
    let moved = secrets(tenant)?.patch(&name, &params, &Patch::Merge(&patch)).await;
    match moved.map_err(InfraError::from) {
        Ok(_) => {}
        Err(InfraError::NotFound(_)) => {
            let Some(token) = stored(context, &tenant.namespace, machine).await? else {
                return Ok(());
            };
            put(cluster, tenant, machine, &token, expires).await?;
        }
        Err(source) => {
            return Err(Error::Tenant {
                cluster: tenant.namespace.clone(),
                source,
            });
        }
    }
    tracing::info!(cluster = %tenant.namespace, machine, "bootstrap token renewed: the machine has not joined yet");
    note(context, &tenant.namespace, machine, Some(expires)).await
}

/// The token in a machine's user-data Secret.
async fn stored(context: &Context, namespace: &str, machine: &str) -> Result<Option<Token>, Error> {
    let name = format!("{machine}{}", labels::USER_DATA_SUFFIX);
    let secret = optional(context.namespaced::<Secret>(namespace).get(&name).await)?;
    let text = secret
        .and_then(|secret| secret.data?.remove(JOIN_TOKEN_KEY))
        .and_then(|bytes| String::from_utf8(bytes.0).ok());
    Ok(text.and_then(|text| {
        let (id, secret) = text.split_once('.')?;
        Some(Token {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }))
}

/// Deletes the token of a machine that stays, if it is known to have one, and notes that.
///
/// # Errors
/// If a cluster refuses or cannot be reached.
pub async fn revoke(context: &Context, tenant: &Tenant, vm: &VirtualMachine) -> Result<(), Error> {
    if expires_of(vm).is_none() {
        return Ok(());
    }
    delete(tenant, vm).await?;
    note(context, &tenant.namespace, &vm.name_any(), None).await
}

/// Deletes the token of a machine, if it is known to have one.
///
/// # Errors
/// If the tenant refuses or cannot be reached.
pub async fn delete(tenant: &Tenant, vm: &VirtualMachine) -> Result<(), Error> {
    if expires_of(vm).is_none() {
        return Ok(());
    }
    let name = Token::secret_name(&token_id(&tenant.namespace, &vm.name_any()));
    match secrets(tenant)?.delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::tenant(&tenant.namespace, error)),
    }
}

/// When the token of a machine expires; `None` if it has none.
pub fn expires_of(vm: &VirtualMachine) -> Option<Timestamp> {
    vm.annotations().get(labels::TOKEN_EXPIRES)?.parse().ok()
}

async fn note(context: &Context, namespace: &str, machine: &str, expires: Option<Timestamp>) -> Result<(), Error> {
    let value = expires.map(|time| time.to_string());
    annotate(context, namespace, machine, &[(labels::TOKEN_EXPIRES, value)]).await
}
