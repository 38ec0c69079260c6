//! How a guest finds its way into its tenant cluster.

use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{Node, Secret},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use steading_infra::{kubevirt::VirtualMachineInstance, labels};
use steading_kubesim::Key;

use super::joined::Joined;
use crate::behaviour::{
    Context,
    tenants::{Kind, Reached, Tenants},
};

/// Name of the Secret with a machine's user data. Without any, it is a machine of somebody else and joins nothing.
pub(super) fn user_data_of(instance: &VirtualMachineInstance) -> Option<String> {
    let mut sources = instance.spec.volumes.iter().filter_map(|volume| {
        let source = volume.cloud_init_no_cloud.as_ref();
        source.or(volume.cloud_init_config_drive.as_ref())
    });
    sources.find_map(|source| Some(source.secret_ref.as_ref()?.name.clone()))
}

/// Finds the way into the tenant cluster from the user data, and checks the token as the tenant's API server would.
pub(super) async fn join(
    context: &Context,
    tenants: &Tenants,
    key: &Key,
    instance: &VirtualMachineInstance,
) -> Result<Joined, String> {
    let secret = user_data_of(instance).ok_or("no cloud-init volume")?;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &key.namespace);
    let secret = secrets.get(&secret).await.map_err(|e| e.to_string())?;
    let data = secret
        .data
        .unwrap_or_default()
        .remove(labels::USER_DATA_KEY)
        .ok_or("the Secret has no user data")?;
    let user_data = String::from_utf8(data.0).map_err(|e| e.to_string())?;
    let (hostname, kubeconfig) = read_user_data(&user_data)?;
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).map_err(|e| e.to_string())?;
    let node = hostname.unwrap_or_else(|| key.name.clone());
    let reached = reach(tenants, &kubeconfig).await?;
    let token = match reached.kind {
        Kind::Simulated => check_token(&reached.client, &kubeconfig).await,
        Kind::Real => present_token(&kubeconfig).await,
    };
    if let Err(reason) = token
        && !has_joined(&reached.client, &node, instance).await
    {
        return Err(reason);
    }
    Ok(Joined {
        client: reached.client,
        kind: reached.kind,
        node,
        up: None,
        beat: std::time::Duration::ZERO,
    })
}

/// The control plane that a kubeconfig names: one of those known here, or one that nobody told of.
async fn reach(tenants: &Tenants, kubeconfig: &Kubeconfig) -> Result<Reached, String> {
    let cluster = kubeconfig.clusters.first().and_then(|found| found.cluster.as_ref());
    let server = cluster.and_then(|cluster| cluster.server.clone()).unwrap_or_default();
    match tenants.reach(&server) {
        Some(reached) => Ok(reached),
        None => Ok(Reached {
            client: dial(kubeconfig).await?,
            kind: Kind::Simulated,
        }),
    }
}

async fn dial(kubeconfig: &Kubeconfig) -> Result<Client, String> {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
    config
        .map_err(|e| e.to_string())
        .and_then(|c| Client::try_from(c).map_err(|e| e.to_string()))
}

/// Whether the Node is this very machine's already: its player was restarted, not the machine.
async fn has_joined(client: &Client, node: &str, instance: &VirtualMachineInstance) -> bool {
    let found = Api::<Node>::all(client.clone()).get_opt(node).await.ok().flatten();
    let uuid = found
        .and_then(|node| node.status?.node_info)
        .map(|info| info.system_uuid);
    uuid.is_some() && uuid == instance.uid()
}

/// Asks a real API server who the token is: a bootstrap token is nobody but itself there.
async fn present_token(kubeconfig: &Kubeconfig) -> Result<(), String> {
    let (id, _) = token_of(kubeconfig)?;
    let reviews: Api<SelfSubjectReview> = Api::all(dial(kubeconfig).await?);
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let user = review
        .map_err(|e| e.to_string())?
        .status
        .and_then(|status| status.user_info?.username);
    if user.as_deref() == Some(&format!("system:bootstrap:{id}")) {
        Ok(())
    } else {
        Err(format!("the token is {}", user.unwrap_or_default()))
    }
}

/// Id and secret of the bootstrap token.
fn token_of(kubeconfig: &Kubeconfig) -> Result<(String, String), String> {
    let json = json!(kubeconfig);
    let token = json
        .pointer("/users/0/user/token")
        .and_then(Value::as_str)
        .ok_or("no token")?;
    let (id, secret) = token.split_once('.').ok_or("the token is no bootstrap token")?;
    Ok((id.to_owned(), secret.to_owned()))
}

/// The host name and the bootstrap kubeconfig of a cloud-config.
fn read_user_data(text: &str) -> Result<(Option<String>, String), String> {
    let config: Value = serde_saphyr::from_str(text).map_err(|e| format!("user data is not a cloud-config: {e}"))?;
    let files = config.get("write_files").and_then(Value::as_array);
    let kubeconfig = files
        .into_iter()
        .flatten()
        .find(|f| f.get("path").and_then(Value::as_str) == Some(labels::BOOTSTRAP_KUBECONFIG_PATH))
        .and_then(|f| f.get("content")?.as_str())
        .ok_or("user data writes no bootstrap kubeconfig")?;
    Ok((
        config.get("hostname").and_then(Value::as_str).map(ToOwned::to_owned),
        kubeconfig.to_owned(),
    ))
}

/// Looks the token up in memory, where no request is authenticated.
async fn check_token(client: &Client, kubeconfig: &Kubeconfig) -> Result<(), String> {
    let (id, secret) = token_of(kubeconfig)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let stored = secrets
        .get(&format!("bootstrap-token-{id}"))
        .await
        .map_err(|e| e.to_string())?;
    let stored = stored
        .data
        .unwrap_or_default()
        .remove("token-secret")
        .map(|d| d.0)
        .unwrap_or_default();
    if stored == secret.as_bytes() {
        Ok(())
    } else {
        Err("the token is wrong".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_kubeconfig_is_found_in_the_user_data() {
        let text = "#cloud-config\nhostname: web-1\nwrite_files:\n- path: /etc/kubernetes/bootstrap-kubeconfig\n  content: |\n    kind: Config\n";
        assert_eq!(
            read_user_data(text).unwrap(),
            (Some("web-1".to_owned()), "kind: Config\n".to_owned())
        );
        assert!(read_user_data("#cloud-config\n{}").is_err());
    }
}
