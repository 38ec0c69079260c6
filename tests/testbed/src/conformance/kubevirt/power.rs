//! Starting and stopping: run strategies and subresources.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    samples::{changed, mk_vm},
    steps::{
        at, conditions, create, gone, made, merge, only, path, read, running, stopped, subresource, text, until,
        verdict,
    },
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-halted-vm-has-no-vmi-until-it-is-started" => halted,
    "starting-what-runs-is-refused" => start_again,
    "a-vm-that-always-runs-is-halted-by-stop" => stop,
    "restart-makes-another-vmi" => restart,
    "a-manual-vm-runs-only-when-told" => manual,
    "a-vm-that-runs-once-cannot-be-restarted" => once,
    "a-vm-that-reruns-on-failure-stays-stopped-when-told" => rerun,
    "running-is-understood-and-deprecated" => running_field,
    "run-strategies-follow-the-spec" => strategies_follow,
    "a-dry-run-of-start-starts-nothing" => dry_start,
    "subresources-of-missing-machines-are-not-found" => missing,
    "subresources-of-a-stopped-machine-conflict" => while_stopped,
}

pub(super) fn with_strategy(name: &str, strategy: &str) -> Value {
    changed(mk_vm(name), json!({ "spec": { "runStrategy": strategy } }))
}

async fn halted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Halted")).await?;
    let vm = stopped(lab, "m").await?;
    t.note(
        "halted",
        &json!({ "status": only(&vm["status"], &["created", "ready", "printableStatus", "runStrategy"]), "conditions": conditions(&vm) }),
    );
    let vmi = lab.get(&path(lab, "virtualmachineinstances", "m")).await?;
    t.note("its VMI", &json!({ "code": vmi.code }));
    let start = subresource(lab, "virtualmachines", "m", "start", None).await?;
    t.note("start", &verdict(&start));
    running(lab, "m").await?;
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("strategy after start", &vm["spec"]["runStrategy"].clone());
    Ok(())
}

async fn start_again(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    running(lab, "m").await?;
    let again = subresource(lab, "virtualmachines", "m", "start", None).await?;
    t.note("start", &verdict(&again));
    let paused = json!({ "paused": true });
    let again = subresource(lab, "virtualmachines", "m", "start", Some(&paused)).await?;
    t.note("start paused", &verdict(&again));
    Ok(())
}

async fn stop(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    running(lab, "m").await?;
    t.note(
        "stop",
        &verdict(&subresource(lab, "virtualmachines", "m", "stop", None).await?),
    );
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note("strategy", &vm["spec"]["runStrategy"].clone());
    t.note("conditions", &conditions(&vm));
    t.note(
        "stop again",
        &verdict(&subresource(lab, "virtualmachines", "m", "stop", None).await?),
    );
    t.note(
        "restart",
        &verdict(&subresource(lab, "virtualmachines", "m", "restart", None).await?),
    );
    Ok(())
}

async fn restart(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    let before = running(lab, "m").await?;
    t.note(
        "restart",
        &verdict(&subresource(lab, "virtualmachines", "m", "restart", None).await?),
    );
    let after = another(lab, "m", &before).await?;
    running(lab, "m").await?;
    let vm = until(lab, "virtualmachines", "m", "nothing is asked for any more", |vm| {
        vm["status"]["stateChangeRequests"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    t.note(
        "afterwards",
        &json!({
            "strategy": vm["spec"]["runStrategy"],
            "same name": before["metadata"]["name"] == after["metadata"]["name"],
            "same VM's revision": before["status"]["virtualMachineRevisionName"] == after["status"]["virtualMachineRevisionName"],
        }),
    );
    let forced = json!({ "gracePeriodSeconds": 5 });
    let refused = subresource(lab, "virtualmachines", "m", "restart", Some(&forced)).await?;
    t.note("restart with a grace period", &verdict(&refused));
    Ok(())
}

/// Waits for a VMI that is not the one from before.
pub(super) async fn another(lab: &Lab, name: &str, before: &Value) -> Result<Value> {
    let uid = before["metadata"]["uid"].clone();
    until(
        lab,
        "virtualmachineinstances",
        name,
        "another VMI is there",
        move |vmi| vmi["metadata"]["uid"] != uid && text(vmi, "/status/phase") == "Running",
    )
    .await
}

async fn manual(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Manual")).await?;
    stopped(lab, "m").await?;
    for sub in ["stop", "restart", "start"] {
        t.note(
            &format!("{sub} while stopped"),
            &verdict(&subresource(lab, "virtualmachines", "m", sub, None).await?),
        );
    }
    let before = running(lab, "m").await?;
    until(lab, "virtualmachines", "m", "the request is worked off", |vm| {
        vm["status"]["stateChangeRequests"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    for sub in ["start", "restart"] {
        t.note(
            &format!("{sub} while running"),
            &verdict(&subresource(lab, "virtualmachines", "m", sub, None).await?),
        );
    }
    another(lab, "m", &before).await?;
    running(lab, "m").await?;
    until(lab, "virtualmachines", "m", "the restart is worked off", |vm| {
        vm["status"]["stateChangeRequests"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    t.note(
        "stop while running",
        &verdict(&subresource(lab, "virtualmachines", "m", "stop", None).await?),
    );
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note(
        "afterwards",
        &at(&vm, &["/spec/runStrategy", "/status/runStrategy", "/status/created"]),
    );
    Ok(())
}

async fn once(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Once")).await?;
    running(lab, "m").await?;
    for sub in ["start", "restart", "stop"] {
        t.note(
            sub,
            &verdict(&subresource(lab, "virtualmachines", "m", sub, None).await?),
        );
    }
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note("strategy", &vm["spec"]["runStrategy"].clone());
    Ok(())
}

async fn rerun(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "RerunOnFailure")).await?;
    running(lab, "m").await?;
    t.note(
        "start",
        &verdict(&subresource(lab, "virtualmachines", "m", "start", None).await?),
    );
    t.note(
        "stop",
        &verdict(&subresource(lab, "virtualmachines", "m", "stop", None).await?),
    );
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note("strategy", &vm["spec"]["runStrategy"].clone());
    until(lab, "virtualmachines", "m", "the request is worked off", |vm| {
        vm["status"]["stateChangeRequests"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    t.note(
        "start again",
        &verdict(&subresource(lab, "virtualmachines", "m", "start", None).await?),
    );
    running(lab, "m").await?;
    Ok(())
}

async fn running_field(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": null, "running": true } }));
    let answer = create(lab, "virtualmachines", &vm).await?;
    t.note("create", &json!({ "code": answer.code, "warnings": answer.warnings }));
    running(lab, "m").await?;
    t.note(
        "stop",
        &verdict(&subresource(lab, "virtualmachines", "m", "stop", None).await?),
    );
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note(
        "afterwards",
        &at(&vm, &["/spec/running", "/spec/runStrategy", "/status/runStrategy"]),
    );
    Ok(())
}

async fn strategies_follow(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    running(lab, "m").await?;
    let halt = merge(
        lab,
        "virtualmachines",
        "m",
        &json!({ "spec": { "runStrategy": "Halted" } }),
    )
    .await?;
    t.note("halt", &verdict(&halt));
    gone(lab, "virtualmachineinstances", "m").await?;
    let vm = stopped(lab, "m").await?;
    t.note("halted", &at(&vm, &["/status/runStrategy", "/status/created"]));
    merge(
        lab,
        "virtualmachines",
        "m",
        &json!({ "spec": { "runStrategy": "Always" } }),
    )
    .await?;
    running(lab, "m").await?;
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note(
        "runs again",
        &json!({ "strategy": vm["status"]["runStrategy"], "generation": vm["metadata"]["generation"], "observed": vm["status"]["observedGeneration"] }),
    );
    Ok(())
}

async fn dry_start(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Halted")).await?;
    stopped(lab, "m").await?;
    let dry = json!({ "dryRun": ["All"] });
    let answer = subresource(lab, "virtualmachines", "m", "start", Some(&dry)).await?;
    t.note("dry run", &verdict(&answer));
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("strategy", &vm["spec"]["runStrategy"].clone());
    let answer = subresource(lab, "virtualmachines", "m", "stop", Some(&dry)).await?;
    t.note("dry run of stop", &verdict(&answer));
    Ok(())
}

async fn missing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let node = json!({ "evacuationNodeName": "infra-1" });
    let volume = json!({ "name": "a", "disk": { "disk": { "bus": "scsi" } }, "volumeSource": { "dataVolume": { "name": "a" } } });
    let calls: &[(&str, &str, Option<&Value>)] = &[
        ("virtualmachines", "start", None),
        ("virtualmachines", "stop", None),
        ("virtualmachines", "restart", None),
        ("virtualmachines", "migrate", None),
        ("virtualmachines", "addvolume", Some(&volume)),
        ("virtualmachines", "evacuate/cancel", Some(&node)),
        ("virtualmachineinstances", "pause", None),
        ("virtualmachineinstances", "addvolume", Some(&volume)),
        ("virtualmachineinstances", "evacuate/cancel", Some(&node)),
    ];
    for (plural, sub, body) in calls {
        let answer = subresource(lab, plural, "nobody", sub, *body).await?;
        t.note(&format!("{plural} {sub}"), &verdict(&answer));
    }
    Ok(())
}

async fn while_stopped(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Halted")).await?;
    stopped(lab, "m").await?;
    for sub in ["stop", "restart", "migrate"] {
        t.note(
            sub,
            &verdict(&subresource(lab, "virtualmachines", "m", sub, None).await?),
        );
    }
    let node = json!({ "evacuationNodeName": "infra-1" });
    let answer = subresource(lab, "virtualmachines", "m", "evacuate/cancel", Some(&node)).await?;
    t.note("evacuate/cancel", &verdict(&answer));
    let answer = subresource(lab, "virtualmachineinstances", "m", "unpause", None).await?;
    t.note("unpause", &verdict(&answer));
    Ok(())
}
