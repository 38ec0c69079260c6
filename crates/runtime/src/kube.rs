//! Clients of Kubernetes API servers: the only place that makes them.
//!
//! Every client has a user agent that says which service it is (the simulator counts by it), timeouts for connecting, for
//! the beginning of an answer and for reading on, and a bound on requests under way.

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};

/// Time for a TCP and TLS connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a byte before a connection counts as dead: above the API server's bookmark minute, below the five
/// minutes after which kube's watcher asks anew.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
/// Time until an answer begins, also that of a watch. Above the minute after which an API server whose etcd is away
/// gives up by itself, so that its word arrives; below what a frozen one would cost by the read timeout alone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);
/// Time until a tenant's answer begins: it is foreign and may hang on purpose, and whoever waits for it serves others too.
const TENANT_ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests under way per tenant: its two watches and some writes, whatever its API server does with them.
const TENANT_CONCURRENT: usize = 8;
/// Requests under way per client: enough to keep an API server busy, too few to starve its other users.
const MAX_CONCURRENT: usize = 64;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The kubeconfig cannot be read or understood.
    #[error("kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// No kubeconfig was given and none can be found.
    #[error("no Kubernetes cluster found: give --kubeconfig, or run inside a cluster")]
    Infer(#[source] kube::config::InferConfigError),
    /// It asks for what a tenant's kubeconfig may not.
    #[error(
        "{0} is not allowed in a tenant's kubeconfig: it must hold its credentials inline (token, client-certificate-data, certificate-authority-data)"
    )]
    Forbidden(&'static str),
    /// TLS or authentication material is not usable.
    #[error("client cannot be built")]
    Build(#[source] kube::Error),
}

/// A client of the cluster that `kubeconfig` names; without one, of the cluster that the environment names.
///
/// # Errors
/// If the configuration cannot be read or used. Nothing is connected yet.
pub async fn client(kubeconfig: Option<&Path>, user_agent: &str) -> Result<Client, KubeError> {
    let config = match kubeconfig {
        Some(path) => from_kubeconfig(Kubeconfig::read_from(path).map_err(KubeError::Kubeconfig)?).await?,
        None => Config::infer().await.map_err(KubeError::Infer)?,
    };
    build(config, user_agent)
}

/// A client from a kubeconfig that is data of a tenant, such as the one in a tenant cluster's Secret.
///
/// It may name a server and hold credentials inline. Commands to run and files to read would be this process's own, so a kubeconfig
/// that asks for them is refused, and so is one with a proxy: no machine could take that way. Proxies of the environment are not used.
///
/// # Errors
/// If it asks for too much or cannot be used. Nothing is connected yet.
pub async fn tenant_client(kubeconfig: Kubeconfig, user_agent: &str) -> Result<Client, KubeError> {
    for cluster in kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err(KubeError::Forbidden("certificate-authority"));
        }
        if cluster.proxy_url.is_some() {
            return Err(KubeError::Forbidden("proxy-url"));
        }
    }
    for user in kubeconfig
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref())
    {
        let wishes = [
            (user.exec.is_some(), "exec"),
            (user.auth_provider.is_some(), "auth-provider"),
            (user.token_file.is_some(), "tokenFile"),
            (user.client_certificate.is_some(), "client-certificate"),
            (user.client_key.is_some(), "client-key"),
        ];
        if let Some((_, what)) = wishes.into_iter().find(|(wished, _)| *wished) {
            return Err(KubeError::Forbidden(what));
        }
    }
    let mut config = from_kubeconfig(kubeconfig).await?;
    config.proxy_url = None;
    // Callers have their own patience. This would hold a refused eviction for minutes instead of telling of it.
    config.default_retry = false;
    build_with(config, user_agent, TENANT_ANSWER_TIMEOUT, TENANT_CONCURRENT)
}

async fn from_kubeconfig(kubeconfig: Kubeconfig) -> Result<Config, KubeError> {
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(KubeError::Kubeconfig)
}

fn build(config: Config, user_agent: &str) -> Result<Client, KubeError> {
    build_with(config, user_agent, ANSWER_TIMEOUT, MAX_CONCURRENT)
}

fn build_with(
    mut config: Config,
    user_agent: &str,
    answer_timeout: Duration,
    concurrent: usize,
) -> Result<Client, KubeError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let agent = format!("{user_agent}/{}", env!("CARGO_PKG_VERSION"));
    if let Ok(value) = http::HeaderValue::try_from(agent) {
        config.headers.push((http::header::USER_AGENT, value));
    }
    let builder = ClientBuilder::try_from(config).map_err(KubeError::Build)?;
    Ok(builder
        .with_layer(&TimeoutLayer::new(answer_timeout))
        .with_layer(&ConcurrencyLimitLayer::new(concurrent))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_tenant(cluster: &str, user: &str) -> Kubeconfig {
        let text = format!(
            "
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1/tenants/a'{cluster}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{{user}}}}}]
"
        );
        Kubeconfig::from_yaml(&text).expect("a kubeconfig")
    }

    #[tokio::test]
    async fn a_tenants_kubeconfig_runs_no_command_and_reads_no_file() {
        assert!(tenant_client(mk_tenant("", "token: t"), "test").await.is_ok());
        for (cluster, user, what) in [
            (
                "",
                "exec: {command: /bin/false, apiVersion: client.authentication.k8s.io/v1}",
                "exec",
            ),
            ("", "auth-provider: {name: gcp, config: {}}", "auth-provider"),
            ("", "tokenFile: /etc/hostname", "tokenFile"),
            ("", "token: t, client-certificate: /etc/hostname", "client-certificate"),
            ("", "token: t, client-key: /etc/hostname", "client-key"),
            (
                ", certificate-authority: /etc/hostname",
                "token: t",
                "certificate-authority",
            ),
            (", proxy-url: 'socks5://bastion:1080'", "token: t", "proxy-url"),
        ] {
            let refused = tenant_client(mk_tenant(cluster, user), "test").await;
            assert!(
                matches!(refused, Err(KubeError::Forbidden(found)) if found == what),
                "{what}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_requests_and_never_answers_is_given_up() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = build_with(config, "test", Duration::from_millis(200), 8).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), client.apiserver_version()).await;
        assert!(matches!(answer, Ok(Err(kube::Error::Service(_)))));
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let missing = client(Some(Path::new("/nonexistent")), "test").await;
        assert!(matches!(missing, Err(KubeError::Kubeconfig(_))));
    }
}
