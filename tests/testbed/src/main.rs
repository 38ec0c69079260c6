//! The entry point of `steading-testbed`, which `cargo xtask testbed` calls.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to people"
)]

use std::process::ExitCode;

use clap::Parser as _;
use steading_testbed::command::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
