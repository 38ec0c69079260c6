//! What changes beside machines that run: it reaches them, and where nothing changes nothing is asked.

use k8s_openapi::api::{core::v1::Service as KubeService, discovery::v1::EndpointSlice};
use steading_kubesim::{
    Verb,
    faults::{Effect, Matcher, Rule},
};
use steading_lifecycle::plan::load_balancer::Balanced;

use super::{
    endings::{eventually, id_of},
    stale::AGENT,
    tenants::{mk_balancer, mk_kubeconfig},
    *,
};

impl World {
    async fn use_kubeconfig(&self, kubeconfig: Vec<u8>) {
        let external = proto::ExternalControlPlane {
            kubeconfig,
            ..Default::default()
        };
        let update = proto::UpdateClusterRequest {
            cluster: Some(proto::Cluster {
                name: PARENT.into(),
                control_plane: Some(proto::cluster::ControlPlane::External(external)),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["external.kubeconfig".into()],
            }),
            ..Default::default()
        };
        ClusterServiceClient::new(self.channel.clone())
            .update_cluster(update)
            .await
            .expect("updated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_of_a_pool_reaches_nodes_that_have_joined_at_once() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    let id = id_of(&world.running(1).await[0].name).to_owned();
    let patch = Patch::Merge(json!({"spec": {"nodeLabels": {"team": "b"}}}));
    world
        .pools()
        .patch("workers", &PatchParams::default(), &patch)
        .await
        .expect("labelled");
    let nodes: Api<Node> = Api::all(world.tenant());
    eventually("the node has the label", async || {
        let node = nodes.get(&id).await.ok()?;
        (node.labels().get("team").map(String::as_str) == Some("b")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_run_cost_no_request() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(2).await;
    world.running(2).await;
    let tenant = world.sim.tenant("acme--prod").expect("a tenant");
    let asked = || {
        let infra = world
            .sim
            .requests()
            .count(|key| key.user_agent.contains(AGENT) && key.verb != Verb::Watch && key.resource != "leases");
        let agent = |agent: &str| agent.contains(AGENT);
        infra
            + tenant
                .counters()
                .count(|key| agent(&key.user_agent) && key.verb != Verb::Watch)
    };
    eventually("three seconds without a request", async || {
        let before = asked();
        tokio::time::sleep(Duration::from_secs(3)).await;
        (asked() == before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kubeconfig_is_stored_and_used() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.cluster_says("acme--prod", "Ready", "Reachable").await;
    let secrets: Api<Secret> = Api::namespaced(world.sim.client(), "acme--prod");
    let stored = async || {
        let secret = secrets.get(labels::KUBECONFIG_SECRET).await.expect("a secret");
        secret
            .data
            .expect("data")
            .remove(labels::KUBECONFIG_KEY)
            .expect("a kubeconfig")
            .0
    };
    let before = stored().await;
    let nobody = mk_kubeconfig("http://127.0.0.1:1", "abcdef");
    world.use_kubeconfig(nobody.clone()).await;
    assert_eq!(stored().await, nobody);
    world.cluster_says("acme--prod", "TenantReachable", "Unreachable").await;
    world.use_kubeconfig(before.clone()).await;
    assert_eq!(stored().await, before);
    world.cluster_says("acme--prod", "TenantReachable", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_is_refused_keeps_none_of_the_others_back() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(1).await;
    world.running(1).await;
    let refused = Balanced {
        cluster: "acme--prod".into(),
        namespace: "default".into(),
        service: "b".into(),
    };
    let writes = Matcher::on("services", &[Verb::Create, Verb::Patch, Verb::Update]).named(&refused.infra_name());
    world.sim.faults().add(Rule::always(writes, Effect::Forbid));
    let services: Api<KubeService> = Api::namespaced(world.tenant(), "default");
    for name in ["a", "b", "c"] {
        let service = mk_balancer(name, true);
        services
            .create(&PostParams::default(), &service)
            .await
            .expect("created");
    }
    for name in ["a", "c"] {
        eventually("the others have addresses", async || {
            let service = services.get(name).await.ok()?;
            service.status?.load_balancer?.ingress.filter(|given| !given.is_empty())
        })
        .await;
    }
    let infra: Api<KubeService> = Api::namespaced(world.sim.client(), "acme--prod");
    assert!(infra.get_opt(&refused.infra_name()).await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn local_traffic_goes_to_the_machine_that_has_the_pod_by_one_address() {
    let world = World::start().await;
    world.project_and_cluster().await;
    world.pool(2).await;
    let machine = world.running(2).await.remove(0);
    let mut service = mk_balancer("web", true);
    service.spec.get_or_insert_default().external_traffic_policy = Some("Local".into());
    Api::<KubeService>::namespaced(world.tenant(), "default")
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.244.0.9"], "nodeName": id_of(&machine.name), "conditions": {"ready": true},
        }],
    }))
    .expect("a slice");
    Api::<EndpointSlice>::namespaced(world.tenant(), "default")
        .create(&PostParams::default(), &slice)
        .await
        .expect("created");
    let found = world
        .balancers_are(|all| {
            all.iter()
                .flat_map(|one| &one.endpoints)
                .filter(|one| one.ready)
                .count()
                == 1
        })
        .await;
    let behind: Vec<_> = found[0].endpoints.iter().filter(|one| one.ready).collect();
    assert_eq!(behind[0].machine, machine.name);
    // The API once showed each address twice, and those of a family that the load balancer does not use.
    for endpoint in &found[0].endpoints {
        assert_eq!(endpoint.addresses.len(), 1, "{endpoint:?}");
        assert!(
            endpoint.addresses[0].parse::<std::net::Ipv4Addr>().is_ok(),
            "{endpoint:?}"
        );
    }
}
