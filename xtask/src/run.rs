//! Running commands and steps, and telling how they went.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// Root of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask stands below the root")?.to_owned())
}

/// The cargo that runs us, in the root.
pub(crate) fn cargo(args: &[&str]) -> Result<Command> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root()?);
    Ok(command)
}

/// Runs a command with our output; an error unless it succeeds.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// What became of a step.
pub(crate) enum Outcome {
    /// It held.
    Passed,
    /// It could not be looked at, and why.
    Skipped(String),
}

/// Steps that are all run, and told together at the end.
#[derive(Default)]
pub(crate) struct Steps {
    told: Vec<String>,
    failed: usize,
}

impl Steps {
    /// Runs a step.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        println!("==> {name}");
        let since = Instant::now();
        let outcome = step();
        let took = since.elapsed().as_secs_f32();
        let line = match outcome {
            Ok(Outcome::Passed) => format!("ok       {name} ({took:.1} s)"),
            Ok(Outcome::Skipped(why)) => format!("skipped  {name}: {why}"),
            Err(error) => {
                self.failed += 1;
                format!("FAILED   {name}: {error:#}")
            }
        };
        println!("    {line}");
        self.told.push(line);
    }

    /// Tells how all steps went.
    pub(crate) fn finish(self) -> Result<()> {
        println!();
        for line in &self.told {
            println!("{line}");
        }
        if self.failed > 0 {
            bail!("{} of {} steps failed", self.failed, self.told.len());
        }
        Ok(())
    }
}
