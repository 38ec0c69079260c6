//! Google's showcase API: its services behind the gateway, its compliance suite, and its generated REST clients.
//!
//! Each case of the compliance suite is sent twice: `rule/…` as `google/api/http.proto` maps it, `gapic/…` as the
//! generated client does.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::Result;

use super::{
    fetch,
    place::{self, Place},
    process::Program,
    verdict::Case,
};

/// All cases take a few seconds; each has 20 s before it fails by itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// The showcase's services, behind a gateway.
pub(crate) struct Showcase {
    /// The program that serves them and plays their cases.
    program: PathBuf,
    /// What the gateway knows of them.
    pub(crate) descriptors: PathBuf,
    /// Of the gateway.
    pub(crate) address: SocketAddr,
    _running: [Program; 2],
}

impl Showcase {
    /// Builds and starts both.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        let own = Place::new("showcase")?;
        let program = fetch::go_program(&own, ".", "showcase")?;
        let descriptors = own.kept.join("showcase.binpb");
        let mut command = Command::new(&program);
        command.arg("descriptors").arg(&descriptors);
        let written = Program::start(&place.kept.join("descriptors"), &mut command)?;
        written.finish(PATIENCE)?.succeeded()?;

        let mut command = Command::new(&program);
        let mut upstream = Program::start(&place.kept.join("upstream"), command.arg("serve"))?;
        let address: SocketAddr = upstream.wait_for(|line| line.parse().ok())?;
        let (gateway, address) = place.gateway(Some(&descriptors), address)?;
        Ok(Self {
            program,
            descriptors,
            address,
            // The gateway is ended first.
            _running: [gateway, upstream],
        })
    }
}

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let showcase = Showcase::start(place)?;
    println!("    playing");
    let mut command = Command::new(&showcase.program);
    command.arg("check").arg(format!("http://{}", showcase.address));
    let checked = Program::start(&place.kept.join("check"), &mut command)?;
    place::cases(&checked.finish(PATIENCE)?.succeeded()?)
}
