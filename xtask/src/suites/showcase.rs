//! Google's showcase API: its services behind the gateway, its compliance suite, and its generated REST clients.
//!
//! Each case of the compliance suite is sent twice: `rule/…` as `google/api/http.proto` maps it, `gapic/…` as the
//! generated client does.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::Result;

use super::{
    fetch,
    place::{self, Place},
    process::Program,
    verdict::Case,
};

/// All cases take a few seconds; each has 20 s before it fails by itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let showcase = fetch::go_program(place, ".", "showcase")?;
    let descriptors = place.kept.join("showcase.binpb");
    let run = |log: &str| {
        let mut command = Command::new(&showcase);
        command.current_dir(&place.kept);
        (place.kept.join(log), command)
    };

    let (log, mut command) = run("descriptors");
    let written = Program::start(&log, command.arg("descriptors").arg(&descriptors))?;
    written.finish(PATIENCE)?.succeeded()?;

    let (log, mut command) = run("upstream");
    let mut upstream = Program::start(&log, command.arg("serve"))?;
    let address: SocketAddr = upstream.wait_for(|line| line.parse().ok())?;
    let (_gateway, address) = place.gateway(&descriptors, &[format!("http://{address}")])?;

    println!("    playing");
    let (log, mut command) = run("check");
    let checked = Program::start(&log, command.arg("check").arg(format!("http://{address}")))?;
    place::cases(&checked.finish(PATIENCE)?.succeeded()?)
}
