//! What bounds a pool: its project's quota, and its cluster's version.

use steading_infra::crd::{MachinePool, Project};

use super::*;

impl World {
    async fn quota(&self, machines: &str) {
        let patch = json!({"spec": {"quota": {"machines": machines}}});
        let projects: Api<Project> = Api::all(self.sim.client());
        projects
            .patch("acme", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("a quota");
    }

    pub(super) fn pools(&self) -> Api<MachinePool> {
        Api::namespaced(self.sim.client(), "acme--prod")
    }

    /// As `kubectl apply` does it, which asks no service.
    async fn apply_pool(&self, name: &str, spec: Value) {
        let body = json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool", "metadata": {"name": name}, "spec": spec,
        });
        self.pools()
            .patch(name, &PatchParams::apply("kubectl").force(), &Patch::Apply(body))
            .await
            .expect("applied");
    }

    /// Waits until exactly so many machines have been made; their names.
    async fn made(&self, count: usize) -> Vec<String> {
        let vms: Api<VirtualMachine> = Api::namespaced(self.sim.client(), "acme--prod");
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let found = vms.list(&ListParams::default()).await.expect("machines").items;
            if found.len() == count {
                return found.iter().map(ResourceExt::name_any).collect();
            }
            assert!(tokio::time::Instant::now() < deadline, "{} machines", found.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn condition(&self, pool: &str, kind: &str, reason: &str) -> String {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let status = self
                .pools()
                .get(pool)
                .await
                .expect("the pool")
                .status
                .unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.type_ == kind && c.reason == reason);
            if let Some(found) = found {
                return found.message.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_nobody_checked_together_get_no_more_machines_than_the_quota() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(0).await;
    world.quota("3").await;
    let wish = json!({"replicas": 2, "machineTemplate": "small"});
    tokio::join!(world.apply_pool("one", wish.clone()), world.apply_pool("two", wish));
    let of_one = world.made(3).await.iter().filter(|vm| vm.starts_with("one-")).count();
    let short = if of_one == 2 { "two" } else { "one" };
    let why = world.condition(short, "Ready", "QuotaExceeded").await;
    assert!(why.contains("1 of 2") && why.contains("machines"), "{why}");
    assert_eq!(world.made(3).await.len(), 3);
    let project = proto::GetProjectRequest {
        name: "projects/acme".into(),
    };
    let project = ProjectServiceClient::new(world.channel.clone())
        .get_project(project)
        .await
        .expect("the project");
    let usage = project.into_inner().usage.expect("usage");
    assert_eq!(usage.machines, 3, "what exists, not what is wished for");

    world.quota("4").await;
    world.made(4).await;
    world.condition(short, "Ready", "Progressing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_does_not_go_with_its_api_server_is_refused_and_said_so() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    world.running(1).await;
    let create = |version: &str| proto::CreateMachinePoolRequest {
        parent: PARENT.into(),
        machine_pool_id: "other".into(),
        machine_pool: Some(proto::MachinePool {
            machine_template: "projects/acme/machineTemplates/small".into(),
            kubernetes_version: version.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (version, reason) in [
        ("1.99.0", ErrorReason::InvalidState),
        ("1.20.0", ErrorReason::InvalidState),
        ("newest", ErrorReason::InvalidField),
    ] {
        let refused = world
            .machines()
            .create_machine_pool(create(version))
            .await
            .expect_err(version);
        assert_eq!(reason_of(&refused), Some(reason), "{version}: {refused:?}");
    }
    let spec = json!({"replicas": 1, "machineTemplate": "small", "kubernetesVersion": "1.99.0"});
    world.apply_pool("ahead", spec).await;
    let why = world.condition("ahead", "Accepted", "VersionSkew").await;
    assert!(why.contains("newer"), "{why}");
    assert_eq!(world.list().await.len(), 1, "no machine is made of it");
}
