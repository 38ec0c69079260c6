//! `cargo xtask testbed …`: hands everything to the program `steading-testbed`, which is built first if need be.

use std::process::ExitCode;

use crate::run::cargo;

/// What is handed on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `up`, `down`, `status`, `conformance` and their options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs it; its exit code is ours.
pub(crate) fn run(args: &Args) -> ExitCode {
    let status = cargo(&["run", "--quiet", "--package", "steading-testbed", "--"])
        .and_then(|mut command| Ok(command.args(&args.args).status()?));
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
