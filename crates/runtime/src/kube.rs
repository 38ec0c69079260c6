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

/// A client from the text of a kubeconfig, such as a tenant cluster's from its Secret.
///
/// The text is data of a tenant: it may name a server and credentials inline, but no files and no commands to run.
///
/// # Errors
/// If the text is not such a kubeconfig. Nothing is connected yet.
pub async fn client_from_text(kubeconfig: &str, user_agent: &str) -> Result<Client, KubeError> {
    let mut parsed = Kubeconfig::from_yaml(kubeconfig).map_err(KubeError::Kubeconfig)?;
    for cluster in &mut parsed.clusters {
        if let Some(cluster) = &mut cluster.cluster {
            cluster.certificate_authority = None;
            cluster.proxy_url = None;
        }
    }
    for auth in &mut parsed.auth_infos {
        if let Some(auth) = &mut auth.auth_info {
            auth.token_file = None;
            auth.client_certificate = None;
            auth.client_key = None;
            auth.exec = None;
            auth.auth_provider = None;
        }
    }
    build(from_kubeconfig(parsed).await?, user_agent)
}

async fn from_kubeconfig(kubeconfig: Kubeconfig) -> Result<Config, KubeError> {
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(KubeError::Kubeconfig)
}

fn build(config: Config, user_agent: &str) -> Result<Client, KubeError> {
    build_with(config, user_agent, ANSWER_TIMEOUT)
}

fn build_with(mut config: Config, user_agent: &str, answer_timeout: Duration) -> Result<Client, KubeError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let agent = format!("{user_agent}/{}", env!("CARGO_PKG_VERSION"));
    if let Ok(value) = http::HeaderValue::try_from(agent) {
        config.headers.push((http::header::USER_AGENT, value));
    }
    let builder = ClientBuilder::try_from(config).map_err(KubeError::Build)?;
    Ok(builder
        .with_layer(&TimeoutLayer::new(answer_timeout))
        .with_layer(&ConcurrencyLimitLayer::new(MAX_CONCURRENT))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1/tenants/a'}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t, exec: {command: /bin/false, apiVersion: client.authentication.k8s.io/v1}}}]
";

    #[tokio::test]
    async fn a_tenants_kubeconfig_makes_a_client_but_runs_no_command() {
        assert!(client_from_text(TENANT, "test").await.is_ok());
    }

    #[tokio::test]
    async fn a_server_that_takes_requests_and_never_answers_is_given_up() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = build_with(config, "test", Duration::from_millis(200)).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), client.apiserver_version()).await;
        assert!(matches!(answer, Ok(Err(kube::Error::Service(_)))));
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        assert!(matches!(
            client_from_text("nonsense", "test").await,
            Err(KubeError::Kubeconfig(_))
        ));
        let missing = client(Some(Path::new("/nonexistent")), "test").await;
        assert!(matches!(missing, Err(KubeError::Kubeconfig(_))));
    }
}
