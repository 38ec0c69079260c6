//! Chores that are longer than a command: `cargo xtask <task>`.
//!
//! | task | what it does |
//! |---|---|
//! | `check-layers` | holds crates to their dependencies, and modules to their roles and out of circles |
//! | `lint` | formatting, clippy, contracts, layers, documented errors and faults |
//! | `test` | all tests |
//! | `fuzz` | fuzzes the transcoder's parsers |
//! | `simulate` | seeded histories of all planners against their promises |
//! | `suites` | test suites that others wrote, played against the gateway |
//! | `testbed` | the real control planes of Kubernetes and KubeVirt, as processes |
//! | `tools` | fetches the tools that people and checks use into `target/tools` |

#![allow(clippy::print_stdout, reason = "a tool for people talks on stdout")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod errors;
mod faults;
mod fuzz;
mod layers;
mod lint;
mod modules;
mod run;
mod simulate;
mod suites;
mod test;
mod testbed;
mod tools;

#[derive(Parser)]
#[command(about = "Steading's chores", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check that crates depend only on what their layer may, and that modules run in no circles.
    CheckLayers,
    /// Check formatting, lints, contracts, layers and the documentation of errors.
    Lint,
    /// Run all tests.
    Test(test::Args),
    /// Run seeded histories of all planners against their promises; `-- --help` shows how.
    Simulate(simulate::Args),
    /// Fuzz the parsers of the transcoder.
    Fuzz(fuzz::Args),
    /// Play test suites that others wrote against the gateway; needs package registries, Go, Node.js and Python.
    Suites(suites::Args),
    /// Start, show and end the real control planes of Kubernetes and KubeVirt.
    #[command(disable_help_flag = true)]
    Testbed(testbed::Args),
    /// Fetch buf, kubectl, openapi-spec-validator and grpcurl into target/tools.
    Tools,
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::CheckLayers => layers::run(),
        Task::Lint => lint::run(),
        Task::Test(args) => test::run(&args),
        Task::Simulate(args) => simulate::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Suites(args) => return suites::run(&args),
        Task::Testbed(args) => return testbed::run(&args),
        Task::Tools => tools::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
