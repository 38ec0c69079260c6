//! Everything that can be checked without running the product.

use std::process::Command;

use anyhow::Result;

use crate::{
    errors, faults, layers,
    run::{Outcome, Steps, cargo, root, succeed},
    tools,
};

/// Runs all checks, also after one failed.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    steps.step("formatting", || {
        passed(succeed(&mut cargo(&["fmt", "--all", "--check", "--", "-l"])?))
    });
    steps.step("layers", || passed(layers::run()));
    steps.step("documented errors", || passed(errors::check()));
    steps.step("documented faults", || passed(faults::check()));
    steps.step("contracts", contracts);
    steps.step("clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        passed(succeed(&mut cargo(&args)?))
    });
    steps.finish()
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// `buf lint`, if buf is there or can be fetched.
fn contracts() -> Result<Outcome> {
    let buf = match tools::buf() {
        Ok(buf) => buf,
        Err(error) => return Ok(Outcome::Skipped(format!("buf cannot be had: {error:#}"))),
    };
    passed(succeed(Command::new(buf).arg("lint").current_dir(root()?)))
}
