//! Tenants that misbehave, and what of it others see.

use k8s_openapi::api::core::v1::Service as KubeService;
use steading_infra::crd::Project;
use steading_kubesim::{
    ApiError, Verb,
    faults::{Cut, Effect, Matcher, Rule},
};

use super::*;

pub(super) fn mk_balancer(name: &str, node_ports: bool) -> KubeService {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": node_ports, "selector": {"app": "x"},
            "ports": [{"name": "http", "port": 80}],
        },
    }))
    .expect("a service")
}

impl World {
    fn tenant_services(&self) -> Api<KubeService> {
        Api::namespaced(self.tenant(), "default")
    }

    async fn balancers(&self) -> Vec<proto::LoadBalancer> {
        let list = proto::ListLoadBalancersRequest {
            parent: PARENT.into(),
            ..Default::default()
        };
        proto::load_balancer_service_client::LoadBalancerServiceClient::new(self.channel.clone())
            .list_load_balancers(list)
            .await
            .map(|answer| answer.into_inner().load_balancers)
            .unwrap_or_default()
    }

    /// Waits until the load balancers are as they should be.
    pub(super) async fn balancers_are(
        &self,
        right: impl Fn(&[proto::LoadBalancer]) -> bool,
    ) -> Vec<proto::LoadBalancer> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let found = self.balancers().await;
            if right(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Why a tenant is not reached.
    async fn unreached(&self, name: &str) -> String {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let status = self
                .clusters()
                .get(name)
                .await
                .expect("the cluster")
                .status
                .unwrap_or_default();
            let found = status
                .conditions
                .iter()
                .find(|one| one.type_ == "TenantReachable" && one.status != "True");
            if let Some(found) = found {
                return found.message.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn second_cluster(&self, id: &str, kubeconfig: Vec<u8>) -> Result<proto::Cluster, tonic::Status> {
        let external = proto::ExternalControlPlane {
            kubeconfig,
            ..Default::default()
        };
        let cluster = proto::Cluster {
            control_plane: Some(proto::cluster::ControlPlane::External(external)),
            ..Default::default()
        };
        let create = proto::CreateClusterRequest {
            parent: "projects/acme".into(),
            cluster_id: id.into(),
            cluster: Some(cluster),
            ..Default::default()
        };
        ClusterServiceClient::new(self.channel.clone())
            .create_cluster(create)
            .await
            .map(tonic::Response::into_inner)
    }
}

pub(super) fn mk_kubeconfig(server: &str, token: &str) -> Vec<u8> {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    })
    .to_string()
    .into_bytes()
}

fn reason_of_address(balancer: &proto::LoadBalancer) -> &str {
    let found = balancer.conditions.iter().find(|one| one.r#type == "AddressAssigned");
    found.map(|one| one.reason.as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_token_or_a_silent_server_of_one_tenant_is_nobody_elses_trouble() {
    let world = World::start().await;
    world.project_and_cluster().await;
    let refused = world
        .second_cluster("broken", mk_kubeconfig("https://192.0.2.10:6443", "ab\r\ncd"))
        .await
        .expect_err("no header can have a line break");
    assert_eq!(reason_of(&refused), Some(ErrorReason::InvalidField));
    assert!(!refused.message().contains("cd"), "{}", refused.message());

    // A server that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", silent.local_addr().expect("address"));
    world
        .second_cluster("silent", mk_kubeconfig(&address, "abcdef\n"))
        .await
        .expect("taken");
    let secrets: Api<Secret> = Api::namespaced(world.sim.client(), "acme--silent");
    world.pool(2).await;
    world.running(2).await;
    let why = world.unreached("acme--silent").await;
    assert!(!why.contains("abcdef"), "{why}");
    let broken = k8s_openapi::ByteString(b"users: [{name: u, user: {token: s3cr3t-marker}}".to_vec());
    let patch = json!({"data": {labels::KUBECONFIG_KEY: broken}});
    secrets
        .patch(labels::KUBECONFIG_SECRET, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("stored");
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let why = world.unreached("acme--silent").await;
        assert!(!why.contains("s3cr3t"), "{why}");
        if why.contains("cannot be parsed") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.running(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_for_the_same_api_server_says_so_and_touches_nothing() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "Ready", "Reachable").await;
    let secrets: Api<Secret> = Api::namespaced(world.sim.client(), "acme--prod");
    let secret = secrets.get(labels::KUBECONFIG_SECRET).await.expect("a secret");
    let kubeconfig = secret.data.expect("data")[labels::KUBECONFIG_KEY].0.clone();
    world.second_cluster("twin", kubeconfig).await.expect("taken");
    let why = world
        .cluster_says("acme--twin", "TenantReachable", "DuplicateApiServer")
        .await;
    assert!(why.contains("acme--prod"), "{why}");
    world
        .tenant_services()
        .create(&PostParams::default(), &mk_balancer("web", true))
        .await
        .expect("created");
    world
        .balancers_are(|found| found.len() == 1 && !found[0].ingress.is_empty())
        .await;
    let twins: Api<KubeService> = Api::namespaced(world.sim.client(), "acme--twin");
    assert!(
        twins
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_forbidden_kind_degrades_that_kind_and_heals_by_itself() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "TenantWatched", "Current").await;
    let tenant = world.sim.tenant("acme--prod").expect("a tenant");
    let rule = tenant.faults().add(Rule::always(
        Matcher::on("services", &[Verb::List, Verb::Watch]),
        Effect::Refuse(ApiError::new(403, "Forbidden", "no")),
    ));
    tenant.faults().cut_watches(&Matcher::on("services", &[]), Cut::Drop);
    let why = world.cluster_says("acme--prod", "TenantWatched", "Degraded").await;
    assert!(why.starts_with("services: "), "{why}");
    world.pool(1).await;
    world.running(1).await;
    world.cluster_says("acme--prod", "Ready", "Reachable").await;
    tenant.faults().remove(rule);
    world.cluster_says("acme--prod", "TenantWatched", "Current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_are_dropped_or_expired_lose_no_service() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "TenantWatched", "Current").await;
    let tenant = world.sim.tenant("acme--prod").expect("a tenant");
    for (name, cut) in [("dropped", Cut::Drop), ("expired", Cut::Expire)] {
        tenant.faults().cut_watches(&Matcher::any(), cut);
        world
            .tenant_services()
            .create(&PostParams::default(), &mk_balancer(name, true))
            .await
            .expect("created");
        world
            .balancers_are(|found| {
                found
                    .iter()
                    .any(|one| one.tenant_service == name && !one.ingress.is_empty())
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_beyond_the_quota_or_without_node_ports_are_pending_with_the_reason() {
    let world = World::start().await;
    world.project_and_cluster().await;
    let quota = json!({"spec": {"quota": {"loadBalancers": "1"}}});
    Api::<Project>::all(world.sim.client())
        .patch("acme", &PatchParams::default(), &Patch::Merge(quota))
        .await
        .expect("a quota");
    world.cluster_says("acme--prod", "TenantWatched", "Current").await;
    let services = world.tenant_services();
    for name in ["first", "second"] {
        services
            .create(&PostParams::default(), &mk_balancer(name, true))
            .await
            .expect("created");
        world
            .balancers_are(|found| found.iter().any(|one| one.tenant_service == name))
            .await;
    }
    let found = world
        .balancers_are(|found| found.len() == 2 && found.iter().any(|one| !one.ingress.is_empty()))
        .await;
    let second = found
        .iter()
        .find(|one| one.tenant_service == "second")
        .expect("the second");
    assert_eq!(second.state(), proto::load_balancer::State::Pending);
    assert_eq!(reason_of_address(second), "QuotaExceeded");
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(world.tenant(), "default");
    let told = events.list(&ListParams::default()).await.expect("events").items;
    assert!(
        told.iter().any(|event| event.reason.as_deref() == Some("QuotaExceeded")
            && event.involved_object.name.as_deref() == Some("second")),
        "{told:#?}"
    );
    // There is a place again when the first one is gone.
    services
        .delete("first", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    world
        .balancers_are(|found| found.len() == 1 && found[0].tenant_service == "second" && !found[0].ingress.is_empty())
        .await;

    let more = json!({"spec": {"quota": {"loadBalancers": "5"}}});
    Api::<Project>::all(world.sim.client())
        .patch("acme", &PatchParams::default(), &Patch::Merge(more))
        .await
        .expect("a quota");
    services
        .create(&PostParams::default(), &mk_balancer("noports", false))
        .await
        .expect("created");
    let found = world
        .balancers_are(|found| found.iter().any(|one| one.tenant_service == "noports"))
        .await;
    let without = found.iter().find(|one| one.tenant_service == "noports").expect("it");
    assert_eq!(reason_of_address(without), "NoNodePorts");
    assert!(
        without
            .field_notes
            .iter()
            .any(|note| note.field == "spec.ports[0].nodePort"),
        "{without:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_revoked_once_their_machines_have_joined() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(2).await;
    world.running(2).await;
    let secrets: Api<Secret> = Api::namespaced(world.tenant(), "kube-system");
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let left = secrets
            .list(&ListParams::default().labels(labels::MACHINE))
            .await
            .expect("secrets")
            .items;
        if left.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} tokens remain", left.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_follow_a_kubeconfig_or_namespace_that_somebody_deletes_by_force() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "Ready", "Reachable").await;
    let secrets: Api<Secret> = Api::namespaced(world.sim.client(), "acme--prod");
    let before = secrets.get(labels::KUBECONFIG_SECRET).await.expect("a secret");
    // Whoever plays the control plane's operator stores it again at once; not before the service has told of it.
    let stores = Matcher::on("secrets", &[Verb::Create, Verb::Patch]).in_namespace("acme--prod");
    let held = world.sim.faults().add(Rule::always(stores, Effect::Unavailable));
    secrets
        .delete(labels::KUBECONFIG_SECRET, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let why = world.cluster_says("acme--prod", "TenantReachable", "Unreachable").await;
    assert!(why.contains("does not exist") || why.contains("has changed"), "{why}");
    world.sim.faults().remove(held);
    let mut again = before.clone();
    again.metadata = kube::api::ObjectMeta {
        name: before.metadata.name.clone(),
        ..Default::default()
    };
    match secrets.create(&PostParams::default(), &again).await {
        Ok(_) => {}
        // Whoever plays the control plane's operator was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
    world.cluster_says("acme--prod", "TenantReachable", "Reachable").await;

    let spaces: Api<Namespace> = Api::all(world.sim.client());
    let old = spaces.get("acme--prod").await.expect("a namespace").uid();
    spaces
        .delete("acme--prod", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let now = spaces.get_opt("acme--prod").await.expect("an answer");
        if now.is_some_and(|space| space.uid() != old && space.metadata.deletion_timestamp.is_none()) {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the namespace is not made again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.cluster_says("acme--prod", "NamespaceReady", "Applied").await;
}
