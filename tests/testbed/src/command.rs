//! The command line: `up`, `down`, `status`, `conformance`, and what the test bed runs of itself.

use std::{process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{
    arguments::ShapeArgs,
    conform,
    home::run_dir,
    interrupts::catch_interrupts,
    play,
    progress::Progress,
    state::{Phase, State},
    supervise,
    testbed::{Lifetime, Testbed, memory_mib},
};

/// The control planes of Kubernetes and KubeVirt as plain processes on this machine.
#[derive(Debug, Parser)]
#[command(name = "testbed", bin_name = "cargo xtask testbed", arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build what is missing, start all of it, and return when it answers.
    Up(UpArgs),
    /// End it and remove its data.
    Down(NameArgs),
    /// Say what runs, since when, and how much memory it takes.
    Status(StatusArgs),
    /// Run the conformance cases on the real control plane and on the simulator, and show where they differ.
    Conformance(conform::Args),
    /// Run the supervisor of a test bed.
    #[command(hide = true)]
    Supervise(supervise::Args),
    /// Play what has no hardware here.
    #[command(hide = true)]
    Play(play::Args),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Name of the test bed; several can run at once.
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Print one JSON line.
    #[arg(long)]
    json: bool,
}

/// Runs a command to its end.
///
/// # Errors
/// What went wrong, in words for the person who typed it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(args) => return up(args),
        Command::Down(args) => down(&args)?,
        Command::Status(args) => return status(&args),
        Command::Conformance(args) => return conform::run(&args),
        Command::Supervise(args) => supervise::run(args)?,
        Command::Play(args) => play::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let dir = run_dir(&args.name.name)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let (progress, since) = (Progress::new(), Instant::now());
    catch_interrupts()?;
    let testbed = Testbed::start(&program, &dir, &args.shape.into(), Lifetime::Detached, &progress)?;
    progress.finish();
    let state = testbed.state()?;
    let seconds = since.elapsed().as_secs_f64();
    let memory = total_memory(&state);
    if args.json {
        let line = json!({
            "kubeconfig": state.kubeconfig, "tenantKubeconfigs": state.tenant_kubeconfigs, "auditLog": state.audit_log,
            "seconds": seconds, "memoryMiB": memory, "directory": dir,
        });
        println!("{line}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "The test bed is ready after {seconds:.1} s; its {} processes take {memory} MiB.\n",
        state.processes.len()
    );
    println!(
        "  infra     kubectl --kubeconfig {} get nodes",
        state.kubeconfig.display()
    );
    for tenant in &state.tenant_kubeconfigs {
        println!("  tenant    {}", tenant.display());
    }
    println!("  logs      {}", dir.join("logs").display());
    println!(
        "\nNext: cargo run -- demo --kubeconfig {}\nEnd it with: cargo xtask testbed down{}",
        state.kubeconfig.display(),
        named(&args.name.name)
    );
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> String {
    if name == "default" {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

fn down(args: &NameArgs) -> anyhow::Result<()> {
    let dir = run_dir(&args.name)?;
    match Testbed::find(&dir)? {
        Some(mut testbed) => {
            testbed.stop()?;
            println!("down");
        }
        None if dir.exists() => {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
            println!("it did not run any more; its data is removed");
        }
        None => println!("there is no test bed {:?}", args.name),
    }
    Ok(())
}

fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let dir = run_dir(&args.name.name)?;
    let Some(testbed) = Testbed::find(&dir)? else {
        println!("there is no test bed {:?}; `up` starts one", args.name.name);
        return Ok(ExitCode::FAILURE);
    };
    let state = testbed.state()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&state)?);
        return Ok(ExitCode::SUCCESS);
    }
    match &state.phase {
        Phase::Ready { seconds } => println!("ready; it took {seconds:.1} s"),
        Phase::Starting { step } => println!("starting: {step}"),
        Phase::Failed { error } => println!("failed: {error}"),
    }
    println!("kubeconfig {}\n", state.kubeconfig.display());
    println!("{:<36} {:>8} {:>9} {:>8}", "PROCESS", "PID", "MEMORY", "RESTARTS");
    for (name, process) in &state.processes {
        let pid = process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let memory = process
            .pid
            .and_then(memory_mib)
            .map_or_else(|| "-".to_owned(), |mib| format!("{mib} MiB"));
        println!("{name:<36} {pid:>8} {memory:>9} {:>8}", process.restarts);
    }
    println!("{:<36} {:>8} {:>9}", "", "", format!("{} MiB", total_memory(&state)));
    Ok(ExitCode::SUCCESS)
}

fn total_memory(state: &State) -> u64 {
    let pids = state.processes.values().filter_map(|process| process.pid);
    pids.filter_map(memory_mib).sum()
}
