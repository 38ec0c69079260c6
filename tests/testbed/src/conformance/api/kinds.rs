//! What single kinds get by default, and what they do not allow.

use anyhow::Result;
use serde_json::{Value, json};

use super::samples::{mk_config_map, mk_deployment, mk_pod};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "a-service-gets-its-defaults" => service_defaults,
    "a-headless-service-has-no-address" => headless,
    "a-service-that-is-exposed-gets-node-ports" => exposed,
    "a-service-changes-between-types" => service_types,
    "a-pod-gets-its-defaults" => pod_defaults,
    "a-pod-takes-the-changes-that-it-may" => pod_changes,
    "a-pod-has-a-class-of-service-by-its-resources" => classes,
    "a-deployment-gets-its-defaults" => deployment_defaults,
    "the-selector-of-a-deployment-fits-and-stays" => deployment_selector,
    "a-claim-gets-its-defaults" => claims,
    "a-secret-takes-plain-texts" => secrets,
    "a-secret-of-a-type-has-its-keys" => secret_types,
    "what-is-immutable-stays" => immutable,
    "a-config-map-has-good-keys" => config_map_keys,
    "a-lease-is-renewed-by-who-read-it" => leases,
    "an-event-is-seen-in-both-groups" => events,
}

fn mk_service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn service_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spec = json!({"selector": {"app": "a"}, "ports": [{"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"}]});
    let one_port = json!({"ports": [{"port": 80}]});
    t.note(
        "one port",
        &lab.post(&lab.path("services"), &mk_service("a", one_port)).await?,
    );
    t.note(
        "two ports, one without a name",
        &lab.post(&lab.path("services"), &mk_service("b", spec)).await?,
    );
    let again = mk_service("a", json!({"ports": [{"port": 80}, {"port": 81, "name": "more"}]}));
    t.note("update", &lab.put(&lab.path("services/a"), &again).await?);
    let again = mk_service("a", json!({"ports": [{"port": 81, "name": "more"}]}));
    t.note(
        "update without an address",
        &lab.put(&lab.path("services/a"), &again).await?,
    );
    Ok(())
}

async fn headless(lab: &Lab, t: &mut Transcript) -> Result<()> {
    t.note(
        "create",
        &lab.post(
            &lab.path("services"),
            &mk_service("a", json!({"clusterIP": "None", "selector": {"a": "b"}})),
        )
        .await?,
    );
    t.note(
        "by name only",
        &lab.post(
            &lab.path("services"),
            &mk_service("b", json!({"type": "ExternalName", "externalName": "db.example.com"})),
        )
        .await?,
    );
    Ok(())
}

async fn exposed(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let ports = json!([{"port": 80}]);
    t.note(
        "node port",
        &lab.post(
            &lab.path("services"),
            &mk_service("a", json!({"type": "NodePort", "ports": ports})),
        )
        .await?,
    );
    let balanced = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "ports": ports});
    t.note(
        "load balancer",
        &lab.post(&lab.path("services"), &mk_service("b", balanced)).await?,
    );
    let local = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "externalTrafficPolicy": "Cluster",
        "allocateLoadBalancerNodePorts": false, "ports": ports});
    t.note(
        "without node ports",
        &lab.post(&lab.path("services"), &mk_service("c", local)).await?,
    );
    let other = json!({"spec": {"loadBalancerClass": "example.com/other"}});
    t.note(
        "another class",
        &lab.patch(&lab.path("services/b"), PatchKind::Merge, &other).await?,
    );
    Ok(())
}

async fn service_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(
        &lab.path("services"),
        &mk_service("a", json!({"ports": [{"port": 80}]})),
    )
    .await?;
    let one = lab.path("services/a");
    for (what, patch) in [
        ("node port", json!({"type": "NodePort"})),
        ("back", json!({"type": "ClusterIP"})),
        ("another address", json!({"clusterIP": "None"})),
        ("no address", json!({"clusterIP": null})),
        (
            "by name",
            json!({"type": "ExternalName", "externalName": "db.example.com"}),
        ),
    ] {
        let answer = lab.patch(&one, PatchKind::Merge, &json!({"spec": patch})).await?;
        t.note(
            what,
            &answer.only(&[
                "spec/type",
                "spec/clusterIP",
                "spec/clusterIPs",
                "spec/ports",
                "spec/externalTrafficPolicy",
            ]),
        );
    }
    Ok(())
}

/// Creates each of these and notes what is refused, or just that it is not.
async fn tries(lab: &Lab, t: &mut Transcript, resource: &str, objects: Vec<(&str, Value)>) -> Result<()> {
    for (what, object) in objects {
        t.note(what, &lab.post(&lab.path(resource), &object).await?.only(&[]));
    }
    Ok(())
}

async fn pod_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    t.note("the least", &lab.post(&lab.path("pods"), &mk_pod("a")).await?);
    let mut pod = mk_pod("b");
    pod["spec"]["initContainers"] = json!([{"name": "first", "image": "registry.example/first"}]);
    pod["spec"]["containers"] = json!([{
        "name": "main", "image": "registry.example/main:latest", "ports": [{"containerPort": 80}],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
        "readinessProbe": {"httpGet": {"port": 80}}, "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }]);
    pod["spec"]["volumes"] = json!([
        {"name": "config", "configMap": {"name": "c"}}, {"name": "secret", "secret": {"secretName": "s"}}, {"name": "empty"}, {"name": "dir", "emptyDir": {}},
    ]);
    t.note("more", &lab.post(&lab.path("pods"), &pod).await?);
    Ok(())
}

async fn pod_changes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let one = lab.path("pods/a");
    let seen = [
        "metadata/generation",
        "spec/containers/0/image",
        "spec/activeDeadlineSeconds",
        "spec/tolerations/0",
    ];
    for (what, patch) in [
        (
            "another image",
            json!({"spec": {"containers": [{"name": "main", "image": "registry.example/main:2"}]}}),
        ),
        ("a deadline", json!({"spec": {"activeDeadlineSeconds": 100}})),
        (
            "a toleration",
            json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}),
        ),
        ("a label", json!({"metadata": {"labels": {"a": "b"}}})),
    ] {
        let answer = lab.patch(&one, PatchKind::Strategic, &patch).await?;
        t.note(what, &answer.only(&seen));
    }
    Ok(())
}

async fn classes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = json!({"cpu": "1", "memory": "1Gi"});
    for (name, resources) in [
        ("none", json!({})),
        ("some", json!({"requests": {"cpu": "1"}})),
        ("limits", json!({"limits": all})),
        ("both", json!({"requests": all, "limits": all})),
        (
            "less",
            json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": all}),
        ),
    ] {
        let mut pod = mk_pod(name);
        pod["spec"]["containers"][0]["resources"] = resources;
        let answer = lab.post(&lab.path("pods"), &pod).await?;
        t.note(name, &answer.only(&["status/qosClass", "spec/containers/0/resources"]));
    }
    Ok(())
}

async fn deployment_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut deployment = mk_deployment("web", 0);
    deployment["spec"]["paused"] = json!(true);
    t.note(
        "none",
        &lab.post(&lab.path("deployments?dryRun=All"), &deployment).await?,
    );
    if let Some(spec) = deployment["spec"].as_object_mut() {
        spec.shift_remove("replicas");
    }
    t.note(
        "one",
        &lab.post(&lab.path("deployments?dryRun=All"), &deployment)
            .await?
            .only(&["spec/replicas"]),
    );
    deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    t.note(
        "recreated",
        &lab.post(&lab.path("deployments?dryRun=All"), &deployment)
            .await?
            .only(&["spec/strategy"]),
    );
    Ok(())
}

async fn deployment_selector(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut other = mk_deployment("web", 0);
    other["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
    let mut none = mk_deployment("web", 0);
    none["spec"]["selector"] = Value::Null;
    let mut negative = mk_deployment("web", 0);
    negative["spec"]["replicas"] = json!(-1);
    tries(
        lab,
        t,
        "deployments",
        vec![
            ("another", other),
            ("none", none),
            ("less than no replicas", negative),
            ("good", mk_deployment("web", 0)),
        ],
    )
    .await?;
    let patch = json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}});
    t.note(
        "change",
        &lab.patch(&lab.path("deployments/web"), PatchKind::Merge, &patch)
            .await?,
    );
    Ok(())
}

fn mk_claim(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
}

async fn claims(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let good = json!({"storageClassName": "nothing", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let seen = ["spec", "status", "metadata/generation"];
    let path = lab.path("persistentvolumeclaims?dryRun=All");
    t.note("create", &lab.post(&path, &mk_claim("a", good)).await?.only(&seen));
    Ok(())
}

fn mk_secret(name: &str, rest: Value) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    for (key, value) in rest.as_object().into_iter().flatten() {
        secret[key] = value.clone();
    }
    secret
}

async fn secrets(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let both = json!({"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "two", "c": "three"}});
    t.note("create", &lab.post(&lab.path("secrets"), &mk_secret("a", both)).await?);
    let patch = json!({"stringData": {"a": "one"}});
    t.note(
        "patch",
        &lab.patch(&lab.path("secrets/a"), PatchKind::Merge, &patch).await?,
    );
    t.note(
        "no base64",
        &lab.post(&lab.path("secrets"), &mk_secret("b", json!({"data": {"a": "%"}})))
            .await?
            .code,
    );
    let typed = json!({"type": "example.com/other"});
    t.note(
        "another type",
        &lab.patch(&lab.path("secrets/a"), PatchKind::Merge, &typed).await?,
    );
    t.note(
        "a bad key",
        &lab.post(
            &lab.path("secrets"),
            &mk_secret("b", json!({"stringData": {"a b": "1"}})),
        )
        .await?,
    );
    Ok(())
}

async fn secret_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    tries(
        lab,
        t,
        "secrets",
        vec![
            (
                "tls",
                mk_secret("a", json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": ""}})),
            ),
            (
                "docker",
                mk_secret(
                    "b",
                    json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {"x": "{}"}}),
                ),
            ),
            (
                "of one's own",
                mk_secret("d", json!({"type": "cluster.x-k8s.io/secret", "stringData": {}})),
            ),
        ],
    )
    .await
}

async fn immutable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut map = mk_config_map("a");
    map["immutable"] = json!(true);
    lab.make(&lab.path("configmaps"), &map).await?;
    let one = lab.path("configmaps/a");
    t.note(
        "data",
        &lab.patch(&one, PatchKind::Merge, &json!({"data": {"k": "2"}})).await?,
    );
    t.note(
        "the mark",
        &lab.patch(&one, PatchKind::Merge, &json!({"immutable": false})).await?,
    );
    t.note(
        "a label",
        &lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"labels": {"a": "b"}}}))
            .await?
            .only(&["metadata/labels"]),
    );
    lab.make(
        &lab.path("secrets"),
        &mk_secret("a", json!({"immutable": true, "stringData": {"a": "1"}})),
    )
    .await?;
    t.note(
        "a secret",
        &lab.patch(
            &lab.path("secrets/a"),
            PatchKind::Merge,
            &json!({"stringData": {"a": "2"}}),
        )
        .await?,
    );
    Ok(())
}

async fn config_map_keys(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let with = |key: &str, value: Value| {
        let mut map = mk_config_map("a");
        map[key] = value;
        map
    };
    tries(
        lab,
        t,
        "configmaps",
        vec![
            ("a space", with("data", json!({"a b": "1"}))),
            ("dots", with("data", json!({"..": "1"}))),
            ("in both", with("binaryData", json!({"k": "MQ=="}))),
            ("no base64", with("binaryData", json!({"b": "%"}))),
            ("good", with("binaryData", json!({"b": "MQ=="}))),
        ],
    )
    .await
}

async fn leases(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": "2026-01-02T03:04:05.123456Z", "renewTime": "2026-01-02T03:04:05.000000Z", "leaseTransitions": 0});
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": spec});
    let created = lab.post(&lab.path("leases"), &lease).await?;
    t.note("create", &created);
    t.note(
        "the micros are kept",
        &created.text("spec/acquireTime").ends_with(".123456Z"),
    );
    let mut taken = created.body.clone();
    taken["spec"]["holderIdentity"] = json!("b");
    t.alias(created.revision(), "old");
    t.note("take", &lab.put(&lab.path("leases/a"), &taken).await?);
    t.note(
        "take with what was read before",
        &lab.put(&lab.path("leases/a"), &taken).await?,
    );
    let bad = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
    t.note(
        "no time",
        &lab.patch(&lab.path("leases/a"), PatchKind::Merge, &bad).await?,
    );
    Ok(())
}

async fn events(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let about = json!({"kind": "ConfigMap", "apiVersion": "v1", "name": "a", "namespace": lab.namespace});
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "new"}, "regarding": about, "type": "Normal",
        "reason": "Made", "action": "Make", "note": "made it", "reportingController": "example.com/maker", "reportingInstance": "maker-1",
        "eventTime": "2026-01-02T03:04:05.123456Z"});
    let group = "/apis/events.k8s.io/v1/namespaces";
    let path = format!("{group}/{}/events", lab.namespace);
    t.note("create", &lab.post(&path, &event).await?);
    t.note("in the core group", &lab.get(&lab.path("events/new")).await?);
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old"}, "involvedObject": about, "type": "Warning", "reason": "Old",
        "message": "it is old", "source": {"component": "maker"}, "count": 2, "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:05Z"});
    t.note(
        "create in the core group",
        &lab.post(&lab.path("events"), &old).await?.only(&[
            "type",
            "reason",
            "message",
            "count",
            "eventTime",
            "reportingComponent",
        ]),
    );
    t.note("in the other group", &lab.get(&format!("{path}/old")).await?);
    let found = lab
        .get(&lab.path("events?fieldSelector=involvedObject.name%3Da,reason%3DOld"))
        .await?;
    t.note("found", &found.names());
    let mut elsewhere = old.clone();
    elsewhere["involvedObject"]["namespace"] = json!("elsewhere");
    elsewhere["metadata"]["name"] = json!("other");
    t.note(
        "about what is elsewhere",
        &lab.post(&lab.path("events"), &elsewhere).await?,
    );
    Ok(())
}
