//! The validators of others on the API documents that the gateway serves: Steading's own, and that of `library.proto`, which has
//! every kind of field, binding and stream.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Error, Result, ensure};
use serde_json::Value;

use super::{
    fetch::{self, Unavailable},
    place::{self, Place},
    process::Program,
    verdict::Case,
};
use crate::{run::root, tools};

/// Each takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// No service is called, so nothing listens there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// Descriptors say nothing of an API's licence, and the gateway serves anybody's.
const SKIPPED_RULE: &str = "info-license";

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let python = fetch::python(place)?;
    let node = fetch::node(place)?;
    let library = library(place)?;
    let mut cases = Vec::new();
    for (name, descriptors) in [("steading", None), ("library", Some(library.as_path()))] {
        let (_gateway, address) = place.gateway(descriptors, NOWHERE)?;
        let document = place.kept.join(format!("{name}.json"));
        fs::write(&document, place::api_document(address)?)?;
        let run = |log: &str, command: &mut Command| {
            Program::start(&place.kept.join(format!("{log}-{name}")), command)?.finish(PATIENCE)
        };

        let mut validator = Command::new(python.join("openapi-spec-validator"));
        let validated = run("validator", validator.arg(&document)).and_then(|ended| ended.succeeded());
        cases.push(Case::of(format!("spec-validator/{name}"), validated));

        let mut redocly = Command::new(node.join("node_modules/.bin/redocly"));
        redocly
            .current_dir(&place.kept)
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .args([
                "lint",
                "--extends",
                "recommended",
                "--format",
                "json",
                "--skip-rule",
                SKIPPED_RULE,
            ])
            .arg(&document);
        let linted = run("redocly", &mut redocly).and_then(|ended| clean(&ended.said));
        cases.push(Case::of(format!("redocly/{name}"), linted));
    }
    Ok(cases)
}

/// Whether redocly has nothing to say, warnings included.
fn clean(report: &str) -> Result<()> {
    let report: Value = serde_json::from_str(report).with_context(|| format!("not a report: {report}"))?;
    let problems = report["problems"].as_array().context("a report without problems")?;
    let told = problems.iter().map(|problem| {
        let pointer = problem["location"][0]["pointer"].as_str().unwrap_or_default();
        format!("{} at {pointer}", problem["ruleId"].as_str().unwrap_or_default())
    });
    ensure!(problems.is_empty(), "{}", told.collect::<Vec<_>>().join(", "));
    Ok(())
}

/// Descriptors of `library.proto`, made as users make them.
fn library(place: &Place) -> Result<PathBuf> {
    let buf = tools::buf().map_err(|error| Error::new(Unavailable(format!("buf: {error:#}"))))?;
    let crates = root()?.join("crates");
    let protos = place.kept.join("protos");
    place::copy(&crates.join("transcode/tests/proto"), &protos)?;
    place::copy(&crates.join("api/vendor"), &protos)?;
    fs::write(protos.join("buf.yaml"), "version: v2\n")?;
    let file = place.kept.join("library.binpb");
    let mut command = Command::new(buf);
    command
        .current_dir(&protos)
        .args(["build", "--path", "steading/testing/v1/library.proto", "--output"])
        .arg(&file);
    Program::start(&place.kept.join("buf"), &mut command)?
        .finish(PATIENCE)?
        .succeeded()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_not_clean() {
        clean(r#"{"problems":[]}"#).unwrap();
        let problem =
            r##"{"problems":[{"ruleId":"tag-description","severity":"warn","location":[{"pointer":"#/tags/0"}]}]}"##;
        assert_eq!(clean(problem).unwrap_err().to_string(), "tag-description at #/tags/0");
        assert!(clean("Woohoo").is_err() && clean("{}").is_err());
    }
}
