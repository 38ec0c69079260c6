//! A batch as one JSON patch, guarded by `test`s of what was read: the object's uid, its fence, and both lists.
//!
//! Both lists are atomic in KubeVirt's schema and have other writers, so neither is ever replaced: elements are taken out
//! from the back and put in at the end, and if either list is another one meanwhile, nothing happens at all. The fence is
//! tested so that what was decided before a volume was given elsewhere cannot take effect afterwards, and raised by each
//! patch that takes something off; see [`crate::domain::placement`].

use json_patch::Patch;
use serde_json::{Value, json};
use steading_infra::{apply::PatchBuilder, labels};

use super::{machine::Attach, refusal::Batch};

const UID: &[&str] = &["metadata", "uid"];
const VERSION: &[&str] = &["metadata", "resourceVersion"];
const ANNOTATIONS: &[&str] = &["metadata", "annotations"];
const FENCE: &[&str] = &["metadata", "annotations", labels::VOLUME_FENCE];
const VOLUMES: &[&str] = &["spec", "template", "spec", "volumes"];
const DEVICES: &[&str] = &["spec", "template", "spec", "domain", "devices"];
const DISKS: &[&str] = &["spec", "template", "spec", "domain", "devices", "disks"];

/// The patch that carries out a batch on the virtual machine as it was read; `None` if there is nothing to do.
pub fn render(vm: &Value, batch: &Batch) -> Option<Patch> {
    if batch.is_empty() {
        return None;
    }
    let mut builder = guard(vm);
    if at(vm, DEVICES).is_none() {
        builder = builder.add(DEVICES, json!({}));
    }
    if !batch.detach.is_empty() {
        builder = raise(builder, vm);
    }
    let removed: Vec<&str> = batch.detach.iter().map(|detach| detach.disk.as_str()).collect();
    builder = edit_list(
        builder,
        vm,
        VOLUMES,
        &removed,
        batch.attach.iter().map(volume).collect(),
    );
    builder = edit_list(builder, vm, DISKS, &removed, batch.attach.iter().map(disk).collect());
    Some(builder.build())
}

/// The patch that raises the fence of a virtual machine, and nothing else.
pub fn render_fence(vm: &Value) -> Patch {
    raise(guard(vm), vm).build()
}

/// Whether two reads of a virtual machine differ in what patches test: then a refused patch may just have come too late.
pub fn is_moved(before: &Value, after: &Value) -> bool {
    let tested = [UID, FENCE, VOLUMES, DISKS];
    let moved = |path: &&[&str]| at(before, path) != at(after, path);
    tested.iter().any(moved) || (needs_version(before) && at(before, VERSION) != at(after, VERSION))
}

/// The fence of a virtual machine; 0 before it was raised for the first time.
pub fn fence(vm: &Value) -> u64 {
    let text = at(vm, FENCE).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What is not there cannot be tested: the version stands for it then.
fn needs_version(vm: &Value) -> bool {
    [FENCE, VOLUMES, DISKS].iter().any(|path| at(vm, path).is_none())
}

fn guard(vm: &Value) -> PatchBuilder {
    let mut builder = PatchBuilder::new();
    let tested: &[&[&str]] = if needs_version(vm) {
        &[UID, VERSION]
    } else {
        &[UID, FENCE]
    };
    for path in tested {
        if let Some(value) = at(vm, path) {
            builder = builder.test(path, value.clone());
        }
    }
    builder
}

fn raise(builder: PatchBuilder, vm: &Value) -> PatchBuilder {
    let builder = if at(vm, ANNOTATIONS).is_none() {
        builder.add(ANNOTATIONS, json!({}))
    } else {
        builder
    };
    builder.add(FENCE, fence(vm).saturating_add(1).to_string())
}

fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

fn edit_list(builder: PatchBuilder, vm: &Value, list_path: &[&str], remove: &[&str], add: Vec<Value>) -> PatchBuilder {
    let Some(list) = at(vm, list_path).and_then(Value::as_array) else {
        return if add.is_empty() {
            builder
        } else {
            builder.add(list_path, add)
        };
    };
    let mut edit = builder.test(list_path, list.clone());
    for (position, item) in list.iter().enumerate().rev() {
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
        if remove.contains(&name) {
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
    use crate::{domain::volume::Bus, plan::machine::Detach};

    fn mk_vm() -> Value {
        json!({
            "metadata": {"resourceVersion": "7", "uid": "u", "annotations": {"steading.dev/volume-fence": "4"}},
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

    fn mk_batch() -> Batch {
        let attach = Attach {
            disk: "vol-new".into(),
            claim: "new".into(),
            serial: "0123456789abcdef0123".into(),
            bus: Bus::Scsi,
        };
        Batch {
            attach: vec![attach],
            detach: vec![Detach {
                disk: "vol-old".into(),
                volume: "old".into(),
            }],
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
        let patch = render(&vm, &mk_batch()).expect("something to do");
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
        let patch = render(&mk_vm(), &mk_batch()).expect("something to do");
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
        let patch = render(&vm, &mk_batch()).expect("something to do");
        json_patch::patch(&mut vm, &patch).expect("applies");
        assert_eq!(
            (names(&vm, VOLUMES), names(&vm, DISKS)),
            (vec!["vol-new".to_owned()], vec!["vol-new".to_owned()])
        );
    }

    #[test]
    fn a_patch_from_before_the_fence_was_raised_takes_no_effect() {
        let mut batch = mk_batch();
        batch.detach.clear();
        let early = render(&mk_vm(), &batch).expect("something to do");
        let mut vm = mk_vm();
        json_patch::patch(&mut vm, &render_fence(&mk_vm())).expect("raised");
        assert_eq!((fence(&mk_vm()), fence(&vm)), (4, 5));
        assert!(json_patch::patch(&mut vm, &early).is_err());
        let mut another = mk_vm();
        another["metadata"]["uid"] = json!("other");
        assert!(
            json_patch::patch(&mut another, &early).is_err(),
            "a later machine of the name"
        );
    }

    #[test]
    fn a_machine_that_was_never_fenced_is_tested_by_its_version() {
        let bare = |version: &str| {
            let mut vm = mk_vm();
            vm["metadata"] = json!({"resourceVersion": version, "uid": "u"});
            vm
        };
        let patch = render_fence(&bare("7"));
        let mut vm = bare("7");
        json_patch::patch(&mut vm, &patch).expect("raised");
        assert_eq!(fence(&vm), 1);
        assert!(json_patch::patch(&mut bare("8"), &patch).is_err());
        assert!(is_moved(&bare("7"), &bare("8")) && !is_moved(&bare("7"), &bare("7")));
    }

    #[test]
    fn taking_a_disk_off_raises_the_fence_and_putting_one_on_does_not() {
        let mut vm = mk_vm();
        json_patch::patch(&mut vm, &render(&mk_vm(), &mk_batch()).expect("a patch")).expect("applies");
        assert_eq!(fence(&vm), 5);
        let mut batch = mk_batch();
        batch.detach.clear();
        let mut vm = mk_vm();
        json_patch::patch(&mut vm, &render(&mk_vm(), &batch).expect("a patch")).expect("applies");
        assert_eq!(fence(&vm), 4);
    }
}
