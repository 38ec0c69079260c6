//! The Go code of the contract, made by the plugins that Go users have, without `protoc`.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use prost_types::compiler::CodeGeneratorResponse;
use steading_transcode::wire::{self, Raw, Reader};

use crate::contract;

/// `FileDescriptorSet.file`.
const SET_FILE: u32 = 1;
/// `CodeGeneratorRequest.file_to_generate`.
const TO_GENERATE: u32 = 1;
/// `CodeGeneratorRequest.parameter`.
const PARAMETER: u32 = 2;
/// `CodeGeneratorRequest.proto_file`.
const PROTO_FILE: u32 = 15;

/// Runs a plugin and writes what it makes into `out`; `package` is the Go import path of the result.
///
/// # Errors
/// When the plugin refuses the contract.
pub(crate) fn run(plugin: &Path, package: &str, out: &Path) -> anyhow::Result<()> {
    let mut child = Command::new(plugin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| plugin.display().to_string())?;
    let mut input = child.stdin.take().context("standard input is a pipe")?;
    input.write_all(&request(package)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        plugin.display(),
        output.status
    );
    let response = CodeGeneratorResponse::decode(output.stdout.as_slice())?;
    ensure!(
        response.error().is_empty(),
        "{}: {}",
        plugin.display(),
        response.error()
    );
    for file in &response.file {
        let name = Path::new(file.name()).file_name().context("a file's name")?;
        fs::write(out.join(name), file.content())?;
    }
    Ok(())
}

/// A `CodeGeneratorRequest`. Put together from the descriptors' bytes, since the types of `prost` lose options that they do not know.
fn request(package: &str) -> anyhow::Result<Vec<u8>> {
    let mut request = Vec::new();
    wire::put_bytes(&mut request, TO_GENERATE, contract::FILE.as_bytes());
    let mut parameter = format!("M{}={package}", contract::FILE);
    // Declared anew in this project, without a place in the Go world.
    for file in ["annotations", "http"] {
        parameter += &format!(",Mgoogle/api/{file}.proto=google.golang.org/genproto/googleapis/api/annotations");
    }
    wire::put_bytes(&mut request, PARAMETER, parameter.as_bytes());
    let set = contract::descriptor_set()?;
    let mut files = Reader::new(&set);
    while let Some(field) = files.next_field()? {
        let (SET_FILE, Raw::Bytes(file)) = field else {
            bail!("a descriptor set has the unknown field {}", field.0);
        };
        wire::put_bytes(&mut request, PROTO_FILE, file);
    }
    Ok(request)
}
