//! Runs cases: each in a lab of its own, several at once, results in the order of the list.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt, stream};
use steading_sim::{Sim, SimConfig};
use tokio::time::{Instant, timeout};

use super::{Case, Lab, Recording, Transcript, all};

/// Cases that run at once: enough to hide waiting, few enough for two cores.
const AT_ONCE: usize = 12;
/// A case's time; no good one needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(120);

/// How a case ended.
#[derive(Debug)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// What it saw, or why it did not end.
    pub result: Result<Recording, String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs the cases whose id or area contains `filter`, or all.
pub async fn run_all(client: &kube::Client, filter: Option<&str>) -> Vec<Outcome> {
    let wanted = |case: &Case| filter.is_none_or(|part| case.id.contains(part) || case.area.folder() == part);
    let cases = all().into_iter().filter(wanted);
    stream::iter(cases)
        .map(|case| async move {
            let start = Instant::now();
            let result = run(client.clone(), &case).await.map_err(|error| format!("{error:#}"));
            Outcome {
                case,
                result,
                took: start.elapsed(),
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn run(client: kube::Client, case: &Case) -> Result<Recording> {
    let lab = Lab::open(client).await.context("opening the lab")?;
    let mut transcript = Transcript::default();
    let done = timeout(LIMIT, (case.run)(&lab, &mut transcript)).await;
    let recording = transcript.normalise(case.id, &lab);
    lab.close().await.context("closing the lab")?;
    done.map_err(|_| anyhow!("not done within {LIMIT:?}, after {}", last(&recording)))?
        .with_context(|| format!("after {}", last(&recording)))?;
    Ok(recording)
}

fn last(recording: &Recording) -> String {
    match recording.notes.last() {
        Some(note) => format!("the note {:?}", note.what),
        None => "no note".to_owned(),
    }
}

/// Runs cases against any control plane.
pub async fn on(client: kube::Client, filter: Option<&str>) -> Vec<Outcome> {
    run_all(&client, filter).await
}

/// Runs cases against a simulator of their own.
///
/// # Errors
/// When the simulator does not start.
pub async fn on_simulator(filter: Option<&str>) -> Result<Vec<Outcome>> {
    let sim = Sim::start(SimConfig::default())
        .await
        .context("starting the simulator")?;
    let outcomes = run_all(&sim.client(), filter).await;
    sim.stop().await;
    Ok(outcomes)
}
