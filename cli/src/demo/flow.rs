//! The steps, in their order.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use steading_infra::labels;

use super::{
    api::Api,
    checks::{self, Ending},
    objects::{
        CLUSTER, IMAGE, MAINTENANCE, PINNED, POLICY, PROJECT, STORAGE_CLASS, TEMPLATES, VOLUME, WORKERS, attachment,
        list, text,
    },
    report::{Report, Summary},
    storage::Storage,
    supply::TenantSupply,
    tenant::Tenant,
    witness::Witness,
};
use crate::{
    args::EXAMPLE_IMAGE,
    client::CallError,
    kinds::id_of,
    output::table::{at, cell_at, plain_table, trimmed},
};

/// Machines of the pool whose machines migrate live.
const WORKER_REPLICAS: usize = 6;
/// Machines of the pool whose machines cannot migrate; they are replaced.
const PINNED_REPLICAS: usize = 3;

/// How fast the story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// With a pause after each step, so that a person can read.
    Readable,
    /// Without pauses.
    Fast,
}

impl Pace {
    async fn breathe(self) {
        if self == Self::Readable {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
}

/// Everything that the steps share.
struct Demo<'r> {
    api: Api,
    report: &'r Report,
    pace: Pace,
    image: &'r str,
    supply: Option<&'r TenantSupply>,
}

/// Runs all steps against the gateway at `server` and checks the end.
///
/// # Errors
/// A step that cannot be done.
pub async fn run(server: &str, report: &Report, pace: Pace) -> anyhow::Result<Summary> {
    tell(server, report, pace, EXAMPLE_IMAGE, None).await
}

/// As [`run`], with an image that can really be imported, and with a tenant cluster that is there already.
///
/// # Errors
/// As [`run`].
pub async fn tell(
    server: &str,
    report: &Report,
    pace: Pace,
    image: &str,
    supply: Option<&TenantSupply>,
) -> anyhow::Result<Summary> {
    let demo = Demo {
        api: Api::new(server)?,
        report,
        pace,
        image,
        supply,
    };
    demo.look_around().await?;
    let storage = demo.make_project().await?;
    demo.make_templates(&storage).await?;
    demo.make_cluster().await?;
    demo.make_pools().await?;
    let tenant = demo.deploy_workload().await?;
    let (machine, infra_node) = demo.attach_volume(&tenant).await?;
    let address = demo.wait_for_address(&tenant).await?;
    let witness = Witness::start(&tenant);
    let moved = demo.drain(&infra_node).await?;
    let ending = Ending {
        machine,
        infra_node,
        address,
        moved,
        witness: witness.stop().await,
    };
    let summary = demo.check(&tenant, &ending).await?;
    demo.complete(&ending.infra_node).await?;
    Ok(summary)
}

impl Demo<'_> {
    fn step(&self, id: &str, title: &str) {
        self.report.step(id, title);
    }

    async fn done(&self, text: &str) {
        self.report.done(text);
        self.pace.breathe().await;
    }

    async fn look_around(&self) -> anyhow::Result<()> {
        self.step("infra", "the bare metal");
        let nodes = self.api.list("infraNodes/-").await?;
        let mut table = plain_table();
        table.set_header(["INFRA NODE", "ZONE", "CPU", "MEMORY"]);
        for node in &nodes {
            let cells = ["name", "zone", "allocatable.cpu", "allocatable.memory"].map(|path| cell_at(node, path));
            table.add_row(cells);
        }
        self.report.block("infraNodes", &json!(nodes), &trimmed(&table));
        self.done(&format!("{} infra nodes", nodes.len())).await;
        Ok(())
    }

    async fn make_project(&self) -> anyhow::Result<Storage> {
        self.step("project", "a project with a quota, and a storage class that it may use");
        self.api
            .create(
                PROJECT,
                json!({ "displayName": "Demo", "quota": { "machines": 50, "vcpus": 200 } }),
            )
            .await?;
        let storage = Storage::choose(&self.api.get("infraCluster").await?)?;
        self.api
            .create(
                STORAGE_CLASS,
                json!({
                    "infraStorageClass": storage.class, "projects": [PROJECT], "maxSize": "100Gi",
                    "accessModes": [storage.workers.0], "volumeModes": [storage.workers.1],
                    "expansionAllowed": storage.grows,
                }),
            )
            .await?;
        self.done(&format!(
            "{PROJECT}, {STORAGE_CLASS} on the infra cluster's {}",
            storage.class
        ))
        .await;
        Ok(storage)
    }

    async fn make_templates(&self, storage: &Storage) -> anyhow::Result<()> {
        self.step("templates", "an image, two machine templates and a placement policy");
        self.api
            .create(
                IMAGE,
                json!({ "http": { "url": self.image }, "size": "10Gi", "os": "ubuntu", "storageClass": storage.class }),
            )
            .await?;
        self.api
            .wait(
                self.report,
                IMAGE,
                |i| format!("image {} {}%", cell_at(i, "state"), cell_at(i, "progressPercent")),
                |i| cell_at(i, "state") == "READY",
            )
            .await
            .context("the image was not imported; where imports are real, name one with --image")?;
        for (name, (access, volume)) in TEMPLATES.into_iter().zip([&storage.workers, &storage.pinned]) {
            let template = json!({
                "instanceType": "instanceTypes/standard-2",
                "preference": "preferences/sockets-advantage",
                "rootDisk": {
                    "image": IMAGE, "size": "20Gi", "accessMode": access, "volumeMode": volume, "storageClass": storage.class,
                },
            });
            self.api.create(name, template).await?;
        }
        let spread = |key: &str| json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "WHEN_UNSATISFIABLE_SCHEDULE_ANYWAY" });
        self.api
            .create(
                POLICY,
                json!({ "topologySpreadConstraints": [spread("topology.kubernetes.io/zone"), spread("kubernetes.io/hostname")] }),
            )
            .await?;
        self.done(if storage.is_shared() {
            "machines of `general` can migrate live, those of `local-disk` cannot"
        } else {
            "the infra cluster shares no disks between its nodes, so no machine can migrate live"
        })
        .await;
        Ok(())
    }

    async fn make_cluster(&self) -> anyhow::Result<()> {
        self.step("cluster", "a tenant cluster");
        let made = self.api.create(CLUSTER, json!({ "external": {} })).await?;
        if let Some(supply) = self.supply {
            supply.put(&text(&made, "namespace")).await?;
        }
        self.wait_state(CLUSTER, "RUNNING").await.with_context(|| {
            format!(
                "the tenant cluster cannot be used; the Secret `{}` in the namespace {} of the infra cluster names it: if nothing there makes it, give --tenant-kubeconfig",
                labels::KUBECONFIG_SECRET,
                text(&made, "namespace")
            )
        })?;
        self.done(CLUSTER).await;
        Ok(())
    }

    async fn wait_state(&self, name: &str, state: &str) -> anyhow::Result<Value> {
        let describe = |r: &Value| format!("{} {}{}", id_of(name), cell_at(r, "state"), unmet(r));
        self.api
            .wait(self.report, name, describe, |r| cell_at(r, "state") == state)
            .await
    }

    async fn make_pools(&self) -> anyhow::Result<()> {
        self.step("pools", "two pools of machines, spread over the zones");
        let [general, local_disk] = TEMPLATES;
        for (name, template, replicas) in [
            (WORKERS, general, WORKER_REPLICAS),
            (PINNED, local_disk, PINNED_REPLICAS),
        ] {
            let pool = json!({
                "replicas": replicas,
                "machineTemplate": template,
                "placementPolicy": POLICY,
                "rollout": { "maxSurge": "1", "maxUnavailable": "0" },
            });
            self.api.create(name, pool).await?;
        }
        for (name, replicas) in [(WORKERS, WORKER_REPLICAS), (PINNED, PINNED_REPLICAS)] {
            let describe = |p: &Value| {
                format!(
                    "{}: {} of {replicas} ready{}",
                    id_of(name),
                    number(p, "readyReplicas"),
                    unmet(p)
                )
            };
            let ready = |p: &Value| number(p, "readyReplicas") == replicas as i64 && cell_at(p, "state") == "READY";
            self.api.wait(self.report, name, describe, ready).await?;
        }
        let machines = self.machines().await?;
        self.report
            .block("machines", &json!(machines), &machine_table(&machines));
        self.done(&format!("{} machines joined their cluster", machines.len()))
            .await;
        Ok(())
    }

    async fn machines(&self) -> anyhow::Result<Vec<Value>> {
        self.api.list(&format!("{CLUSTER}/machines/-")).await
    }

    async fn deploy_workload(&self) -> anyhow::Result<Tenant> {
        self.step(
            "workload",
            "inside the tenant cluster: a web service with a disruption budget, behind a load balancer",
        );
        let reply = self.api.custom(CLUSTER, "GetClusterKubeconfig", json!({})).await?;
        let tenant = Tenant::connect(&text(&reply, "kubeconfig")).await?;
        tenant.deploy_web().await?;
        tenant.wait_web_ready(self.report).await?;
        self.done("3 replicas of web, at most 1 may be away").await;
        Ok(tenant)
    }

    /// Gives the volume to a worker and puts its workload there. Returns the machine and its infra node.
    async fn attach_volume(&self, tenant: &Tenant) -> anyhow::Result<(String, String)> {
        self.step(
            "volume",
            "a volume, hot-plugged into the machine whose workload needs it",
        );
        self.api
            .create(VOLUME, json!({ "storageClass": STORAGE_CLASS, "size": "10Gi" }))
            .await?;
        let machines = self.machines().await?;
        let chosen = machines
            .iter()
            .filter(|m| cell_at(m, "machinePool") == id_of(WORKERS))
            .min_by_key(|m| cell_at(m, "name"))
            .context("there is no worker")?;
        let (machine, infra_node) = (text(chosen, "name"), text(chosen, "infraNode"));
        // After a crash in between, the wish may stand already, for the machine that was chosen then.
        let wanted = text(&self.api.get(VOLUME).await?, "machine");
        if wanted.is_empty() {
            self.api
                .custom(VOLUME, "AttachVolume", json!({ "machine": machine }))
                .await?;
        }
        self.api
            .wait(self.report, VOLUME, volume_line, |v| attachment(v) == "ATTACHED")
            .await?;
        tenant.deploy_orders(id_of(&machine)).await?;
        self.done(&format!(
            "{} on {} ({})",
            id_of(VOLUME),
            id_of(&machine),
            id_of(&infra_node)
        ))
        .await;
        Ok((machine, infra_node))
    }

    async fn wait_for_address(&self, tenant: &Tenant) -> anyhow::Result<String> {
        self.step("loadBalancer", "an address for the web service");
        let address = tenant.wait_address(self.report).await?;
        self.done(&format!("web answers at {address}")).await;
        Ok(address)
    }

    /// Plans, shows and runs the maintenance. Returns how many machines it moved.
    async fn drain(&self, infra_node: &str) -> anyhow::Result<usize> {
        let node = if infra_node.contains('/') {
            infra_node.to_owned()
        } else {
            format!("infraNodes/{infra_node}")
        };
        self.step(
            "plan",
            &format!("what draining {} would do, before anything moves", id_of(&node)),
        );
        let plan = self.api.custom(&node, "PlanMaintenance", json!({})).await?;
        self.report
            .block("plan", &plan, &crate::commands::maintenance::plan_table(&plan));
        self.done(&format!("{} machines to move", list(&plan, "entries").len()))
            .await;

        self.step("drain", &format!("draining {}", id_of(&node)));
        let planned = self.api.create(MAINTENANCE, json!({ "infraNode": node })).await?;
        if cell_at(&planned, "state") == "PLANNED" {
            self.start_planned().await?;
        }
        let drained = self
            .api
            .wait(
                self.report,
                MAINTENANCE,
                crate::commands::maintenance::progress_line,
                |m| cell_at(m, "state") == "IN_MAINTENANCE",
            )
            .await?;
        let moved = number(&drained, "summary.moved");
        self.done(&format!("{moved} machines moved off {}", id_of(&node))).await;
        Ok(usize::try_from(moved).unwrap_or_default())
    }

    /// Starts the maintenance by the plan that it has; again where that was refreshed in between.
    async fn start_planned(&self) -> anyhow::Result<()> {
        loop {
            let planned = self
                .api
                .wait(
                    self.report,
                    MAINTENANCE,
                    |_| "the plan is being made".to_owned(),
                    |m| at(m, "plan.id").is_string() || cell_at(m, "state") != "PLANNED",
                )
                .await?;
            if cell_at(&planned, "state") != "PLANNED" {
                return Ok(());
            }
            let request = json!({ "plan_id": at(&planned, "plan.id") });
            match self.api.custom(MAINTENANCE, "StartMaintenance", request).await {
                Err(error) if error.downcast_ref::<CallError>().is_some_and(CallError::is_stale) => {}
                started => return started.map(drop),
            }
        }
    }

    async fn check(&self, tenant: &Tenant, ending: &Ending) -> anyhow::Result<Summary> {
        self.step("check", "was anything lost?");
        for (name, replicas) in [(WORKERS, WORKER_REPLICAS), (PINNED, PINNED_REPLICAS)] {
            let describe = |p: &Value| format!("{} {}{}", id_of(name), cell_at(p, "state"), unmet(p));
            let settled = |p: &Value| number(p, "readyReplicas") == replicas as i64 && cell_at(p, "state") == "READY";
            self.api.wait(self.report, name, describe, settled).await?;
        }
        tenant.wait_web_ready(self.report).await?;
        // While the infra cluster has been away, the service says that it does not know; that is no verdict.
        let known = |volume: &Value| attachment(volume) != "UNKNOWN";
        let volume = self.api.wait(self.report, VOLUME, volume_line, known).await?;
        let seen = checks::Seen {
            machines: self.machines().await?,
            infra_nodes: self.api.list("infraNodes/-").await?,
            volume,
            load_balancers: self.settled_load_balancers().await?,
            nodes: tenant.nodes().await?,
            orders_node: tenant.orders_node().await?,
            address: tenant.address().await?,
        };
        let checks = checks::all(&seen, ending, WORKER_REPLICAS + PINNED_REPLICAS);
        let summary = Summary {
            ok: checks.iter().all(|c| c.ok),
            machines: seen.machines.len(),
            moved: ending.moved,
            checks,
        };
        self.done(if summary.ok { "no" } else { "yes" }).await;
        Ok(summary)
    }

    /// The load balancers once their endpoints follow the machines; the last seen if they do not.
    async fn settled_load_balancers(&self) -> anyhow::Result<Vec<Value>> {
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen = self.api.list(&format!("{CLUSTER}/loadBalancers/-")).await?;
            let machines = self.machines().await?;
            if checks::endpoints_follow(&seen, &machines).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(seen)
    }

    async fn complete(&self, infra_node: &str) -> anyhow::Result<()> {
        self.step("complete", "giving the infra node back");
        if cell_at(&self.api.get(MAINTENANCE).await?, "state") == "IN_MAINTENANCE" {
            self.api.custom(MAINTENANCE, "CompleteMaintenance", json!({})).await?;
        }
        self.wait_state(MAINTENANCE, "COMPLETED").await?;
        self.done(&format!("{} takes machines again", id_of(infra_node))).await;
        Ok(())
    }
}

fn number(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

/// How far a volume is.
fn volume_line(volume: &Value) -> String {
    format!("{} {}{}", cell_at(volume, "state"), attachment(volume), unmet(volume))
}

/// What a resource still waits for, in its own words.
fn unmet(resource: &Value) -> String {
    list(resource, "conditions")
        .iter()
        .find(|c| at(c, "status").as_str() == Some("CONDITION_STATUS_FALSE"))
        .and_then(|c| at(c, "message").as_str())
        .map_or_else(String::new, |message| format!(" – {message}"))
}

fn machine_table(machines: &[Value]) -> String {
    let mut table = plain_table();
    table.set_header(["MACHINE", "POOL", "INFRA NODE", "ZONE", "STATE"]);
    for machine in machines {
        table.add_row(["name", "machinePool", "infraNode", "zone", "state"].map(|path| cell_at(machine, path)));
    }
    trimmed(&table)
}
