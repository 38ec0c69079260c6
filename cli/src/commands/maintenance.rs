//! `plan-maintenance`, `drain` and `maintenance`.

mod choice;

use std::{io::IsTerminal, time::Duration};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use self::choice::{Choice, choose};
use super::{
    Context,
    get::list,
    method,
    progress::{self, Verdict, WaitError},
    request_id, sibling,
};
use crate::{
    args::{DrainArgs, InfraNodeArgs, MaintenanceArgs, MaintenanceCommand},
    client::CallError,
    kinds::{Kind, id_of},
    output::{
        self, Format, out,
        table::{at, cell, cell_at, plain_table, trimmed},
    },
};

/// How often a plan is reviewed again that changed between being shown and being started.
const REVIEWS: usize = 5;
/// How long the service may take to make a plan.
const PLAN_DEADLINE: Duration = Duration::from_secs(60);

/// Shows what a maintenance would do.
///
/// # Errors
/// What the server says.
pub async fn plan(context: &Context, args: InfraNodeArgs) -> anyhow::Result<()> {
    let node = context.name(&context.kind("InfraNode")?, &args.infra_node)?;
    let method = sibling(&context.kind("Maintenance")?, "PlanMaintenance")?;
    let plan = context.client.call(&method, json!({ "name": node })).await?;
    match context.format() {
        Format::Table | Format::Wide => out::line(plan_table(&plan))?,
        format => output::print_value(&plan, format)?,
    }
    Ok(())
}

/// Drains an infra node and follows the progress.
///
/// # Errors
/// A refusal of the server or of the person, or a drain that fails.
pub async fn drain(context: &Context, args: DrainArgs) -> anyhow::Result<()> {
    let kind = context.kind("Maintenance")?;
    let node = context.name(&context.kind("InfraNode")?, &args.infra_node)?;
    let name = match find_or_create(context, &kind, &node, args.id.as_deref()).await? {
        Choice::TakeUp(name) => name,
        Choice::InMaintenance(name) => {
            let maintenance = context.read(&kind, &name).await?;
            return show_end(context, &kind, &maintenance);
        }
        Choice::Create(id) => bail!("maintenances/{id} could not be created: others took each id that was tried"),
    };
    if !start(context, &kind, &name, &node, args.yes).await? {
        bail!("nothing was moved; {name} stays planned (`steading delete maintenance {name}` removes it)");
    }
    if args.no_wait {
        out::line(format_args!(
            "{name} is under way; follow it with `steading watch maintenances`"
        ))?;
        return Ok(());
    }
    let end = progress::wait(
        context,
        &kind,
        &name,
        ("drained", args.timeout),
        |maintenance| match maintenance.map(|m| cell_at(m, "state")).as_deref() {
            Some("IN_MAINTENANCE" | "COMPLETED") => Verdict::Done,
            None | Some("CANCELLED" | "FAILED") => Verdict::Failed,
            Some(_) => Verdict::Pending,
        },
    );
    show_end(context, &kind, &end.await?.unwrap_or_default())
}

/// Gives an infra node back, cancels a maintenance, or lists all.
///
/// # Errors
/// What the server says.
pub async fn manage(context: &Context, command: MaintenanceCommand) -> anyhow::Result<()> {
    let kind = context.kind("Maintenance")?;
    match command {
        MaintenanceCommand::List => {
            let all = list(context, &kind, "", None, None).await?;
            output::print_resources(&kind, &all, context.format())
        }
        MaintenanceCommand::Complete(args) => end(context, &kind, &args, "CompleteMaintenance", "COMPLETED").await,
        MaintenanceCommand::Cancel(args) => end(context, &kind, &args, "CancelMaintenance", "CANCELLED").await,
    }
}

async fn end(context: &Context, kind: &Kind, args: &MaintenanceArgs, verb: &str, wanted: &str) -> anyhow::Result<()> {
    let name = context.name(kind, &args.maintenance)?;
    let request = json!({ "name": name, "request_id": request_id() });
    let mut maintenance = context.client.call(&sibling(kind, verb)?, request).await?;
    if args.wait.wait {
        let until = wanted.to_ascii_lowercase();
        let ended = progress::wait(
            context,
            kind,
            &name,
            (&until, args.wait.timeout),
            |maintenance| match maintenance.map(|m| cell_at(m, "state")) {
                Some(state) if state == wanted => Verdict::Done,
                None => Verdict::Failed,
                Some(state) if state == "FAILED" => Verdict::Failed,
                Some(_) => Verdict::Pending,
            },
        );
        maintenance = ended.await?.unwrap_or_default();
    }
    match context.format() {
        Format::Table | Format::Wide => {
            let state = cell_at(&maintenance, "state");
            let done = if state == wanted { "" } else { " (under way)" };
            out::line(format_args!("{name} {}{done}", wanted.to_ascii_lowercase()))?;
            Ok(())
        }
        format => output::print_resource(kind, &maintenance, format),
    }
}

/// The maintenance to go on with: one that can be taken up, or a new one.
async fn find_or_create(context: &Context, kind: &Kind, node: &str, id: Option<&str>) -> anyhow::Result<Choice> {
    let mut choice = Choice::Create(String::new());
    // Whoever creates at the same time takes one id; the next look finds theirs.
    for _ in 0..3 {
        let all = list(context, kind, "", None, None).await?;
        choice = choose(&all, node, id).map_err(|message| anyhow!(message))?;
        let Choice::Create(id) = &choice else {
            return Ok(choice);
        };
        let create = method(kind, "created", kind.create.as_ref())?;
        let request = json!({
            "maintenance_id": id, "maintenance": { "infra_node": node }, "request_id": request_id(),
        });
        match context.client.call(create, request).await {
            Ok(_) => return Ok(Choice::TakeUp(format!("maintenances/{id}"))),
            Err(CallError::Rpc(status)) if status.code() == tonic::Code::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(choice)
}

/// Shows the plan and starts by that very plan; whether the person agreed. One that has started already is left to run.
async fn start(context: &Context, kind: &Kind, name: &str, node: &str, yes: bool) -> anyhow::Result<bool> {
    let start = sibling(kind, "StartMaintenance")?;
    for _ in 0..REVIEWS {
        let planned = progress::wait(context, kind, name, ("planned", PLAN_DEADLINE), |maintenance| {
            let ready = |m: &Value| cell_at(m, "state") != "PLANNED" || !plan_id(m).is_empty();
            match maintenance {
                Some(maintenance) if ready(maintenance) => Verdict::Done,
                Some(_) => Verdict::Pending,
                None => Verdict::Failed,
            }
        });
        let planned = planned.await?.unwrap_or_default();
        if cell_at(&planned, "state") != "PLANNED" {
            return Ok(true);
        }
        if matches!(context.format(), Format::Table | Format::Wide) {
            out::line(plan_table(at(&planned, "plan")))?;
        }
        if !yes && !confirmed(&format!("Drain {node}?"))? {
            return Ok(false);
        }
        let request = json!({ "name": name, "request_id": request_id(), "plan_id": plan_id(&planned) });
        match context.client.call(&start, request).await {
            Err(error) if error.is_stale() => out::note("the plan has changed; this is the new one"),
            started => return started.map(|_| true).map_err(Into::into),
        }
    }
    bail!("the plan of {name} keeps changing; try again when the infra cluster is quieter")
}

fn plan_id(maintenance: &Value) -> &str {
    at(maintenance, "plan.id").as_str().unwrap_or_default()
}

/// The end of a drain, and what comes next.
fn show_end(context: &Context, kind: &Kind, maintenance: &Value) -> anyhow::Result<()> {
    let name = output::name_of(maintenance);
    match context.format() {
        Format::Table | Format::Wide => {
            out::line(progress_line(maintenance))?;
            if cell_at(maintenance, "state") == "IN_MAINTENANCE" {
                out::line(format_args!(
                    "{} is drained; give it back with `steading maintenance complete {}`",
                    at(maintenance, "infraNode").as_str().unwrap_or_default(),
                    id_of(name)
                ))?;
            }
        }
        format => output::print_resource(kind, maintenance, format)?,
    }
    match cell_at(maintenance, "state").as_str() {
        "IN_MAINTENANCE" | "COMPLETED" => Ok(()),
        state => Err(WaitError::Failed {
            name: name.to_owned(),
            state: state.to_owned(),
            reason: format!("see `steading describe maintenance {name}`"),
        }
        .into()),
    }
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("stdin is not a terminal; pass --yes to confirm");
    }
    out::prompt(format_args!("{question} [y/N] "))?;
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
