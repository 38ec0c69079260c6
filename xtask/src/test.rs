//! All tests.

use anyhow::{Result, bail};

use crate::run::{Outcome, Steps, cargo, succeed};

/// How to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the conformance cases against a real Kubernetes and KubeVirt control plane too.
    #[arg(long)]
    real: bool,
    /// Handed to the test programs, such as a name to select by.
    #[arg(trailing_var_arg = true)]
    filter: Vec<String>,
}

/// Builds first, so that a failure to build and a failed test are told apart, then runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.real {
        bail!(
            "the real test bed (etcd, kube-apiserver and KubeVirt's controllers) is not there yet; run without --real"
        );
    }
    let mut steps = Steps::default();
    let mut built = false;
    steps.step("build", || {
        succeed(&mut cargo(&["test", "--workspace", "--no-run"])?)?;
        built = true;
        Ok(Outcome::Passed)
    });
    steps.step("test", || {
        if !built {
            return Ok(Outcome::Skipped("it does not build".to_owned()));
        }
        let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"])?;
        succeed(command.args(&args.filter))?;
        Ok(Outcome::Passed)
    });
    steps.finish()
}
