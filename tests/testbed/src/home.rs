//! Where test beds keep their files.
//!
//! ```text
//! ~/.cache/steading/testbed/      or $STEADING_TESTBED_HOME
//!   bin/                          built programs, by digest
//!   snapshots/                    data directories right after a bring-up, by digest
//!   runs/<name>/                  one running test bed: certificates, data, logs, state.json, kubeconfig
//! ```

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};

/// The folder of all test beds.
///
/// # Errors
/// When neither the variable nor a home directory is there.
pub fn home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("STEADING_TESTBED_HOME").filter(|home| !home.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("there is no home directory; say where to keep the test bed with STEADING_TESTBED_HOME")?;
    Ok(cache.join("steading/testbed"))
}

/// The folder of one test bed.
///
/// # Errors
/// A name that is none.
pub fn run_dir(name: &str) -> anyhow::Result<PathBuf> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(allowed) {
        bail!("--name {name:?}: a test bed's name has 1 to 40 characters of a-z, 0-9 and -");
    }
    Ok(home()?.join("runs").join(name))
}
