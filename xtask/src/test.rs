//! All tests.

use anyhow::Result;

use crate::run::{Outcome, Steps, cargo, succeed};

/// How to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the suite of the real test bed instead: conformance, the demo and its faults on the control planes of Kubernetes and KubeVirt.
    #[arg(long)]
    real: bool,
    /// Handed to the test programs, such as a name to select by.
    #[arg(trailing_var_arg = true)]
    filter: Vec<String>,
}

/// Builds first, so that a failure to build and a failed test are told apart, then runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The features of the whole workspace in both cases: what one has built serves the other.
    let what: &[&str] = if args.real {
        &[
            "test",
            "--workspace",
            "--features",
            "steading-testbed/real",
            "--test",
            "real",
        ]
    } else {
        &["test", "--workspace"]
    };
    let mut steps = Steps::default();
    let mut built = false;
    steps.step("build", || {
        succeed(cargo(what)?.arg("--no-run"))?;
        built = true;
        Ok(Outcome::Passed)
    });
    steps.step("test", || {
        if !built {
            return Ok(Outcome::Skipped("it does not build".to_owned()));
        }
        let mut command = cargo(what)?;
        command.args(["--no-fail-fast", "--"]).args(&args.filter);
        if args.real {
            // One test bed at a time on a machine of two cores.
            command.args(["--test-threads", "1"]);
        }
        succeed(&mut command)?;
        Ok(Outcome::Passed)
    });
    steps.finish()
}
