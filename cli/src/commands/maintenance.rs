//! `plan-maintenance` and `drain`.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::{Context, get::found, method, progress, request_id, sibling};
use crate::{
    args::{DrainArgs, InfraNodeArgs},
    kinds::id_of,
    output::{
        self, Format,
        table::{at, cell, cell_at, plain_table, trimmed},
    },
};

/// Shows what a maintenance would do.
///
/// # Errors
/// What the server says.
pub async fn plan(context: &Context, args: InfraNodeArgs) -> anyhow::Result<()> {
    let plan = read_plan(context, &args.infra_node).await?;
    match context.format() {
        Format::Table | Format::Wide => println!("{}", plan_table(&plan)),
        format => output::print_value(&plan, format)?,
    }
    Ok(())
}

async fn read_plan(context: &Context, infra_node: &str) -> anyhow::Result<Value> {
    let node = context.name(&context.kind("InfraNode")?, infra_node)?;
    let plan = sibling(&context.kind("Maintenance")?, "PlanMaintenance")?;
    Ok(context.client.call(&plan, json!({ "name": node })).await?)
}

/// Drains an infra node and follows the progress.
///
/// # Errors
/// A refusal of the server or of the person, or a drain that fails.
pub async fn drain(context: &Context, args: DrainArgs) -> anyhow::Result<()> {
    let kind = context.kind("Maintenance")?;
    let node = context.name(&context.kind("InfraNode")?, &args.infra_node)?;
    let name = format!(
        "maintenances/{}",
        args.id.unwrap_or_else(|| format!("drain-{}", id_of(&node)))
    );
    if found(context.read(&kind, &name).await)?.is_none() {
        let create = method(&kind, "created", kind.create.as_ref())?;
        let request = json!({
            "maintenance_id": id_of(&name), "maintenance": { "infra_node": node }, "request_id": request_id(),
        });
        context.client.call(create, request).await?;
    }
    let maintenance = context.read(&kind, &name).await?;
    if cell_at(&maintenance, "state") == "PLANNED" {
        // What is shown is what will be run: the plan that the maintenance carries, not another one made now.
        println!("{}", plan_table(at(&maintenance, "plan")));
        if !args.yes && !confirmed(&format!("Drain {node}?"))? {
            bail!("nothing was moved; {name} stays planned (`steading delete maintenance {name}` removes it)");
        }
        let start = sibling(&kind, "StartMaintenance")?;
        let request = json!({
            "name": name, "request_id": request_id(), "plan_id": at(&maintenance, "plan.id").as_str().unwrap_or_default(),
        });
        context.client.call(&start, request).await?;
    }
    if args.no_wait {
        println!("{name} begun; follow it with `steading watch maintenances`");
        return Ok(());
    }
    let end = progress::wait(context, &kind, &name, "done", |m| {
        m.is_none_or(|m| {
            matches!(
                cell_at(m, "state").as_str(),
                "IN_MAINTENANCE" | "COMPLETED" | "CANCELLED" | "FAILED"
            )
        })
    })
    .await?
    .unwrap_or_default();
    match context.format() {
        Format::Table | Format::Wide => println!("{}", progress_line(&end)),
        format => output::print_resource(&kind, &end, format)?,
    }
    match cell_at(&end, "state").as_str() {
        "IN_MAINTENANCE" | "COMPLETED" => Ok(()),
        other => bail!("{name} ended {other}; see `steading describe maintenance {name}`"),
    }
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("say --yes where nobody can be asked");
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A plan as a table: a machine a line, what happens to it, why, and where to.
pub fn plan_table(plan: &Value) -> String {
    let entries = at(plan, "entries").as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return "no machines to move".to_owned();
    }
    let mut table = plain_table();
    table.set_header(["MACHINE", "HAPPENS", "TO", "BECAUSE"]);
    for entry in entries {
        let because = match at(entry, "message").as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => cell_at(entry, "reason"),
        };
        let row = [
            cell_at(entry, "machine"),
            cell_at(entry, "disposition"),
            cell_at(entry, "target.infraNode"),
            because,
        ];
        table.add_row(row);
        for risk in at(entry, "risks").as_array().into_iter().flatten() {
            table.add_row([
                String::new(),
                format!("  {}", cell_at(risk, "type")),
                String::new(),
                cell(at(risk, "message")),
            ]);
        }
    }
    trimmed(&table)
}

/// A maintenance in one line: how far it is, and what each machine that moves does.
pub fn progress_line(maintenance: &Value) -> String {
    let number = |path: &str| at(maintenance, path).as_i64().unwrap_or_default();
    let moving: Vec<String> = at(maintenance, "progress")
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| !matches!(cell_at(p, "phase").as_str(), "WAITING" | "MOVED"))
        .map(|p| format!("{} {}", cell_at(p, "machine"), cell_at(p, "phase").to_lowercase()))
        .collect();
    let state = cell_at(maintenance, "state").to_lowercase().replace('_', " ");
    let moving = if moving.is_empty() {
        String::new()
    } else {
        format!(": {}", moving.join(", "))
    };
    format!(
        "{state}, {} of {} moved{moving}",
        number("summary.moved"),
        number("summary.total")
    )
}
