//! The seeded simulation of all planners.

use anyhow::Result;

use crate::run::{cargo, succeed};

/// How to simulate; see `cargo xtask simulate --help`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Handed to the simulation.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds it optimized, as a step takes microseconds then, and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--release", "--package", "steading-simulation", "--"])?;
    succeed(command.args(&args.arguments))
}
