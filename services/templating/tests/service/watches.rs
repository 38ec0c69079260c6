//! Views that break: the service goes on, and never deletes by what it does not see.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use steading_controller::SourceConfig;
use steading_infra::{crd::MachineTemplate, kubevirt::VirtualMachineClusterInstancetype};
use steading_kubesim::{
    Verb,
    faults::{Cut, Effect, Matcher, Rule},
};

use super::{
    images::{golden, ready, refresh},
    *,
};

/// What the service calls itself.
const AGENT: &str = "templating";

/// Sources that notice silence soon.
fn impatient() -> Config {
    Config {
        source: SourceConfig {
            silence: Duration::from_secs(2),
            ..SourceConfig::default()
        },
        ..Config::default()
    }
}

/// As `kubectl` does it: nobody but the reconciler stores the revision.
async fn resize(stack: &Stack, memory: &str) {
    let template = json!({
        "apiVersion": "steading.dev/v1alpha1", "kind": "MachineTemplate", "metadata": {"name": "acme--byhand"},
        "spec": {"cpu": {"cores": 1}, "memory": memory, "rootDisk": {"image": "images/ubuntu", "size": "10Gi"}},
    });
    let api: Api<MachineTemplate> = Api::all(stack.kube.clone());
    let params = PatchParams::apply("kubectl").force();
    api.patch("acme--byhand", &params, &Patch::Apply(template))
        .await
        .expect("applied");
}

/// Waits until the status speaks of the present generation, and returns the revision.
async fn judged(stack: &Stack, before: Option<&str>) -> String {
    let api: Api<MachineTemplate> = Api::all(stack.kube.clone());
    eventually("the verdict on the template", || async {
        let status = api.get("acme--byhand").await.expect("there").status?;
        status.latest_revision.filter(|id| Some(id.as_str()) != before)
    })
    .await
}

async fn templates_over(cut: Cut) {
    with_stack_of(impatient(), |stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        resize(&stack, "1Gi").await;
        let mut revision = judged(&stack, None).await;
        for round in 2..5 {
            let ours = Matcher::any().from_agent(AGENT);
            let cut = stack.sim.faults().cut_watches(&ours, cut);
            assert!(round > 2 || cut >= 8, "{cut} watches");
            resize(&stack, &format!("{round}Gi")).await;
            revision = judged(&stack, Some(&revision)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn revisions_are_stored_when_watches_are_dropped() {
    Box::pin(templates_over(Cut::Drop)).await;
}

#[tokio::test]
async fn revisions_are_stored_when_watches_expire() {
    Box::pin(templates_over(Cut::Expire)).await;
}

#[tokio::test]
async fn revisions_are_stored_when_watches_hang_without_an_error() {
    Box::pin(templates_over(Cut::Silence)).await;
}

#[tokio::test]
async fn a_golden_disk_of_a_revision_that_is_not_seen_yet_stays() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let old = format!("ubuntu-{}", ready(&stack).await.content_id);
        // From now on the service hears nothing of revisions, and does not notice that.
        let revisions = Matcher::on("controllerrevisions", &[Verb::Watch]).from_agent(AGENT);
        assert_eq!(stack.sim.faults().cut_watches(&revisions, Cut::Silence), 1);
        let made = stack
            .template
            .create_machine_template(call(create_request("web", mk_template())))
            .await;
        made.expect("created with a revision that uses the disk");
        refresh(&stack).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let disk = golden(&stack).get(&old).await.expect("kept for the revision");
            assert_eq!(disk.metadata.deletion_timestamp, None);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_settled_costs_no_request() {
    let config = Config {
        resync: Duration::from_millis(100),
        ..Config::default()
    };
    with_stack_of(config, |stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        ready(&stack).await;
        resize(&stack, "1Gi").await;
        judged(&stack, None).await;
        let asked = || {
            let counters = stack.sim.requests();
            counters.count(|key| key.user_agent.contains(AGENT) && key.verb != Verb::Watch && key.resource != "leases")
        };
        eventually("a second of ten resyncs without a request", || async {
            let before = asked();
            tokio::time::sleep(Duration::from_secs(1)).await;
            (asked() == before).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_entry_of_the_standard_catalogue_is_put_back() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        let api: Api<VirtualMachineClusterInstancetype> = Api::all(stack.kube.clone());
        let change = json!({"spec": {"cpu": {"guest": 7}}});
        api.patch("standard-2", &PatchParams::default(), &Patch::Merge(change))
            .await
            .expect("changed");
        let is_back = || async {
            let found = api.get_opt("standard-2").await.expect("an answer")?;
            let spec = serde_json::to_value(&found.spec).expect("JSON");
            (spec["cpu"]["guest"] == 2).then_some(())
        };
        eventually("the entry is put back", is_back).await;
        api.delete("standard-2", &kube::api::DeleteParams::default())
            .await
            .expect("deleted");
        eventually("the entry is there again", is_back).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_revision_is_made_of_is_put_back_when_somebody_deletes_it() {
    with_stack(|stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        let made = stack
            .template
            .create_machine_template(call(create_request("web", mk_template())))
            .await;
        made.expect("created");
        let api: Api<VirtualMachineClusterInstancetype> = Api::all(stack.kube.clone());
        let pinned = || async {
            let all = api
                .list(&kube::api::ListParams::default().labels("steading.dev/pinned"))
                .await;
            all.expect("listed")
                .items
                .first()
                .map(|object| (object.name_any(), object.uid()))
        };
        let (name, uid) = eventually("the pinned type", pinned).await;
        api.delete(&name, &kube::api::DeleteParams::default())
            .await
            .expect("deleted");
        eventually("it is there again", || async {
            pinned().await.filter(|(_, present)| *present != uid).map(drop)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_kind_keeps_what_depends_on_it_waiting_and_says_so() {
    let config = impatient();
    let metrics = config.server.metrics.clone();
    with_stack_of(config, |stack| async move {
        standard_type(&stack).await;
        create_image(&stack).await;
        resize(&stack, "1Gi").await;
        let revision = judged(&stack, None).await;
        let types = Matcher::on("virtualmachineclusterinstancetypes", &[Verb::Watch, Verb::List]).from_agent(AGENT);
        let forbidden = Rule::always(types.clone(), Effect::Forbid);
        let rule = stack.sim.faults().add(forbidden);
        stack.sim.faults().cut_watches(&types, Cut::Drop);
        eventually("a metric tells of the stale view", || async {
            let text = metrics.encode();
            text.lines()
                .any(|line| line.contains("source_live") && line.contains("instancetypes") && line.ends_with(" 0"))
                .then_some(())
        })
        .await;
        resize(&stack, "2Gi").await;
        stack.sim.faults().remove(rule);
        assert_ne!(judged(&stack, Some(&revision)).await, revision);
    })
    .await;
}
