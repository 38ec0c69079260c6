//! What suites need from package registries, at pinned versions, kept between runs.

use std::{
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Error, Result, bail};

use super::place::Place;

/// A suite cannot be had on this machine, which says nothing about the gateway.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Words of package managers for a package that is not the pinned one: that is never a matter of reaching a registry.
const TAMPERED: [&str; 4] = [
    "checksum mismatch",
    "SECURITY ERROR",
    "EINTEGRITY",
    "DO NOT MATCH THE HASHES",
];

/// Runs a package manager; whatever keeps it from fetching makes the suite unavailable.
fn fetch(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::new(Unavailable(format!("{name} is not on PATH"))));
        }
        Err(error) => return Err(error).with_context(|| name),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if TAMPERED.iter().any(|word| said.contains(word)) {
        bail!("{name} got another package than the pinned one: {said}");
    }
    Err(Error::new(Unavailable(format!("{name} cannot fetch packages: {said}"))))
}

/// Go in the folder of a module of ours.
pub(crate) fn go(module: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module)
        // The module's own files say what is used, and building changes none of them.
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0");
    go
}

/// Fetches what a suite's Go module needs (checked against its `go.sum`) and builds a program of it.
pub(crate) fn go_program(place: &Place, package: &str, name: &str) -> Result<PathBuf> {
    println!("    fetching Go modules and building {name}");
    fetch(go(&place.source).args(["mod", "download"]))?;
    let program = place.kept.join(name);
    let built = go(&place.source)
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(package)
        .output()?;
    if !built.status.success() {
        bail!("{package} does not build: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(program)
}
