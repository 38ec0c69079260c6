//! Generates the messages that are measured, with what pbjson makes of them.
//!
//! Only those messages: the file's services and its other types would bring dependencies that nothing here measures.

use std::env;
use std::path::PathBuf;

use prost::Message;
use prost_types::FileDescriptorSet;

const FILE: &str = "steading/testing/v1/library.proto";
const PACKAGE: &str = ".steading.testing.v1";
const MEASURED: [&str; 4] = ["Address", "Author", "Book", "ListBooksResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let transcode = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let (tests, vendor) = (transcode.join("tests/proto"), transcode.join("../api/vendor"));
    println!("cargo:rerun-if-changed={}", tests.join(FILE).display());

    let mut compiler = protox::Compiler::new([&tests, &vendor])?;
    // pbjson looks up the types that it is told to find elsewhere.
    compiler.include_imports(true).open_file(FILE)?;
    let mut set = compiler.file_descriptor_set();
    if let Some(file) = set.file.iter_mut().find(|file| file.name() == FILE) {
        file.service.clear();
        file.enum_type.clear();
        file.message_type.retain(|message| MEASURED.contains(&message.name()));
    }
    generate(set)
}

fn generate(set: FileDescriptorSet) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = set.encode_to_vec();
    prost_build::Config::new()
        // Else prost's own types come in, which have no JSON.
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(set)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .extern_path(".google.protobuf", "::pbjson_types")
        .build(&[PACKAGE])?;
    Ok(())
}
