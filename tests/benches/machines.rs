//! How fast machines are made and moved, and what that costs the infra cluster's API server.
//!
//! ```sh
//! cargo bench -p steading-tests --bench machines -- [--machines N] [--infra-nodes N] [--json]
//! ```
//!
//! One stack on a simulated infra cluster, in this process: time from nothing to ready, one pool of N machines to Ready, one infra node
//! drained by live migration and another by replacement. Requests are those that the simulated API servers have counted, without
//! watches and leases, which depend on time and not on machines.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures; no count comes near 2^52"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use kube::Api;
use serde_json::{Value, json};
use steading_infra::crd::{MachinePool, Maintenance};
use steading_kubesim::counters::Counters;
use steading_stack::{Infra, SimConfig, Stack, StackConfig};
use steading_tests::{
    http::Rest,
    stack::{POOLS, make_cluster, mk_pool},
};

const NAMESPACE: &str = "acme--prod";
const POOL: &str = "bench";
/// Starts whose middle counts as the time to ready.
const STARTS: usize = 5;
/// Far above what any step takes.
const DEADLINE: Duration = Duration::from_secs(1800);
/// The benchmark's own reads go to the API server under a name of its own, so that they count for nobody else.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const OBSERVER: &str = "benchmark";

#[derive(Debug, Clone, Copy)]
struct Options {
    machines: i32,
    infra_nodes: u32,
    json: bool,
}

impl Options {
    /// `--bench` is what `cargo bench` adds; without it a small run only shows that the benchmark works.
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut options, mut machines, mut benchmark) = (
            Self {
                machines: 0,
                infra_nodes: 3,
                json: false,
            },
            None,
            false,
        );
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} takes a number"));
            match argument.as_str() {
                "--machines" => machines = Some(value()?.parse()?),
                "--infra-nodes" => options.infra_nodes = value()?.parse()?,
                "--json" => options.json = true,
                "--bench" => benchmark = true,
                other => bail!("unknown argument {other}"),
            }
        }
        options.machines = machines.unwrap_or(if benchmark { 1000 } else { 20 });
        Ok(options)
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 1..STARTS {
        let begun = Instant::now();
        let stack = start(options).await?;
        starts.push(begun.elapsed());
        stack.stop().await;
    }
    let begun = Instant::now();
    let stack = start(options).await?;
    starts.push(begun.elapsed());
    starts.sort_unstable();
    let up = starts[STARTS / 2].as_secs_f64();

    if !options.json {
        println!("up to ready: {up:.2} s (middle of {STARTS})");
    }
    let mut line = json!({ "upSeconds": up, "infraNodes": options.infra_nodes });
    // Each step is told when it ends: the last one takes minutes for many machines.
    let mut tell = |name: &str, step: &Step| {
        if options.json {
            line[name] = step.json();
        } else {
            step.print(name);
        }
    };
    let bench = Bench { stack, options };
    tell("made", &bench.make_pool().await?);
    tell("migrated", &bench.drain("infra-1", "STRATEGY_MIGRATE_ONLY").await?);
    tell("replaced", &bench.drain("infra-2", "STRATEGY_REPLACE_ONLY").await?);
    bench.stack.stop().await;
    if options.json {
        println!("{line}");
    }
    Ok(())
}

async fn start(options: Options) -> anyhow::Result<Stack> {
    let simulation = SimConfig {
        infra_nodes: options.infra_nodes,
        zones: options.infra_nodes.min(3),
        ..SimConfig::default()
    };
    Stack::start(StackConfig {
        infra: Infra::Simulated(simulation),
        ..StackConfig::default()
    })
    .await
}

/// A stack that figures are taken of.
struct Bench {
    stack: Stack,
    options: Options,
}

impl Bench {
    fn rest(&self) -> Rest {
        Rest::new(self.stack.gateway())
    }

    fn observer(&self) -> anyhow::Result<kube::Client> {
        let sim = self.stack.sim().context("the infra cluster is simulated")?;
        Ok(sim.api().client_named(OBSERVER))
    }

    async fn make_pool(&self) -> anyhow::Result<Step> {
        make_cluster(&self.rest()).await?;
        let before = self.requests()?;
        let begun = Instant::now();
        let machines = self.options.machines;
        self.rest()
            .create(&format!("{POOLS}?machinePoolId={POOL}"), &mk_pool(machines))
            .await?;
        self.wait_pool().await?;
        self.step(begun, before, u32::try_from(machines)?)
    }

    async fn wait_pool(&self) -> anyhow::Result<()> {
        let pools: Api<MachinePool> = Api::namespaced(self.observer()?, NAMESPACE);
        let machines = self.options.machines;
        until("the pool is ready", async || {
            let status = pools.get(POOL).await?.status.unwrap_or_default();
            let settled = status.replicas == machines && status.deleting_replicas == 0;
            Ok((settled && status.ready_replicas == machines).then_some(()))
        })
        .await
    }

    async fn drain(&self, node: &str, strategy: &str) -> anyhow::Result<Step> {
        let id = format!("bench-{node}");
        let budget = json!({
            "maxConcurrentPerInfraNode": 10, "maxConcurrentPerZone": 10, "maxConcurrentPerTenantCluster": 10,
        });
        let body = json!({ "infraNode": format!("infraNodes/{node}"), "strategy": strategy, "budget": budget });
        let rest = self.rest();
        rest.create(&format!("/v1/maintenances?maintenanceId={id}"), &body)
            .await?;
        let before = self.requests()?;
        let begun = Instant::now();
        rest.start_maintenance(&id).await?;
        let maintenances: Api<Maintenance> = Api::all(self.observer()?);
        let moved = until(&format!("{node} is empty"), async || {
            let status = maintenances.get(&id).await?.status.unwrap_or_default();
            Ok((status.phase.as_deref() == Some("InMaintenance")).then_some(status.moved))
        })
        .await?;
        self.wait_pool().await?;
        let step = self.step(begun, before, u32::try_from(moved)?)?;
        rest.create(&format!("/v1/maintenances/{id}:complete"), &json!({}))
            .await?;
        Ok(step)
    }

    fn step(&self, begun: Instant, before: Requests, machines: u32) -> anyhow::Result<Step> {
        let seconds = begun.elapsed().as_secs_f64();
        let mut requests = self.requests()?;
        for (key, count) in before {
            if let Some(after) = requests.get_mut(&key) {
                *after -= count;
            }
        }
        requests.retain(|_, count| *count > 0);
        Ok(Step {
            machines,
            seconds,
            requests,
        })
    }

    /// What was asked of the infra cluster and of the tenant until now.
    fn requests(&self) -> anyhow::Result<Requests> {
        let sim = self.stack.sim().context("the infra cluster is simulated")?;
        let mut all = counted("", sim.requests());
        if let Some(tenant) = sim.tenant(NAMESPACE) {
            all.extend(counted("tenant ", tenant.counters()));
        }
        Ok(all)
    }
}

/// Requests by client, then by verb and resource.
type Requests = BTreeMap<(String, String), u64>;

fn counted(place: &str, counters: &Counters) -> Requests {
    let mut all = Requests::new();
    for (key, count) in counters.snapshot() {
        let agent = key.user_agent.split('/').next().unwrap_or_default();
        if agent == OBSERVER || key.verb.as_str() == "watch" || key.resource == "leases" {
            continue;
        }
        let slash = if key.subresource.is_empty() { "" } else { "/" };
        let what = format!("{} {}{slash}{}", key.verb.as_str(), key.resource, key.subresource);
        *all.entry((format!("{place}{agent}"), what)).or_default() += count;
    }
    all
}

/// The figures of one step.
struct Step {
    machines: u32,
    seconds: f64,
    requests: Requests,
}

impl Step {
    fn per_machine(&self, count: u64) -> f64 {
        count as f64 / f64::from(self.machines.max(1))
    }

    fn by_client(&self) -> BTreeMap<&str, Vec<(&str, u64)>> {
        let mut clients: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
        for ((client, what), count) in &self.requests {
            clients.entry(client).or_default().push((what, *count));
        }
        for rows in clients.values_mut() {
            rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        }
        clients
    }

    fn rate(&self) -> f64 {
        f64::from(self.machines) / self.seconds
    }

    fn print(&self, name: &str) {
        println!(
            "\n{name}: {} machines in {:.1} s, {:.1} a second; requests a machine:",
            self.machines,
            self.seconds,
            self.rate()
        );
        for (client, rows) in self.by_client() {
            let total: u64 = rows.iter().map(|(_, count)| count).sum();
            println!("  {client:<32} {:>7.2}", self.per_machine(total));
            // What is asked once is not a cost of machines.
            for (what, count) in rows.into_iter().filter(|(_, count)| self.per_machine(*count) >= 0.05) {
                println!("    {what:<42} {:>7.2}", self.per_machine(count));
            }
        }
    }

    fn json(&self) -> Value {
        let clients = self.by_client().into_iter().map(|(client, rows)| {
            let total: u64 = rows.iter().map(|(_, count)| count).sum();
            let rows: serde_json::Map<String, Value> = rows
                .into_iter()
                .map(|(what, count)| (what.to_owned(), json!(count)))
                .collect();
            let figures = json!({ "perMachine": self.per_machine(total), "total": total, "requests": rows });
            (client.to_owned(), figures)
        });
        let clients: serde_json::Map<String, Value> = clients.collect();
        json!({
            "machines": self.machines, "seconds": self.seconds, "perSecond": self.rate(), "clients": clients,
        })
    }
}

async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("not within {}s: {what}", DEADLINE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
