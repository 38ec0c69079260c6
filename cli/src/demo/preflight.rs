//! Whether the demonstration may begin: nothing of it is there yet, and there is bare metal enough.

use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::{
    api::Api,
    objects::{MAINTENANCE, PROJECT, STORAGE_CLASS},
    report::Report,
};
use crate::output::table::cell_at;

/// Infra nodes that take machines: one is drained, and a spread over the others must still mean something.
const LEAST_NODES: usize = 3;
/// How long nodes may take to be ready; those of a cluster that has just started are in seconds.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks before anything is made.
///
/// # Errors
/// Why not, and what to do.
pub async fn check(server: &str, report: &Report) -> anyhow::Result<()> {
    let api = Api::new(server)?;
    for name in [PROJECT, STORAGE_CLASS, MAINTENANCE] {
        if api.find(name).await?.is_some() {
            bail!(
                "{name} exists already: if an earlier demonstration has left it, `steading demo --kubeconfig … --clean-up` deletes all that is left of it"
            );
        }
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let nodes = api.list("infraNodes/-").await?;
        let fit = nodes.iter().filter(|n| takes_machines(n)).count();
        if fit >= LEAST_NODES {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "{fit} of {} infra nodes take machines, the demonstration needs {LEAST_NODES}: see `steading get nodes`",
                nodes.len()
            );
        }
        report.progress(&format!("{fit} of {} infra nodes take machines", nodes.len()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn takes_machines(node: &Value) -> bool {
    cell_at(node, "schedulable") == "yes"
}
