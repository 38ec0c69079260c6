//! Compiles `proto/` and the vendored contracts into Rust and a descriptor set.
//!
//! The set is written from the bytes that `protox` made: going through `prost-types` would drop the
//! `google.api.http` options that the gateway lives on.

use std::{env, fs, path::PathBuf};

use prost::Message;

#[path = "build/standard.rs"]
mod standard;

/// What protobuf itself brings along.
const WELL_KNOWN: [&str; 10] = [
    "any",
    "api",
    "duration",
    "empty",
    "field_mask",
    "source_context",
    "struct",
    "timestamp",
    "type",
    "wrappers",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let (contracts, vendor) = (root.join("proto"), root.join("crates/api/vendor"));
    println!("cargo:rerun-if-changed={}", contracts.display());
    println!("cargo:rerun-if-changed={}", vendor.display());

    let mut files = Vec::new();
    collect(&contracts, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&contracts, &vendor])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(files)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let contracts_set = compiler.encode_file_descriptor_set();
    fs::write(out.join("steading.binpb"), &contracts_set)?;

    let standard = standard::generate(&compiler.descriptor_pool(), "steading.")?;
    fs::write(out.join("standard.rs"), standard)?;

    let mut imports = Vec::new();
    collect(&vendor, &mut imports)?;
    imports.sort();
    let mut compiler = protox::Compiler::new([&vendor])?;
    compiler.include_imports(true);
    compiler.open_files(imports)?;
    compiler.open_files(WELL_KNOWN.map(|name| format!("google/protobuf/{name}.proto")))?;
    fs::write(out.join("imports.binpb"), compiler.encode_file_descriptor_set())?;

    let set = prost_types::FileDescriptorSet::decode(contracts_set.as_slice())?;
    tonic_prost_build::configure()
        .include_file("steading.rs")
        .compile_well_known_types(false)
        .type_attribute(
            ".",
            "#[allow(missing_docs, reason = \"packages and oneofs carry no comment of their own\")]",
        )
        .compile_fds(set)?;
    Ok(())
}

fn collect(dir: &PathBuf, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
