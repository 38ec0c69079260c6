//! etcd's data right after the kinds were installed, kept for later starts: the API server then has nothing to learn.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::binaries::hex;

/// Goes up when what is installed before the snapshot changes in another way than by the digested inputs.
const VERSION: u32 = 1;

/// Where the snapshot of these programs and definitions is, or will be.
pub fn path(home: &Path, binaries: &str, definitions: &[Value]) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(VERSION.to_be_bytes());
    hash.update(binaries);
    for definition in definitions {
        hash.update(definition.to_string());
    }
    let digest = hex(&hash.finalize()[..8]);
    home.join("snapshots").join(digest)
}

/// Keeps a folder as a snapshot, whole or not at all. One that is there already stays.
///
/// # Errors
/// When it cannot be copied.
pub fn keep(data: &Path, snapshot: &Path) -> anyhow::Result<()> {
    let parent = snapshot.parent().context("a snapshot stands in a folder")?;
    fs::create_dir_all(parent)?;
    let unfinished = tempfile::Builder::new().prefix("unfinished-").tempdir_in(parent)?;
    copy(data, &unfinished.path().join("data"))?;
    match fs::rename(unfinished.path().join("data"), snapshot) {
        // Another test bed was quicker.
        Err(_) if snapshot.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("cannot keep {}", snapshot.display())),
    }
}

/// Copies a folder with all below it.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_kept_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let (data, kept) = (dir.path().join("data"), path(dir.path(), "a", &[]));
        fs::create_dir_all(data.join("member")).unwrap();
        fs::write(data.join("member/db"), "one").unwrap();
        keep(&data, &kept).unwrap();
        fs::write(data.join("member/db"), "two").unwrap();
        keep(&data, &kept).unwrap();
        assert_eq!(fs::read_to_string(kept.join("member/db")).unwrap(), "one");
        assert_ne!(path(dir.path(), "b", &[]), kept);
    }
}
