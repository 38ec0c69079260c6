//! What is refused for other reasons: placement, schema, names, and what belongs to KubeVirt.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    refusals::tries,
    samples::{changed, mk_vm, mk_vmi},
    steps::{create, merge, running, text, verdict},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "bad-spread-constraints-and-affinity-are-refused" => placement,
    "a-data-volume-template-has-to-be-used" => data_volume_templates,
    "reserved-labels-are-refused-in-a-template" => reserved_labels,
    "a-field-of-the-wrong-type-is-refused-by-the-schema" => wrong_types,
    "an-unknown-field-of-a-vm-is-dropped-or-refused-as-asked" => unknown_fields,
    "a-name-that-is-too-long-for-a-label-is-refused-or-not" => long_names,
    "a-vmi-with-a-volume-without-a-disk-is-refused" => vmi_volumes,
    "the-spec-of-a-vmi-belongs-to-kubevirt" => vmi_spec,
    "the-status-of-a-vmi-belongs-to-kubevirt" => vmi_status,
    "an-update-is-checked-like-a-creation" => updates,
}

async fn placement(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spread = |constraint: Value| json!({ "topologySpreadConstraints": [constraint] });
    let required = |terms: Value| json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } });
    tries(
        lab,
        t,
        &[
            (
                "no skew",
                spread(json!({ "maxSkew": 0, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule" })),
            ),
            (
                "an unknown way out",
                spread(json!({ "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "GiveUp" })),
            ),
            (
                "no key",
                spread(json!({ "maxSkew": 1, "topologyKey": "", "whenUnsatisfiable": "DoNotSchedule" })),
            ),
            ("no terms", required(json!([]))),
            (
                "an unknown operator",
                required(json!([{ "matchExpressions": [{ "key": "zone", "operator": "Near", "values": ["a"] }] }])),
            ),
            (
                "In without values",
                required(json!([{ "matchExpressions": [{ "key": "zone", "operator": "In" }] }])),
            ),
        ],
    )
    .await
}

async fn data_volume_templates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let size = json!({ "resources": { "requests": { "storage": "1Gi" } } });
    for (what, template) in [
        (
            "used by nothing",
            json!({ "metadata": { "name": "data" }, "spec": { "source": { "blank": {} }, "storage": size } }),
        ),
        (
            "without a size",
            json!({ "metadata": { "name": "data" }, "spec": { "source": { "blank": {} } } }),
        ),
        (
            "without a source",
            json!({ "metadata": { "name": "data" }, "spec": { "storage": size } }),
        ),
        (
            "with two storages",
            json!({ "metadata": { "name": "data" }, "spec": { "source": { "blank": {} }, "storage": size, "pvc": { "accessModes": ["ReadWriteOnce"] } } }),
        ),
    ] {
        let patch = json!({ "spec": { "runStrategy": "Halted", "dataVolumeTemplates": [template] } });
        let vm = changed(mk_vm("m"), patch);
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn reserved_labels(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for label in [
        "kubevirt.io/created-by",
        "kubevirt.io/nodeName",
        "kubevirt.io/migrationJobUID",
        "kubevirt.io/domain",
    ] {
        let patch =
            json!({ "spec": { "runStrategy": "Halted", "template": { "metadata": { "labels": { label: "x" } } } } });
        let name = format!("m-{}", label.rsplit('/').next().unwrap_or_default().to_lowercase());
        let vm = changed(mk_vm(&name), patch);
        t.note(label, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn wrong_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    tries(
        lab,
        t,
        &[
            ("text for a number", json!({ "domain": { "cpu": { "cores": "two" } } })),
            ("an object for a list", json!({ "volumes": { "boot": {} } })),
            ("a number for a text", json!({ "hostname": 7 })),
        ],
    )
    .await?;
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": true } }));
    t.note(
        "a truth for a text",
        &verdict(&create(lab, "virtualmachines", &vm).await?),
    );
    Ok(())
}

async fn unknown_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(
        mk_vm("m"),
        json!({ "spec": { "runStrategy": "Halted", "colour": "red", "template": { "spec": { "domain": { "wheels": 4 } } } } }),
    );
    let all = super::steps::path(lab, "virtualmachines", "");
    let strict = lab.post(&format!("{all}?fieldValidation=Strict"), &vm).await?;
    t.note("strict", &verdict(&strict));
    let plain = lab.post(&all, &vm).await?;
    t.note("not strict", &verdict(&plain));
    t.note(
        "what is left",
        &json!({ "colour": plain.body["spec"].get("colour"), "wheels": plain.body.pointer("/spec/template/spec/domain/wheels") }),
    );
    Ok(())
}

async fn long_names(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = "m".repeat(64);
    for (what, name) in [("64 characters", name.as_str()), ("capitals", "Machine")] {
        let vm = changed(mk_vm(name), json!({ "spec": { "runStrategy": "Halted" } }));
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn vmi_volumes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let volumes = json!([
        { "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } },
        { "name": "data", "emptyDisk": { "capacity": "1Gi" } },
    ]);
    let mut vmi = mk_vmi("m");
    vmi["spec"]["volumes"] = volumes;
    t.note(
        "a volume too many",
        &verdict(&create(lab, "virtualmachineinstances", &vmi).await?),
    );
    let vmi = changed(mk_vmi("m"), json!({ "spec": { "domain": { "memory": null } } }));
    t.note(
        "no memory",
        &verdict(&create(lab, "virtualmachineinstances", &vmi).await?),
    );
    let vmi = changed(mk_vmi("m"), json!({ "spec": { "architecture": "pdp11" } }));
    t.note(
        "an unknown architecture",
        &verdict(&create(lab, "virtualmachineinstances", &vmi).await?),
    );
    Ok(())
}

async fn vmi_spec(lab: &Lab, t: &mut Transcript) -> Result<()> {
    super::steps::made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let refused = merge(
        lab,
        "virtualmachineinstances",
        "m",
        &json!({ "spec": { "domain": { "cpu": { "cores": 2 } } } }),
    )
    .await?;
    t.note("another spec", &verdict(&refused));
    let refused = merge(
        lab,
        "virtualmachineinstances",
        "m",
        &json!({ "metadata": { "labels": { "kubevirt.io/nodeName": "elsewhere" } } }),
    )
    .await?;
    t.note("a reserved label", &verdict(&refused));
    let fine = merge(
        lab,
        "virtualmachineinstances",
        "m",
        &json!({ "metadata": { "labels": { "colour": "red" } } }),
    )
    .await?;
    t.note("a label of one's own", &verdict(&fine));
    Ok(())
}

async fn vmi_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    super::steps::made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let patch = json!({ "metadata": { "labels": { "colour": "red" } }, "status": { "phase": "Failed" } });
    let answer = merge(lab, "virtualmachineinstances", "m", &patch).await?;
    t.note("a label and a status", &verdict(&answer));
    t.note(
        "what came of it",
        &json!({ "colour": answer.body["metadata"]["labels"]["colour"], "phase": text(&answer.body, "/status/phase") }),
    );
    Ok(())
}

async fn updates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": "Halted" } }));
    super::steps::made(lab, "virtualmachines", &vm).await?;
    let bad = json!({ "spec": { "template": { "spec": { "hostname": "Bad Name" } } } });
    t.note(
        "a bad host name",
        &verdict(&merge(lab, "virtualmachines", "m", &bad).await?),
    );
    let both = json!({ "spec": { "running": true } });
    t.note(
        "a second run strategy",
        &verdict(&merge(lab, "virtualmachines", "m", &both).await?),
    );
    let good = json!({ "spec": { "template": { "spec": { "hostname": "good" } } } });
    t.note(
        "a good host name",
        &verdict(&merge(lab, "virtualmachines", "m", &good).await?),
    );
    Ok(())
}
