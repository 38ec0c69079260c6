//! Whose objects are: what is deleted with a cluster or a project, and what never is.

use steading_infra::crd::{Cluster, MachinePool, Project};

use super::*;

impl World {
    /// As `kubectl create` does it, which asks no service.
    async fn create_cluster(&self, name: &str) {
        let (project, cluster) = name.split_once("--").unwrap_or((name, name));
        let object: Cluster = serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"project": project, "cluster": cluster, "controlPlane": {"external": {}}},
        }))
        .expect("a cluster");
        self.clusters()
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    async fn create_project(&self, id: &str) {
        let object: Project = serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "Project", "metadata": {"name": id}, "spec": {},
        }))
        .expect("a project");
        Api::<Project>::all(self.sim.client())
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    pub(super) fn clusters(&self) -> Api<Cluster> {
        Api::all(self.sim.client())
    }

    /// Waits until a condition of a cluster has a reason; its message.
    pub(super) async fn cluster_says(&self, name: &str, kind: &str, reason: &str) -> String {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let status = self
                .clusters()
                .get(name)
                .await
                .expect("the cluster")
                .status
                .unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.type_ == kind && c.reason == reason);
            if let Some(found) = found {
                return found.message.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{kind} {reason}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_gone<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let deadline = tokio::time::Instant::now() + SOON;
        while let Some(still) = api.get_opt(name).await.expect("an answer") {
            assert!(tokio::time::Instant::now() < deadline, "{still:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_named_after_a_namespace_never_takes_it_along() {
    let world = World::start().await;
    let spaces: Api<Namespace> = Api::all(world.sim.client());
    let mut foreign = Namespace::default();
    foreign.metadata.name = Some("other--team".into());
    spaces.create(&PostParams::default(), &foreign).await.expect("created");
    for (name, kind, reason) in [
        (labels::SYSTEM_NAMESPACE, "Accepted", "InvalidName"),
        ("kube-system", "Accepted", "InvalidName"),
        ("other--team", "NamespaceReady", "NotOurs"),
    ] {
        world.create_cluster(name).await;
        world.cluster_says(name, kind, reason).await;
        world
            .clusters()
            .delete(name, &kube::api::DeleteParams::default())
            .await
            .expect("deleted");
        world.is_gone(&world.clusters(), name).await;
        let space = spaces.get(name).await.expect("the namespace is still there");
        assert!(space.metadata.deletion_timestamp.is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_somebody_lent_is_used_and_stays() {
    let world = World::start().await;
    let spaces: Api<Namespace> = Api::all(world.sim.client());
    let mut lent = Namespace::default();
    lent.metadata.name = Some("acme--lent".into());
    lent.labels_mut().insert(labels::PROJECT.into(), "acme".into());
    lent.labels_mut().insert(labels::CLUSTER.into(), "lent".into());
    spaces.create(&PostParams::default(), &lent).await.expect("created");
    world.create_cluster("acme--lent").await;
    world.cluster_says("acme--lent", "Ready", "Reachable").await;
    world
        .clusters()
        .delete("acme--lent", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    world.is_gone(&world.clusters(), "acme--lent").await;
    let space = spaces.get("acme--lent").await.expect("the namespace is still there");
    assert!(space.metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_made_is_listed_and_keeps_its_project_from_being_deleted() {
    let world = World::start().await;
    world.create_project("viak").await;
    world.create_cluster("viak--prod").await;
    world.cluster_says("viak--prod", "Ready", "Reachable").await;
    let list = proto::ListClustersRequest {
        parent: "projects/viak".into(),
        ..Default::default()
    };
    let clusters = ClusterServiceClient::new(world.channel.clone())
        .list_clusters(list)
        .await
        .expect("a list");
    assert_eq!(clusters.into_inner().clusters.len(), 1);
    let delete = proto::DeleteProjectRequest {
        name: "projects/viak".into(),
        ..Default::default()
    };
    let refused = ProjectServiceClient::new(world.channel.clone())
        .delete_project(delete)
        .await
        .expect_err("it has a cluster");
    assert_eq!(reason_of(&refused), Some(ErrorReason::HasChildren));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_delete_destroys_nothing_without_consent_and_nothing_remains_with_it() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    world.running(1).await;
    let projects: Api<Project> = Api::all(world.sim.client());
    projects
        .delete("acme", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let status = projects
            .get("acme")
            .await
            .expect("the project")
            .status
            .unwrap_or_default();
        if let Some(found) = status.conditions.iter().find(|c| c.type_ == "Deleting") {
            assert_eq!(found.reason, "ConsentRequired");
            assert!(found.message.contains("acme--prod"), "{}", found.message);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The cluster itself is protected the same way.
    world
        .clusters()
        .delete("acme--prod", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let message = world.cluster_says("acme--prod", "Deleting", "ConsentRequired").await;
    assert!(message.contains("pool workers"), "{message}");
    assert_eq!(world.running(1).await.len(), 1, "nothing was destroyed");

    let consent = json!({"metadata": {"annotations": {labels::DELETION_CONSENT: "acme"}}});
    projects
        .patch("acme", &PatchParams::default(), &Patch::Merge(consent))
        .await
        .expect("annotated");
    world.is_gone(&projects, "acme").await;
    let left = |kind: &str, count: usize| assert_eq!(count, 0, "{kind} of the project remain");
    let kube = world.sim.client();
    let all = ListParams::default();
    left(
        "clusters",
        world.clusters().list(&all).await.expect("a list").items.len(),
    );
    left(
        "templates",
        Api::<MachineTemplate>::all(kube.clone())
            .list(&all)
            .await
            .expect("a list")
            .items
            .len(),
    );
    left(
        "pools",
        Api::<MachinePool>::all(kube.clone())
            .list(&all)
            .await
            .expect("a list")
            .items
            .len(),
    );
    assert!(
        Api::<Namespace>::all(kube)
            .get_opt("acme--prod")
            .await
            .expect("an answer")
            .is_none()
    );
}
