//! What suites need from package registries, at pinned versions, kept between runs.

use std::{
    fmt, fs,
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
    go_program_in(&place.source, package, &place.kept.join(name))
}

/// The same for a module anywhere.
pub(crate) fn go_program_in(module: &Path, package: &str, program: &Path) -> Result<PathBuf> {
    println!("    fetching Go modules and building {package}");
    fetch(go(module).args(["mod", "download"]))?;
    let built = go(module).arg("build").arg("-o").arg(program).arg(package).output()?;
    if !built.status.success() {
        bail!("{package} does not build: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(program.to_owned())
}

/// Installs what a suite's `requirements.txt` pins, in a virtual environment; the folder of its programs.
pub(crate) fn python(place: &Place) -> Result<PathBuf> {
    let wanted = place.source.join("requirements.txt");
    let (venv, installed) = (place.kept.join("venv"), place.kept.join("venv/installed.txt"));
    if !same(&wanted, &installed) {
        println!("    fetching Python packages");
        fetch(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        // All of them are pinned, so what they depend on is none of pip's business.
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--requirement",
        ]);
        fetch(pip.arg(&wanted))?;
        fs::copy(&wanted, &installed).with_context(|| installed.display().to_string())?;
    }
    Ok(venv.join("bin"))
}

/// Installs what a suite's `package-lock.json` pins (checked against it); the folder that has `node_modules`.
pub(crate) fn node(place: &Place) -> Result<PathBuf> {
    let home = place.kept.join("node");
    let (wanted, installed) = (place.source.join("package-lock.json"), home.join("installed.json"));
    if !same(&wanted, &installed) {
        println!("    fetching npm packages");
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(place.source.join(file), home.join(file)).with_context(|| file.to_owned())?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(&home).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
        ]);
        fetch(&mut npm)?;
        fs::copy(&wanted, &installed).with_context(|| installed.display().to_string())?;
    }
    Ok(home)
}

fn same(wanted: &Path, installed: &Path) -> bool {
    let read = |file| fs::read(file).ok();
    read(wanted).is_some_and(|wanted| read(installed) == Some(wanted))
}
