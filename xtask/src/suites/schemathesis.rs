//! schemathesis on Steading's own `/openapi.json`, against the whole stack on a simulated infra cluster.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::{
    fetch,
    place::{self, Place},
    process::Program,
    verdict::Case,
};

/// It takes three to four minutes on two free cores.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let bin = fetch::python(place)?;
    let (_stack, address) = place.stack()?;
    println!("    playing, for some minutes");
    let mut command = Command::new(bin.join("python"));
    command
        .current_dir(&place.kept)
        .env("SCHEMATHESIS_HOOKS", place.source.join("hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(place.source.join("play.py"))
        .arg(format!("http://{address}"));
    let played = Program::start(&place.kept.join("play"), &mut command)?;
    place::cases(&played.finish(PATIENCE)?.succeeded()?)
}
