//! What comes before anything starts: an API server that answers, the rights to do the work, KubeVirt, Steading's kinds.

use std::{fmt::Write as _, io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use kube::Client;
use steading_infra::{
    apply::FieldManager,
    capabilities::{self, Capabilities},
    install::{self, InstallOutcome, InstalledKind},
    labels,
    rights::{self, MissingRight, Need, Scope},
};
use steading_scheduling::domain::infra_cluster::{Aspect, Finding, Fitness, Verdict, assess, fitness};
use tokio::time::Instant;

/// How long the API server may be away at the start: a control plane that restarts is back in well under a minute.
const API_SERVER_DEADLINE: Duration = Duration::from_secs(60);
/// How long one question to it may take before it counts as away.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long an installation of KubeVirt that has begun may take to be complete.
const KUBEVIRT_DEADLINE: Duration = Duration::from_secs(60);
/// How long the infra cluster may take to serve our kinds.
const INSTALL_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was found and done before the start.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the infra cluster can do.
    pub capabilities: Capabilities,
    /// That, judged.
    pub findings: Vec<Finding>,
    /// Steading's kinds and what became of each.
    pub kinds: Vec<InstalledKind>,
    /// Rights that are not there and that can be done without.
    pub missing_rights: Vec<MissingRight>,
}

impl Prepared {
    /// What does not work or is not known to, a line each.
    pub fn shortcomings(&self) -> Vec<String> {
        let findings = self.findings.iter().filter(|f| f.verdict != Verdict::Holds);
        let rights = self.missing_rights.iter().map(|right| {
            let lost = right.needed_by.iter().filter_map(|(_, need)| match need {
                Need::For(what) => Some(*what),
                Need::Essential => None,
            });
            let lost = lost.collect::<std::collections::BTreeSet<_>>();
            let lost = lost.into_iter().collect::<Vec<_>>().join(", ");
            format!("no right to {} {}: {lost} will not work", right.verb, place_of(right))
        });
        findings.map(|f| f.message.clone()).chain(rights).collect()
    }

    /// Names of the kinds of which that became.
    pub fn kinds_that_were(&self, outcome: InstallOutcome) -> Vec<&str> {
        let kinds = self.kinds.iter().filter(|k| k.outcome == outcome);
        kinds.map(|k| k.name.as_str()).collect()
    }

    /// The infra cluster in one line.
    pub fn headline(&self) -> String {
        let found = &self.capabilities;
        let kubevirt = found.kubevirt.present().and_then(|k| k.version.as_deref());
        let cdi = match (found.cdi.present(), found.cdi.unknown()) {
            (Some(cdi), _) => format!("CDI {}", cdi.version.as_deref().unwrap_or("of an unknown version")),
            (None, Some(_)) => "CDI unknown".to_owned(),
            (None, None) => "no CDI".to_owned(),
        };
        let classes = match found.storage_classes.present() {
            Some(classes) => format!("{} storage classes", classes.len()),
            None => "storage classes unknown".to_owned(),
        };
        format!(
            "Kubernetes {}, KubeVirt {}, {cdi}, {classes}",
            found.kubernetes_version,
            kubevirt.unwrap_or("of an unknown version"),
        )
    }
}

/// Makes an infra cluster ready for the services. `whence` says where the client came from, and `tell` shows progress.
///
/// # Errors
/// When it cannot be made ready; says what is missing and what to do.
pub async fn prepare(client: &Client, whence: &str, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Prepared> {
    wait_for_api_server(client, whence, tell).await?;
    tell("checking rights");
    let missing = rights::check(client, &rights::ALL)
        .await
        .context("the API server does not say what we may do (SelfSubjectAccessReview)")?;
    if missing.iter().any(MissingRight::is_essential) {
        bail!(explain_missing(&missing, whence));
    }
    let (capabilities, findings) = wait_for_kubevirt(client, tell).await?;
    tell("installing Steading's kinds");
    let kinds = install::install_crds(client, FieldManager::Lifecycle, INSTALL_DEADLINE)
        .await
        .context("cannot install Steading's kinds in the infra cluster")?;
    install::ensure_system_namespace(client, FieldManager::Lifecycle)
        .await
        .with_context(|| format!("cannot make the namespace {}", labels::SYSTEM_NAMESPACE))?;
    Ok(Prepared {
        capabilities,
        findings,
        kinds,
        missing_rights: missing,
    })
}

/// A client's way to where a kubeconfig points.
pub fn whence(kubeconfig: &Path) -> String {
    format!("the kubeconfig {}", kubeconfig.display())
}

/// Waits while nobody answers; gives up at once where waiting does not help.
async fn wait_for_api_server(client: &Client, whence: &str, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let deadline = Instant::now() + API_SERVER_DEADLINE;
    loop {
        let answer = tokio::time::timeout(ANSWER_DEADLINE, is_ready(client)).await;
        let why = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if !is_passing(&error) => {
                bail!("the API server of {whence} cannot be used: {}", words_of(&error));
            }
            Ok(Err(error)) => words_of(&error),
            Err(_) => format!("no answer within {}s", ANSWER_DEADLINE.as_secs()),
        };
        if Instant::now() >= deadline {
            bail!(
                "the API server of {whence} has been away for {}s: {why}",
                API_SERVER_DEADLINE.as_secs()
            );
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        tell(&format!("waiting for the API server, {left}s more: {why}"));
        tokio::time::sleep(LOOK_EVERY * 2).await;
    }
}

/// Whether the API server serves and knows us. One that does not tell its readiness to us is as good as ready.
async fn is_ready(client: &Client) -> kube::Result<()> {
    let request = http::Request::get("/readyz")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match client.request_text(request).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
        other => drop(other?),
    }
    client.apiserver_version().await.map(drop)
}

/// Whether the same request may succeed in a moment: nobody listens yet, or the server is still starting.
fn is_passing(error: &kube::Error) -> bool {
    if let kube::Error::Api(status) = error {
        return matches!(status.code, 429 | 500..=599);
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::NotConnected
                    | ErrorKind::BrokenPipe
                    | ErrorKind::TimedOut
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
            );
        }
        source = cause.source();
    }
    false
}

/// Waits for an installation that is under way; without one there is nothing to wait for.
async fn wait_for_kubevirt(
    client: &Client,
    tell: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<(Capabilities, Vec<Finding>)> {
    let deadline = Instant::now() + KUBEVIRT_DEADLINE;
    loop {
        tell("looking at what the infra cluster can do");
        let capabilities = capabilities::discover(client)
            .await
            .context("the infra cluster does not tell what it can do")?;
        let findings = assess(&capabilities);
        if fitness(&findings) != Fitness::Unusable {
            return Ok((capabilities, findings));
        }
        let why = findings
            .iter()
            .find(|f| f.aspect == Aspect::KubeVirt)
            .map(|f| f.message.clone())
            .unwrap_or_default();
        if !capabilities.groups.contains_key("kubevirt.io") || Instant::now() >= deadline {
            bail!("no machines can run in this infra cluster: {why}");
        }
        tell(&format!("waiting for KubeVirt: {why}"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is missing, for whom, and what to do. Rights that can be done without come last.
fn explain_missing(missing: &[MissingRight], whence: &str) -> String {
    let (essential, dispensable): (Vec<_>, Vec<_>) = missing.iter().partition(|m| m.is_essential());
    let mut text = format!("{whence} does not give the rights that Steading needs:\n");
    text.push_str(&lines_of(&essential));
    if !dispensable.is_empty() {
        text.push_str("and, for parts of it only:\n");
        text.push_str(&lines_of(&dispensable));
    }
    text.push_str(
        "give them to the user of the kubeconfig (`steading rights --user NAME` prints the roles), or name another kubeconfig",
    );
    text
}

/// A line for each resource: the verbs that the same services need.
fn lines_of(missing: &[&MissingRight]) -> String {
    let mut lines: Vec<(String, String, Vec<&str>)> = Vec::new();
    for right in missing {
        let needed: Vec<_> = right.needed_by.iter().map(|(service, _)| *service).collect();
        let (place, needed) = (place_of(right), needed.join(", "));
        match lines.iter_mut().find(|line| (&line.0, &line.1) == (&place, &needed)) {
            Some(line) => line.2.push(right.verb),
            None => lines.push((place, needed, vec![right.verb])),
        }
    }
    let text =
        |(place, needed, verbs): (String, String, Vec<&str>)| format!("  {} {place} (for {needed})\n", verbs.join(","));
    lines.into_iter().map(text).collect()
}

/// `leases.coordination.k8s.io in steading-system`.
fn place_of(right: &MissingRight) -> String {
    let group = if right.group.is_empty() {
        String::new()
    } else {
        format!(".{}", right.group)
    };
    let place = match right.scope {
        Scope::Cluster => String::new(),
        Scope::System => format!(" in {}", right.scope.namespace()),
    };
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, format!("/{subresource}")),
        None => (right.resource, String::new()),
    };
    format!("{resource}{group}{subresource}{place}")
}

/// An error of the API server in its own words, any other with its causes, each once.
fn words_of(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} (HTTP {}, {})", status.message, status.code, status.reason);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_missing(resource: &'static str, need: Need) -> MissingRight {
        MissingRight {
            verb: "patch",
            group: "steading.dev",
            resource,
            scope: Scope::Cluster,
            needed_by: vec![("steading-lifecycle", need)],
        }
    }

    #[test]
    fn missing_rights_are_told_with_who_needs_them_and_what_to_do() {
        let text = explain_missing(
            &[
                mk_missing("projects", Need::For("something")),
                mk_missing("clusters/status", Need::Essential),
                MissingRight {
                    verb: "get",
                    ..mk_missing("clusters/status", Need::Essential)
                },
            ],
            "the kubeconfig f",
        );
        let essential = text.find("  patch,get clusters.steading.dev/status (for steading-lifecycle)");
        let dispensable = text.find("patch projects.steading.dev (for");
        assert!(essential.is_some() && essential < dispensable, "{text}");
        assert!(text.contains("steading rights"));
    }

    #[test]
    fn a_server_that_is_away_is_waited_for_and_one_that_refuses_us_is_not() {
        let io = |kind| kube::Error::Service(Box::new(std::io::Error::from(kind)));
        assert!(is_passing(&io(ErrorKind::ConnectionRefused)));
        assert!(!is_passing(&io(ErrorKind::InvalidData)));
        let answer = |code| kube::Error::Api(kube::core::Status::failure("m", "r").with_code(code).boxed());
        assert!(is_passing(&answer(503)));
        assert!(!is_passing(&answer(401)));
    }
}
