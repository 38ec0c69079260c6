//! `conformance`: the cases on the real control plane and on the simulator, side by side.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use crate::{
    clients,
    conformance::{self, Area, DIFFERENCES, Outcome},
    home::run_dir,
    testbed::Testbed,
};

/// `conformance`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of the running test bed.
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
    /// A real control plane's kubeconfig instead.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    kubeconfig: Option<PathBuf>,
    /// Only cases whose id contains this, or of this area: `api`, `kubevirt`, `scheduler`.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Keep what the real control plane says as the expectation.
    #[arg(long)]
    record: bool,
}

/// Runs the cases on both and prints the table.
///
/// # Errors
/// When either cannot be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(conform(args))
}

async fn conform(args: &Args) -> anyhow::Result<ExitCode> {
    let kubeconfig = match &args.kubeconfig {
        Some(path) => path.clone(),
        None => {
            Testbed::find(&run_dir(&args.name)?)?
                .with_context(|| format!("there is no test bed {:?}; `up` starts one", args.name))?
                .state()?
                .kubeconfig
        }
    };
    let client = clients::admin(&kubeconfig, "conformance").await?;
    eprintln!("on the real control plane …");
    let real = conformance::on(client, args.filter.as_deref()).await;
    let folder = conformance::recordings();
    if args.record {
        println!("{} recordings written", conformance::record(&folder, &real)?);
    }
    eprintln!("on the simulator …");
    let simulated = conformance::on_simulator(args.filter.as_deref()).await?;
    let real_failures = conformance::table(&folder, &real, &[])?;
    let simulated_failures = conformance::table(&folder, &simulated, DIFFERENCES)?;
    print!("{real_failures}{simulated_failures}");
    println!("{}", summary(&real, &simulated));
    let all_well = real_failures.is_empty() && simulated_failures.is_empty();
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cases, equal, accepted with a reason, different; a line an area. Both runs have the same cases in the same order.
pub fn summary(real: &[Outcome], simulated: &[Outcome]) -> String {
    #[derive(Default)]
    struct Row {
        cases: u32,
        equal: u32,
        accepted: u32,
        different: u32,
    }
    let mut rows: BTreeMap<Area, Row> = BTreeMap::new();
    let mut reasons = Vec::new();
    for (real, simulated) in real.iter().zip(simulated) {
        let row = rows.entry(real.case.area).or_default();
        row.cases += 1;
        let (Ok(want), Ok(got)) = (&real.result, &simulated.result) else {
            row.different += 1;
            continue;
        };
        let known = DIFFERENCES.iter().find(|known| known.case == real.case.id);
        if !conformance::compare(want, got, DIFFERENCES).is_empty() {
            row.different += 1;
        } else if let Some(known) = known {
            row.accepted += 1;
            reasons.push(format!("  {}: {}", known.case, known.reason));
        } else {
            row.equal += 1;
        }
    }
    let mut text = format!(
        "{:<12} {:>6} {:>6} {:>9} {:>10}\n",
        "AREA", "CASES", "EQUAL", "ACCEPTED", "DIFFERENT"
    );
    let mut sum = Row::default();
    for (area, row) in &rows {
        text += &format!(
            "{:<12} {:>6} {:>6} {:>9} {:>10}\n",
            area.folder(),
            row.cases,
            row.equal,
            row.accepted,
            row.different
        );
        sum.cases += row.cases;
        sum.equal += row.equal;
        sum.accepted += row.accepted;
        sum.different += row.different;
    }
    text += &format!(
        "{:<12} {:>6} {:>6} {:>9} {:>10}\n",
        "all", sum.cases, sum.equal, sum.accepted, sum.different
    );
    if !reasons.is_empty() {
        text += &format!("accepted, because:\n{}\n", reasons.join("\n"));
    }
    text
}
