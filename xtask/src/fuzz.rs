//! Fuzzing of the transcoder's parsers: `cargo xtask fuzz [--seconds N] [TARGET…]`.
//!
//! cargo-fuzz is fetched into `target/tools` when it is not on PATH. The targets are built with the stable compiler, coverage counters
//! and debug assertions, without a sanitizer: the crate forbids `unsafe`, so what there is to find are panics, endless loops, memory, and
//! broken properties. What a run finds out about the inputs is kept in `target/fuzz/corpus`, so that the next one goes on from there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

use crate::run::{root, succeed};
use crate::tools;

const TARGETS: [&str; 7] = [
    "json",
    "wire",
    "request",
    "reflect",
    "template",
    "values",
    "descriptors",
];

/// Memory that one input may take, in MiB: the limits of the crate keep it far below.
const MEMORY: u32 = 2048;
/// Bytes of one input. Longer ones find little that these do not, and are slow.
const LONGEST: u32 = 4096;
/// Seconds that one input may take.
const PATIENCE: u32 = 10;

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,

    /// Targets; all of them if none is named.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

/// How a target went.
struct Row {
    target: String,
    runs: String,
    rate: String,
    coverage: String,
    finding: Option<PathBuf>,
}

/// Builds the targets and runs them one after another.
pub(crate) fn run(args: &Args) -> Result<()> {
    let home = root()?.join("crates/transcode/fuzz");
    let kept = root()?.join("target/fuzz");
    let targets: Vec<String> = if args.targets.is_empty() {
        TARGETS.map(str::to_owned).into()
    } else {
        args.targets.clone()
    };
    println!("building the fuzz targets");
    let mut build = Command::new(tools::cargo_fuzz()?);
    build
        .args(["build", "--sanitizer", "none", "--fuzz-dir", ".", "--target-dir"])
        .arg(kept.join("build"))
        .current_dir(&home)
        // cargo-fuzz takes whatever `cargo` it finds: the one that runs us.
        .env("PATH", path_with_cargo()?);
    succeed(&mut build)?;
    let mut rows = Vec::new();
    for target in &targets {
        println!("{target}: {} seconds", args.seconds);
        rows.push(fuzz_one(&home, &kept, target, args.seconds)?);
    }
    println!(
        "\n{:12} {:>12} {:>8} {:>9}  finding",
        "target", "runs", "a second", "coverage"
    );
    for row in &rows {
        let finding = row
            .finding
            .as_ref()
            .map_or("none".to_owned(), |path| path.display().to_string());
        println!(
            "{:12} {:>12} {:>8} {:>9}  {finding}",
            row.target, row.runs, row.rate, row.coverage
        );
    }
    let found: Vec<&Row> = rows.iter().filter(|row| row.finding.is_some()).collect();
    if let Some(row) = found.first() {
        bail!(
            "{} of {} targets have a finding; again: cargo fuzz run --sanitizer none --fuzz-dir crates/transcode/fuzz {} FILE",
            found.len(),
            rows.len(),
            row.target
        );
    }
    Ok(())
}

fn fuzz_one(home: &Path, kept: &Path, target: &str, seconds: u32) -> Result<Row> {
    let (corpus, artifacts) = (kept.join("corpus").join(target), kept.join("artifacts").join(target));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let log = kept.join(format!("{target}.log"));
    let program = program(&kept.join("build"), target)?;
    let mut command = Command::new(program);
    command
        .current_dir(home)
        .args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-max_len={LONGEST}"),
            format!("-timeout={PATIENCE}"),
            "-dict=json.dict".to_owned(),
            format!("-artifact_prefix={}/", artifacts.display()),
        ])
        .arg(&corpus)
        .arg(home.join("seeds").join(target))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).with_context(|| log.display().to_string())?);
    #[allow(clippy::disallowed_methods, reason = "compared with the times of files")]
    let began = SystemTime::now();
    let status = command.status().with_context(|| target.to_owned())?;
    // Inputs are quoted in it, and need not be text.
    let said = fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&said);
    let is_progress = |line: &&str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let last = text.lines().rfind(is_progress).unwrap_or_default();
    let after = |word: &str| {
        let mut words = last.split_whitespace().skip_while(|found| *found != word);
        words.nth(1).unwrap_or("?").to_owned()
    };
    let finding = (!status.success()).then(|| newest(&artifacts, began).unwrap_or(log));
    Ok(Row {
        target: target.to_owned(),
        runs: last
            .split_whitespace()
            .next()
            .unwrap_or("?")
            .trim_start_matches('#')
            .to_owned(),
        rate: after("exec/s:"),
        coverage: after("cov:"),
        finding,
    })
}

/// The built target: below the folder of the host's triple.
fn program(build: &Path, target: &str) -> Result<PathBuf> {
    let folders = fs::read_dir(build).with_context(|| build.display().to_string())?;
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("release").join(target)))
        .find(|program| program.is_file())
        .with_context(|| format!("cargo-fuzz built no {target}"))
}

/// The newest file that is not older than the run: earlier findings are kept, too.
fn newest(folder: &Path, began: SystemTime) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())));
    let (_, path) = times.filter(|(time, _)| *time >= began).max()?;
    Some(path)
}

fn path_with_cargo() -> Result<std::ffi::OsString> {
    let own = env::var_os("CARGO").map(PathBuf::from);
    let folder = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(folder.into_iter().chain(env::split_paths(&path)))?)
}
