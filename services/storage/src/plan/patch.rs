//! A machine's plan as one JSON patch, guarded by `test`s of the two lists as they were read.
//!
//! Both lists are atomic in KubeVirt's schema and have other writers, so neither is ever replaced: elements are taken out
//! from the back and put in at the end, and if either list is another one meanwhile, nothing happens at all.

use json_patch::Patch;
use serde_json::{Value, json};
use steading_infra::apply::PatchBuilder;

use super::machine::{Attach, MachinePlan};

const VOLUMES: &[&str] = &["spec", "template", "spec", "volumes"];
const DEVICES: &[&str] = &["spec", "template", "spec", "domain", "devices"];
const DISKS: &[&str] = &["spec", "template", "spec", "domain", "devices", "disks"];

/// The patch that carries out `plan` on the virtual machine as it was read; `None` if there is nothing to do.
pub fn render(vm: &Value, plan: &MachinePlan) -> Option<Patch> {
    if plan.is_empty() {
        return None;
    }
    let mut builder = PatchBuilder::new();
    if at(vm, DEVICES).is_none() {
        // There is no list to test: the version stands for it.
        let version = at(vm, &["metadata", "resourceVersion"])?.clone();
        builder = builder
            .test(&["metadata", "resourceVersion"], version)
            .add(DEVICES, json!({}));
    }
    builder = edit_list(
        builder,
        vm,
        VOLUMES,
        &plan.detach,
        plan.attach.iter().map(volume).collect(),
    );
    builder = edit_list(builder, vm, DISKS, &plan.detach, plan.attach.iter().map(disk).collect());
    Some(builder.build())
}

fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

fn edit_list(
    builder: PatchBuilder,
    vm: &Value,
    list_path: &[&str],
    remove: &[String],
    add: Vec<Value>,
) -> PatchBuilder {
    let Some(list) = at(vm, list_path).and_then(Value::as_array) else {
        if add.is_empty() {
            return builder;
        }
        let guarded = match at(vm, &["metadata", "resourceVersion"]) {
            Some(version) => builder.test(&["metadata", "resourceVersion"], version.clone()),
            None => builder,
        };
        return guarded.add(list_path, add);
    };
    let mut edit = builder.test(list_path, list.clone());
    for (position, item) in list.iter().enumerate().rev() {
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
        if remove.iter().any(|removed| removed == name) {
            let position = position.to_string();
            edit = edit.remove(&[list_path, &[position.as_str()]].concat());
        }
    }
    for item in add {
        edit = edit.add(&[list_path, &["-"]].concat(), item);
    }
    edit
}

fn volume(attach: &Attach) -> Value {
    json!({"name": attach.disk, "dataVolume": {"name": attach.claim, "hotpluggable": true}})
}

fn disk(attach: &Attach) -> Value {
    json!({"name": attach.disk, "serial": attach.serial, "disk": {"bus": attach.bus.as_str()}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::volume::Bus;

    fn mk_vm() -> Value {
        json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"template": {"spec": {
                "domain": {"devices": {"disks": [
                    {"name": "root", "disk": {"bus": "virtio"}},
                    {"name": "vol-old", "serial": "6f9619ff8b86d011b42d", "disk": {"bus": "scsi"}},
                    {"name": "cloudinit", "disk": {}}]}},
                "volumes": [
                    {"name": "root", "containerDisk": {"image": "i"}},
                    {"name": "vol-old", "dataVolume": {"name": "old", "hotpluggable": true}},
                    {"name": "cloudinit", "cloudInitNoCloud": {}}]}}}
        })
    }

    fn mk_plan() -> MachinePlan {
        let attach = Attach {
            disk: "vol-new".into(),
            claim: "new".into(),
            serial: "0123456789abcdef0123".into(),
            bus: Bus::Scsi,
        };
        MachinePlan {
            attach: vec![attach],
            detach: vec!["vol-old".into()],
            held: Vec::new(),
        }
    }

    fn names(vm: &Value, path: &[&str]) -> Vec<String> {
        let list = at(vm, path).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter()
            .map(|v| v["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn one_patch_takes_out_and_puts_in() {
        let mut vm = mk_vm();
        let patch = render(&vm, &mk_plan()).expect("something to do");
        json_patch::patch(&mut vm, &patch).expect("applies");
        assert_eq!(names(&vm, VOLUMES), ["root", "cloudinit", "vol-new"]);
        assert_eq!(names(&vm, DISKS), ["root", "cloudinit", "vol-new"]);
        assert_eq!(
            at(&vm, DISKS).expect("disks")[2],
            json!({"name": "vol-new", "serial": "0123456789abcdef0123", "disk": {"bus": "scsi"}})
        );
    }

    #[test]
    fn nothing_happens_when_somebody_else_wrote_meanwhile() {
        let patch = render(&mk_vm(), &mk_plan()).expect("something to do");
        for path in [
            "/spec/template/spec/volumes",
            "/spec/template/spec/domain/devices/disks",
        ] {
            let mut vm = mk_vm();
            vm.pointer_mut(path)
                .and_then(Value::as_array_mut)
                .expect("a list")
                .push(json!({"name": "theirs"}));
            let before = vm.clone();
            assert!(json_patch::patch(&mut vm, &patch).is_err());
            assert_eq!(vm, before);
        }
    }

    #[test]
    fn missing_lists_are_made() {
        let mut vm = json!({"metadata": {"resourceVersion": "7"}, "spec": {"template": {"spec": {"domain": {}}}}});
        let patch = render(&vm, &mk_plan()).expect("something to do");
        json_patch::patch(&mut vm, &patch).expect("applies");
        assert_eq!(
            (names(&vm, VOLUMES), names(&vm, DISKS)),
            (vec!["vol-new".to_owned()], vec!["vol-new".to_owned()])
        );
    }
}
