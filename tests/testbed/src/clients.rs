//! Clients of the test bed's API servers.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A client with the rights of a kubeconfig.
///
/// # Errors
/// A kubeconfig that cannot be used.
pub async fn admin(kubeconfig: &Path, user_agent: &str) -> anyhow::Result<Client> {
    let text = std::fs::read_to_string(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    Ok(Client::try_from(config(&text, user_agent, None).await?)?)
}

/// The configuration of a client that calls itself `user_agent` and acts as `user`, if one is given.
///
/// # Errors
/// As [`admin`].
pub async fn config(kubeconfig: &str, user_agent: &str, user: Option<&str>) -> anyhow::Result<Config> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("not a kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // A refusal is an answer here: with retries an eviction that KubeVirt refuses hangs for minutes.
    config.default_retry = false;
    config.auth_info.impersonate = user.map(str::to_owned);
    let agent = http::HeaderValue::try_from(user_agent).context("not a user agent")?;
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
}
