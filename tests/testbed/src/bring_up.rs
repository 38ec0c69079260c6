//! From nothing to a test bed that answers, in the order in which its parts need each other.
//!
//! ```text
//! certificates → (first time: etcd and API server alone → kinds, accounts → snapshot)
//!              → etcd from the snapshot → API servers → controllers, scheduler, kwok, nodes
//!              → virt-api, virt-controller → webhooks, APIServices → player → ready
//! ```

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use kube::Client;
use serde_json::{Value, json};
use steading_sim::behaviour::nodes;

use crate::{
    binaries::Binaries,
    certificates::{ADMIN, Authority, Pki},
    clients,
    control_plane::{ControlPlane, Foundation, free_port},
    home::home,
    kubevirt::{self, KubeVirt, Manifests},
    objects::{apply_all, has_condition, patch_status},
    snapshot,
    state::{Phase, Shape},
    storage_apis,
    supervisor::{Program, Supervisor},
};

/// How long any one part may take to answer: many times what it takes on an idle machine.
const DEADLINE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Name of the infra cluster's administrator's kubeconfig.
pub const KUBECONFIG: &str = "admin";

/// Brings all of it up.
///
/// # Errors
/// What did not come up, and why.
pub async fn run(dir: &Path, shape: &Shape, binaries: &Binaries, supervisor: &Supervisor) -> anyhow::Result<()> {
    let since = Instant::now();
    supervisor.step("making certificates")?;
    let pki = Pki::new(dir.join("pki"))?;
    let authority = Authority::new("testbed")?;
    let foundation = Foundation {
        binaries,
        pki: &pki,
        authority: &authority,
        dir,
        etcd_port: free_port()?,
    };
    foundation.prepare(&Authority::new("testbed-front-proxy")?)?;
    let kubevirt = KubeVirt {
        foundation: &foundation,
        authority: Authority::new("testbed-kubevirt")?,
        api_port: free_port()?,
        controller_port: free_port()?,
    };
    kubevirt.prepare()?;

    let infra = plane("infra", "/registry")?;
    let tenants = (1..=shape.tenants)
        .map(|number| plane(&format!("tenant-{number}"), &format!("/tenant-{number}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let admin = foundation.kubeconfig(&infra, KUBECONFIG, ADMIN)?;
    let audit_log = dir.join("audit.log");
    let tenant_configs = tenants
        .iter()
        .map(|tenant| foundation.kubeconfig(tenant, &tenant.name, ADMIN))
        .collect::<anyhow::Result<Vec<_>>>()?;
    supervisor.tell(|state| {
        state.kubeconfig.clone_from(&admin);
        state.audit_log.clone_from(&audit_log);
        state.tenant_kubeconfigs.clone_from(&tenant_configs);
    })?;

    let manifests = Manifests::generate(&foundation).await?;
    let kinds: Vec<Value> = manifests
        .crds
        .iter()
        .cloned()
        .chain(storage_apis::definitions())
        .collect();
    let snapshot = snapshot::path(&home()?, &binaries.digest, &kinds);
    if !snapshot.is_dir() {
        supervisor.step("installing KubeVirt's and CDI's kinds, once for all later starts")?;
        let state = supervisor.state();
        let alone = Supervisor::new(dir, state);
        tokio::select! {
            outcome = prepare(&foundation, &infra, &kinds, &manifests, &alone) => outcome?,
            error = alone.failed() => return Err(error),
        }
        alone.stop().await;
        snapshot::keep(&foundation.data(), &snapshot)?;
        std::fs::remove_dir_all(foundation.data())?;
    }

    supervisor.step("starting etcd and the API server")?;
    snapshot::copy(&snapshot, &foundation.data())?;
    supervisor.start(foundation.etcd(free_port()?)?).await;
    supervisor.start(foundation.apiserver(&infra, Some(&audit_log))?).await;
    let client = clients::admin(&admin, "testbed").await?;
    wait("the API server", || async { Ok(answers(&client, "/readyz").await) }).await?;

    supervisor.step("starting controllers, scheduler, kubelets")?;
    supervisor.start(foundation.controller_manager(&infra)?).await;
    supervisor.start(foundation.scheduler(&infra)?).await;
    kubevirt.install(&client, &manifests).await?;
    make_nodes(&client, shape).await?;
    supervisor.start(foundation.kwok(&infra)?).await;

    supervisor.step("starting virt-api and virt-controller")?;
    supervisor.start(kubevirt.virt_api(&infra)?).await;
    supervisor.start(kubevirt.virt_controller(&infra)?).await;
    for tenant in &tenants {
        supervisor.start(foundation.apiserver(tenant, None)?).await;
        supervisor.start(foundation.controller_manager(tenant)?).await;
    }
    wait("virt-api", || async { Ok(listens(kubevirt.api_port).await) }).await?;
    kubevirt.connect(&client, &manifests).await?;
    let services = [
        json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1.subresources.kubevirt.io" } }),
    ];
    for service in &services {
        wait("virt-api's APIService", || has_condition(&client, service, "Available")).await?;
    }
    wait("virt-controller", || async { leads(&client).await }).await?;
    for node in 1..=shape.nodes {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": nodes::node_name(node) } });
        wait("the nodes", || has_condition(&client, &node, "Ready")).await?;
    }

    supervisor.step("starting the player")?;
    for config in &tenant_configs {
        let tenant = clients::admin(config, "testbed").await?;
        wait("a tenant's API server", || async {
            Ok(answers(&tenant, "/readyz").await)
        })
        .await?;
    }
    supervisor.start(player(dir)?).await;
    let class =
        json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": "standard" } });
    wait("the player", || async {
        let (api, name) = crate::objects::api_of(&client, &class)?;
        Ok(api.get_opt(&name).await?.is_some())
    })
    .await?;
    let seconds = since.elapsed().as_secs_f64();
    supervisor.tell(|state| state.phase = Phase::Ready { seconds })
}

/// What does not depend on this test bed: kinds and accounts.
async fn prepare(
    foundation: &Foundation<'_>,
    infra: &ControlPlane,
    kinds: &[Value],
    manifests: &Manifests,
    supervisor: &Supervisor,
) -> anyhow::Result<()> {
    supervisor.start(foundation.etcd(free_port()?)?).await;
    supervisor.start(foundation.apiserver(infra, None)?).await;
    let client = clients::admin(&foundation.pki.path(&format!("{KUBECONFIG}.kubeconfig")), "testbed").await?;
    wait("the API server", || async { Ok(answers(&client, "/readyz").await) }).await?;
    apply_all(&client, kinds).await?;
    for kind in kinds {
        wait("the kinds", || has_condition(&client, kind, "Established")).await?;
    }
    kubevirt::install_accounts(&client, manifests).await
}

fn plane(name: &str, prefix: &str) -> anyhow::Result<ControlPlane> {
    Ok(ControlPlane {
        name: name.to_owned(),
        port: free_port()?,
        prefix: prefix.to_owned(),
    })
}

/// The player is this program.
fn player(dir: &Path) -> anyhow::Result<Program> {
    let path: PathBuf = std::env::current_exe().context("cannot find this program")?;
    let args = vec!["play".to_owned(), "--dir".to_owned(), dir.display().to_string()];
    Ok(Program::new("player", path, args))
}

/// The bare metal: the same Node objects as in the simulation; kwok answers for them.
async fn make_nodes(client: &Client, shape: &Shape) -> anyhow::Result<()> {
    let manifests: Vec<Value> = (1..=shape.nodes)
        .map(|index| nodes::manifest(index, shape.zones.max(1)))
        .collect();
    let registered: Vec<Value> = manifests
        .iter()
        .map(|node| {
            let mut node = node.clone();
            if let Some(node) = node.as_object_mut() {
                node.remove("status");
            }
            node
        })
        .collect();
    apply_all(client, &registered).await?;
    for node in &manifests {
        patch_status(client, node, &json!({ "status": node["status"] })).await?;
    }
    Ok(())
}

/// Looks until it is so.
async fn wait<F>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let until = Instant::now() + DEADLINE;
    loop {
        let trouble = match look().await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if Instant::now() > until {
            match trouble {
                Some(error) => {
                    return Err(error.context(format!("{what} did not come up within {} s", DEADLINE.as_secs())));
                }
                None => bail!("{what} did not come up within {} s", DEADLINE.as_secs()),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn answers(client: &Client, path: &str) -> bool {
    let Ok(request) = http::Request::get(path).body(Vec::new()) else {
        return false;
    };
    client.request_text(request).await.is_ok()
}

/// Whether something accepts connections at a port of this machine.
async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

/// Whether virt-controller holds its lease.
async fn leads(client: &Client) -> anyhow::Result<bool> {
    use k8s_openapi::api::coordination::v1::Lease;
    let leases: kube::Api<Lease> = kube::Api::namespaced(client.clone(), kubevirt::NAMESPACE);
    let lease = leases.get_opt("virt-controller").await?;
    Ok(lease
        .and_then(|lease| lease.spec?.holder_identity)
        .is_some_and(|holder| !holder.is_empty()))
}
