//! Prints the OpenAPI document of descriptor sets: `openapi FILE.binpb…`.

use std::io::Write as _;
use std::process::ExitCode;

use steading_transcode::Catalog;
use steading_transcode::openapi::{self, Options};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let files: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(std::fs::read)
        .collect::<Result<_, _>>()?;
    if files.is_empty() {
        writeln!(std::io::stderr(), "usage: openapi FILE.binpb…")?;
        return Ok(ExitCode::from(2));
    }
    let sets: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let catalog = Catalog::new(&sets, &[], |_| true)?;
    let options = Options {
        title: "API".into(),
        version: "v1".into(),
        ..Options::default()
    };
    let document = openapi::document_of(&catalog, &options);
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&document)?)?;
    Ok(ExitCode::SUCCESS)
}
