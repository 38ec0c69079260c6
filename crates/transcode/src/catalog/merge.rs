//! Several descriptor sets as one pool.
//!
//! Works on the bytes: decoding the files into generated types would drop their extension options.

use ahash::AHashMap;
use prost_reflect::DescriptorPool;

use super::{editions, error::CatalogError};
use crate::schema::Traits;
use crate::wire::{self, Raw, Reader};

/// Field numbers of `FileDescriptorSet` and `FileDescriptorProto`.
const FILE: u32 = 1;
const NAME: u32 = 1;
const DEPENDENCY: u32 = 3;
const SOURCE_CODE_INFO: u32 = 9;

/// The pool, and what it cannot say of files of editions.
pub(super) fn pool(sets: &[&[u8]], library: &[&[u8]]) -> Result<(DescriptorPool, Traits), CatalogError> {
    let (mut merged, mut traits) = (Vec::new(), Traits::default());
    let mut seen: AHashMap<&str, &[u8]> = AHashMap::new();
    for set in sets {
        for file in files(set)? {
            let name = name(file)?;
            match seen.get(name) {
                None => {
                    seen.insert(name, file);
                    let lowered = editions::lower(name, file, &mut traits)?;
                    wire::put_bytes(&mut merged, FILE, lowered.as_deref().unwrap_or(file));
                }
                Some(first) if name.starts_with("google/") || meaning(first)? == meaning(file)? => {}
                Some(_) => return Err(CatalogError::ConflictingFile(name.to_owned())),
            }
        }
    }
    add_missing_imports(&mut seen, library, &mut merged)?;
    let mut pool = DescriptorPool::new();
    pool.decode_file_descriptor_set(merged.as_slice())
        .map_err(|error| CatalogError::Link(Box::new(error)))?;
    for set in library {
        add_library(&mut pool, set)?;
    }
    Ok((pool, traits))
}

/// Adds the files of the library that are imported, directly or not, by a set that leaves them out.
fn add_missing_imports<'s>(
    seen: &mut AHashMap<&'s str, &'s [u8]>,
    library: &[&'s [u8]],
    merged: &mut Vec<u8>,
) -> Result<(), CatalogError> {
    let mut known: AHashMap<&str, &[u8]> = AHashMap::new();
    for set in library {
        for file in files(set)? {
            known.entry(name(file)?).or_insert(file);
        }
    }
    let mut pending: Vec<&[u8]> = seen.values().copied().collect();
    while let Some(file) = pending.pop() {
        for import in imports(file)? {
            let Some(&found) = known.get(import).filter(|_| !seen.contains_key(import)) else {
                continue;
            };
            seen.insert(import, found);
            wire::put_bytes(merged, FILE, found);
            pending.push(found);
        }
    }
    Ok(())
}

/// Adds what is missing; a file whose types are there already under another file's name does not fit and is skipped.
fn add_library(pool: &mut DescriptorPool, set: &[u8]) -> Result<(), CatalogError> {
    let mut pending: Vec<&[u8]> = Vec::new();
    for file in files(set)? {
        if pool.get_file_by_name(name(file)?).is_none() {
            pending.push(file);
        }
    }
    // Files may stand before what they import, so go round until nothing more fits.
    loop {
        let before = pending.len();
        pending.retain(|file| {
            let mut candidate = pool.clone();
            let added = candidate.decode_file_descriptor_proto(*file).is_ok();
            if added {
                *pool = candidate;
            }
            !added
        });
        if pending.is_empty() || pending.len() == before {
            return Ok(());
        }
    }
}

fn files(set: &[u8]) -> Result<Vec<&[u8]>, CatalogError> {
    let mut reader = Reader::new(set);
    let mut files = Vec::new();
    while let Some((number, raw)) = reader.next_field().map_err(|_| CatalogError::NotASet)? {
        match (number, raw) {
            (FILE, Raw::Bytes(file)) => files.push(file),
            _ => return Err(CatalogError::NotASet),
        }
    }
    Ok(files)
}

fn name(file: &[u8]) -> Result<&str, CatalogError> {
    match wire::find(file, &[NAME]) {
        Ok(Some(Raw::Bytes(name))) => std::str::from_utf8(name).map_err(|_| CatalogError::NotASet),
        _ => Err(CatalogError::NotASet),
    }
}

fn imports(file: &[u8]) -> Result<Vec<&str>, CatalogError> {
    let (mut reader, mut names) = (Reader::new(file), Vec::new());
    while let Some((number, raw)) = reader.next_field().map_err(|_| CatalogError::NotASet)? {
        if let (DEPENDENCY, Raw::Bytes(name)) = (number, raw) {
            names.push(std::str::from_utf8(name).map_err(|_| CatalogError::NotASet)?);
        }
    }
    Ok(names)
}

/// A file without its comments and positions.
fn meaning(file: &[u8]) -> Result<Vec<u8>, CatalogError> {
    let mut reader = Reader::new(file);
    let mut out = Vec::with_capacity(file.len());
    while let Some((number, raw)) = reader.next_field().map_err(|_| CatalogError::NotASet)? {
        match raw {
            Raw::Bytes(bytes) if number != SOURCE_CODE_INFO => wire::put_bytes(&mut out, number, bytes),
            Raw::Varint(value) => {
                wire::put_tag(&mut out, number, 0);
                wire::put_varint(&mut out, value);
            }
            _ => {}
        }
    }
    Ok(out)
}
