//! The entry point of `steading`.

use std::process::ExitCode;

use clap::Parser;
use steading::{args::Cli, client::CallError, exit::Exit, output::out, run};

fn main() -> ExitCode {
    match run::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Success {
                out::note(&format!("error: {error:#}"));
                if let Some(hint) = error.chain().find_map(|e| e.downcast_ref::<CallError>()?.hint()) {
                    out::note(&format!("  {hint}"));
                }
            }
            exit.into()
        }
    }
}
