//! What a machine costs the infra cluster's API server: counted from the real one's audit log, beside the simulator's count.

use std::collections::BTreeMap;

use serde_json::json;
use steading_stack::{Infra, SimConfig, Stack, StackConfig};
use steading_testbed::requests::Mark;
use steading_tests::{
    http::Rest,
    stack::{POOLS, make_cluster, mk_pool, wait_pool, wait_state},
    wait,
};

use crate::bed::{self, shared};

const MACHINES: i32 = 10;
const CLUSTER: &str = "/v1/projects/acme/clusters/prod";

/// Requests by client, without watches and leases: those depend on time, not on machines.
type Counts = BTreeMap<String, u64>;

/// Of one control plane.
struct Figures {
    created: Counts,
    drained: Counts,
    moved: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_a_machine_are_those_of_the_simulator() {
    let log = shared().state().expect("a state").audit_log;
    let stack = bed::start().await.expect("Steading starts");
    let mark = Mark::now(&log).expect("an audit log");
    let real = measure(&stack, || {
        let counts = mark.count().expect("a readable audit log");
        let counted = counts.into_iter().filter(|(key, _)| key.resource != "leases");
        counted.fold(Counts::new(), |mut sums, (key, count)| {
            *sums.entry(key.agent).or_default() += count;
            sums
        })
    })
    .await
    .expect("the pool is made and drained");
    stack.stop().await;

    let config = StackConfig {
        infra: Infra::Simulated(SimConfig::default()),
        ..StackConfig::default()
    };
    let stack = Stack::start(config).await.expect("Steading starts");
    let counters = stack.sim().expect("a simulation").requests().clone();
    let simulated = measure(&stack, || {
        let rows = counters.snapshot().into_iter();
        let counted = rows.filter(|(key, _)| key.verb.as_str() != "watch" && key.resource != "leases");
        counted.fold(Counts::new(), |mut sums, (key, count)| {
            *sums.entry(agent(&key.user_agent)).or_default() += count;
            sums
        })
    })
    .await
    .expect("the pool is made and drained");
    stack.stop().await;

    println!(
        "{:<24} {:>14} {:>14} {:>14} {:>14}",
        "REQUESTS A MACHINE", "created: real", "simulated", "drained: real", "simulated"
    );
    let mut agents: Vec<&String> = real
        .created
        .keys()
        .chain(real.drained.keys())
        .filter(|agent| agent.starts_with("steading-"))
        .collect();
    agents.sort();
    agents.dedup();
    for agent in agents {
        let of = |counts: &Counts, machines: i64| {
            let count = counts.get(agent).copied().unwrap_or_default();
            format!(
                "{:.1}",
                f64::from(u32::try_from(count).unwrap_or(u32::MAX))
                    / f64::from(i32::try_from(machines.max(1)).unwrap_or(1))
            )
        };
        let machines = i64::from(MACHINES);
        println!(
            "{agent:<24} {:>14} {:>14} {:>14} {:>14}",
            of(&real.created, machines),
            of(&simulated.created, machines),
            of(&real.drained, real.moved),
            of(&simulated.drained, simulated.moved)
        );
    }
    // Retries after conflicts with KubeVirt's own writes are the real thing's; an order of magnitude would be an error of one of them.
    let (seen, expected) = (total(&real.created), total(&simulated.created));
    assert!(seen > 0 && expected > 0, "requests were counted: {seen} and {expected}");
    assert!(
        seen < expected * 3 && expected < seen * 3,
        "created: {seen} real, {expected} simulated"
    );
}

fn agent(user_agent: &str) -> String {
    user_agent.split('/').next().unwrap_or_default().to_owned()
}

fn total(counts: &Counts) -> u64 {
    counts
        .iter()
        .filter(|(agent, _)| agent.starts_with("steading-"))
        .map(|(_, count)| count)
        .sum()
}

fn since(now: &Counts, before: &Counts) -> Counts {
    now.iter()
        .map(|(agent, count)| (agent.clone(), count - before.get(agent).copied().unwrap_or_default()))
        .collect()
}

/// Makes a pool, drains a node, deletes all of it again.
async fn measure(stack: &Stack, count: impl Fn() -> Counts) -> anyhow::Result<Figures> {
    let rest = Rest::new(stack.gateway());
    make_cluster(&rest).await?;
    // The audit log is written every 200 ms.
    let settled = || tokio::time::sleep(std::time::Duration::from_millis(600));
    settled().await;
    let before = count();
    rest.create(&format!("{POOLS}?machinePoolId=cost"), &mk_pool(MACHINES))
        .await?;
    wait_pool(&rest, "cost", i64::from(MACHINES)).await?;
    settled().await;
    let made = count();
    rest.create(
        "/v1/maintenances?maintenanceId=cost",
        &json!({ "infraNode": "infraNodes/infra-1" }),
    )
    .await?;
    rest.start_maintenance("cost").await?;
    let drained = wait_state(&rest, "/v1/maintenances/cost", "STATE_IN_MAINTENANCE").await?;
    settled().await;
    let figures = Figures {
        created: since(&made, &before),
        drained: since(&count(), &made),
        moved: drained["summary"]["moved"].as_i64().unwrap_or_default(),
    };
    rest.create("/v1/maintenances/cost:complete", &json!({})).await?;
    wait_state(&rest, "/v1/maintenances/cost", "STATE_COMPLETED").await?;
    clean(&rest).await?;
    Ok(figures)
}

async fn clean(rest: &Rest) -> anyhow::Result<()> {
    for path in [
        "/v1/maintenances/cost",
        &format!("{CLUSTER}?force=true"),
        "/v1/projects/acme/machineTemplates/general?force=true",
        "/v1/projects/acme/images/os",
        "/v1/projects/acme",
    ] {
        let name = path.split('?').next().unwrap_or_default();
        wait::until(&format!("{name} is gone"), async || {
            let reply = rest.send("DELETE", path, &[], None).await?;
            // Refused while what refers to it is going.
            if !matches!(reply.status, 200 | 400 | 404 | 409) {
                anyhow::bail!("DELETE {path}: {} {}", reply.status, reply.body);
            }
            Ok((rest.get(name).await?.status == 404).then_some(()))
        })
        .await?;
    }
    Ok(())
}
