//! From the command line to its command.

use std::process::ExitCode;

use crate::{
    args::{Cli, Command},
    commands::{Context, apply, delete, get, maintenance, pools, rights, sim, up, watch},
    demo,
};

/// Runs a command to its end.
///
/// # Errors
/// What went wrong, in words for the person who typed it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(dispatch(cli))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = |global| Context::new(global);
    match cli.command {
        Command::Up(args) => up::run(args).await?,
        Command::Sim(args) => sim::run(args).await?,
        Command::Demo(args) => return demo::run(args).await,
        Command::Apply(args) => apply::apply(&context(cli.global)?, args).await?,
        Command::Get(args) => get::get(&context(cli.global)?, args).await?,
        Command::Describe(args) => get::describe(&context(cli.global)?, args).await?,
        Command::Delete(args) => delete::delete(&context(cli.global)?, args).await?,
        Command::Watch(args) => watch::watch(&context(cli.global)?, args).await?,
        Command::Scale(args) => pools::scale(&context(cli.global)?, args).await?,
        Command::Render(args) => pools::render(&context(cli.global)?, args).await?,
        Command::PlanMaintenance(args) => maintenance::plan(&context(cli.global)?, args).await?,
        Command::Drain(args) => maintenance::drain(&context(cli.global)?, args).await?,
        Command::Maintenance { command } => maintenance::manage(&context(cli.global)?, command).await?,
        Command::Kinds => get::kinds(&context(cli.global)?)?,
        Command::Rights(args) => rights::print(&args, cli.global.output)?,
    }
    Ok(ExitCode::SUCCESS)
}
