//! The entry point of `steading`.
#![allow(clippy::print_stderr, reason = "a command line talks to people")]

use std::process::ExitCode;

use clap::Parser;
use steading::{args::Cli, client::CallError, run};

fn main() -> ExitCode {
    match run::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = error.chain().find_map(|e| e.downcast_ref::<CallError>()?.hint()) {
                eprintln!("  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
