//! Deletes what the demonstration made, in the order in which things depend on each other, through the public API.

use anyhow::{Context as _, anyhow};
use kube::Client;
use serde_json::json;

use super::{
    api::Api,
    census::{Before, Census},
    checks::check,
    objects::{
        CLUSTER, IMAGE, MAINTENANCE, PINNED, POLICY, PROJECT, STORAGE_CLASS, TEMPLATES, VOLUME, WORKERS, attachment,
        text,
    },
    report::{Check, Report},
    tenant::Tenant,
};
use crate::output::table::cell_at;

/// Deletes everything and counts what is left. What cannot be deleted does not keep the rest from it.
///
/// # Errors
/// The first that could not be deleted, if something is left.
pub async fn run(server: &str, infra: &Client, report: &Report, expected: Before) -> anyhow::Result<Check> {
    report.step("cleanUp", "deleting everything again, through the API");
    let api = Api::new(server)?;
    let before = Census::take(infra).await?;
    let mut failures = Vec::new();
    let mut note = |what: &str, result: anyhow::Result<()>| {
        if let Err(error) = result {
            report.progress(&format!("{what}: {error:#}"));
            failures.push(error);
        }
    };
    // The infra node is given back before anything else: it is the one thing that is not ours.
    note("maintenance", api.delete(report, MAINTENANCE).await);
    note("workloads", remove_workloads(&api, report).await);
    note("volume", remove_volume(&api, report).await);
    for name in [WORKERS, PINNED, CLUSTER, POLICY] {
        note(name, api.delete(report, name).await);
    }
    for name in TEMPLATES {
        note(name, api.delete(report, name).await);
    }
    for name in [IMAGE, STORAGE_CLASS, PROJECT] {
        note(name, api.delete(report, name).await);
    }
    let after = Census::until_empty(infra).await?;
    let verdict = after.verdict(&before, expected);
    let first = failures.into_iter().next();
    if let (Err(left), Some(error)) = (&verdict, first) {
        return Err(error.context(anyhow!("not everything could be deleted; {left}")));
    }
    report.done(verdict.as_deref().unwrap_or_else(|left| left));
    Ok(check(
        "nothingLeft",
        "nothing of it is left in the infra cluster",
        verdict,
    ))
}

/// Without workloads there are no disruption budgets that hold the machines back.
async fn remove_workloads(api: &Api, report: &Report) -> anyhow::Result<()> {
    // Nothing was ever deployed into a tenant cluster that was not reached.
    match api.find(CLUSTER).await? {
        Some(cluster) if !matches!(cell_at(&cluster, "state").as_str(), "PENDING" | "PROVISIONING") => {}
        _ => return Ok(()),
    }
    report.progress("taking the workloads out of the tenant cluster");
    let reply = api.custom(CLUSTER, "GetClusterKubeconfig", json!({})).await?;
    let tenant = Tenant::connect(&text(&reply, "kubeconfig")).await?;
    tenant.remove_workloads().await
}

async fn remove_volume(api: &Api, report: &Report) -> anyhow::Result<()> {
    if api.find(VOLUME).await?.is_none() {
        return Ok(());
    }
    api.custom(VOLUME, "DetachVolume", json!({})).await?;
    api.wait(
        report,
        VOLUME,
        |v| format!("volume {}", attachment(v)),
        |v| attachment(v) == "DETACHED",
    )
    .await
    .context("the volume is not detached")?;
    api.delete(report, VOLUME).await
}
