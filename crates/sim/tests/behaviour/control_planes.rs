//! Tenants' control planes that are handed in.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use steading_kubesim::{ApiServer, ApiServerConfig, http};
use steading_sim::{
    infra_api_server,
    play::{ControlPlane, Part, Play, PlayConfig, play},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;

/// An API server that somebody else has started, reached over HTTP.
async fn mk_plane(name: &str, tasks: &mut JoinSet<()>) -> (ControlPlane, ApiServer) {
    let server = ApiServer::new(ApiServerConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kubeconfig = http::kubeconfig(listener.local_addr().unwrap(), "", None);
    let router = http::at_root(server.clone());
    tasks.spawn(async move { http::serve(listener, router, CancellationToken::new()).await.unwrap() });
    let plane = ControlPlane {
        name: name.to_owned(),
        kubeconfig,
    };
    (plane, server)
}

/// An infra cluster with namespaces `p--a` and `p--b`, on which nothing plays.
async fn mk_infra() -> ApiServer {
    let server = infra_api_server(ApiServerConfig::default());
    let client = server.client();
    install::install_crds(&client, FieldManager::Lifecycle, Duration::from_secs(10))
        .await
        .unwrap();
    for name in ["p--a", "p--b"] {
        create::<Namespace>(&Api::all(client.clone()), json!({ "metadata": { "name": name } })).await;
    }
    server
}

fn let_play(server: &ApiServer, plane: &ControlPlane) -> (Play, CancellationToken) {
    let (server, cancel) = (server.clone(), CancellationToken::new());
    let mut config = PlayConfig::beside(Arc::new(move |agent| server.client_named(agent)), vec![plane.clone()]);
    config.parts = [Part::Tenants].into();
    (play(&config, &cancel), cancel)
}

async fn mk_cluster(client: &Client, id: &str) {
    let cluster = json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "Cluster", "metadata": { "name": format!("p--{id}") },
        "spec": { "project": "p", "cluster": id, "controlPlane": { "external": {} } },
    });
    create::<Cluster>(&Api::all(client.clone()), cluster).await;
}

async fn kubeconfig_of(client: &Client, namespace: &str) -> Option<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt("kubeconfig").await.unwrap()?;
    String::from_utf8(secret.data?.remove("kubeconfig")?.0).ok()
}

#[tokio::test]
async fn one_control_plane_serves_one_cluster_after_the_other() {
    let mut tasks = JoinSet::new();
    let (plane, tenant) = mk_plane("one", &mut tasks).await;
    let infra = mk_infra().await;
    let client = infra.client();
    let (_play, _cancel) = let_play(&infra, &plane);
    mk_cluster(&client, "a").await;
    eventually("the first cluster has it", || async {
        kubeconfig_of(&client, "p--a").await.as_ref() == Some(&plane.kubeconfig)
    })
    .await;
    mk_cluster(&client, "b").await;

    let tenant = tenant.client();
    let web: Api<Deployment> = Api::namespaced(tenant.clone(), NS);
    let labels = json!({ "app": "web" });
    let template =
        json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    create(&web, json!({ "metadata": { "name": "web" }, "spec": { "selector": { "matchLabels": labels }, "template": template } })).await;
    let services: Api<Service> = Api::namespaced(tenant.clone(), NS);
    let service = json!({ "metadata": { "name": "web", "finalizers": ["steading.dev/load-balancer"] }, "spec": { "ports": [{ "port": 80 }] } });
    create(&services, service).await;
    let nodes: Api<Node> = Api::all(tenant.clone());
    create(&nodes, json!({ "metadata": { "name": "m1" } })).await;

    assert_eq!(kubeconfig_of(&client, "p--b").await, None, "it is taken");
    let clusters: Api<Cluster> = Api::all(client.clone());
    clusters.delete("p--a", &DeleteParams::default()).await.unwrap();
    // The namespace controller would do this.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "p--a");
    secrets.delete("kubeconfig", &DeleteParams::default()).await.unwrap();
    eventually("the second cluster has it", || async {
        kubeconfig_of(&client, "p--b").await.as_ref() == Some(&plane.kubeconfig)
    })
    .await;
    assert!(nodes.get_opt("m1").await.unwrap().is_none() && web.get_opt("web").await.unwrap().is_none());
    assert!(
        services.get_opt("web").await.unwrap().is_none(),
        "nobody is left to take its finalizer off"
    );
}

#[tokio::test]
async fn who_has_which_control_plane_survives_a_restart_of_the_player() {
    let mut tasks = JoinSet::new();
    let (plane, tenant) = mk_plane("one", &mut tasks).await;
    let infra = mk_infra().await;
    let client = infra.client();
    let (first, cancel) = let_play(&infra, &plane);
    mk_cluster(&client, "b").await;
    eventually("it is given", || async {
        kubeconfig_of(&client, "p--b").await.is_some()
    })
    .await;
    cancel.cancel();
    first.stop().await;
    let nodes: Api<Node> = Api::all(tenant.client());
    create(&nodes, json!({ "metadata": { "name": "m1" } })).await;

    // This one comes first by name, but too late.
    mk_cluster(&client, "a").await;
    let (again, _cancel) = let_play(&infra, &plane);
    eventually("it is known whose it is", || async {
        again.tenants().namespaces() == ["p--b"]
    })
    .await;
    assert_eq!(kubeconfig_of(&client, "p--a").await, None);
    assert!(
        nodes.get_opt("m1").await.unwrap().is_some(),
        "what is in use is not emptied"
    );
}

#[tokio::test]
async fn a_cluster_with_a_control_plane_of_its_own_gets_none() {
    let mut tasks = JoinSet::new();
    let (plane, _tenant) = mk_plane("one", &mut tasks).await;
    let infra = mk_infra().await;
    let client = infra.client();
    let own = json!({ "metadata": { "name": "kubeconfig" }, "stringData": { "kubeconfig": "mine" } });
    create::<Secret>(&Api::namespaced(client.clone(), "p--a"), own).await;
    let (play, _cancel) = let_play(&infra, &plane);
    mk_cluster(&client, "a").await;
    mk_cluster(&client, "b").await;
    eventually("the other one has it", || async {
        kubeconfig_of(&client, "p--b").await.is_some()
    })
    .await;
    assert_eq!(kubeconfig_of(&client, "p--a").await.as_deref(), Some("mine"));
    assert_eq!(play.tenants().namespaces(), ["p--b"]);
}
