//! What is rendered.

use steading_infra::crd::machine_template::{AdditionalDiskSpec, CpuSpec, RootDiskSpec};

use super::*;
use crate::domain::machine::{CatalogueEntry, ResolvedImage};

fn mk_machine() -> Machine {
    Machine {
        name: "workers-x7k2p".into(),
        namespace: "acme--web".into(),
        labels: [
            ("steading.dev/project", "acme"),
            ("steading.dev/cluster", "web"),
            ("steading.dev/pool", "workers"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
        user_data_secret: "workers-x7k2p-userdata".into(),
        placement: serde_json::from_value(json!({"topologySpreadConstraints": [{"maxSkew": 1}]})).expect("an object"),
        ..Machine::default()
    }
}

fn mk_spec() -> MachineTemplateSpec {
    MachineTemplateSpec {
        instance_type: Some("instanceTypes/standard-2".into()),
        root_disk: RootDiskSpec {
            image: Some("images/ubuntu".into()),
            ..RootDiskSpec::default()
        },
        ..MachineTemplateSpec::default()
    }
}

fn mk_resolved() -> Resolved {
    Resolved {
        instance_type: Some(CatalogueEntry {
            name: "instanceTypes/standard-2".into(),
            object: "standard-2".into(),
            spec: json!({"cpu": {"guest": 2}, "memory": {"guest": "8Gi"}}),
        }),
        preference: Some(CatalogueEntry {
            name: "preferences/sockets-advantage".into(),
            object: "sockets-advantage".into(),
            spec: json!({}),
        }),
        images: [(
            "images/ubuntu".to_owned(),
            ResolvedImage {
                data_source: "ubuntu".into(),
                content: "0123456789".into(),
                size: "10Gi".into(),
            },
        )]
        .into(),
    }
}

#[test]
fn a_small_template_renders_a_whole_machine() {
    insta::assert_json_snapshot!(render(&mk_spec(), &mk_resolved(), &mk_machine()));
}

#[test]
fn replacing_the_name_in_its_places_gives_the_rendering_of_another_machine() {
    let mut spec = mk_spec();
    spec.disks = vec![AdditionalDiskSpec {
        name: "scratch".into(),
        size: "5Gi".into(),
        ..AdditionalDiskSpec::default()
    }];
    let (resolved, machine) = (mk_resolved(), mk_machine());
    let mut vm = render(&spec, &resolved, &machine);
    for path in name_paths(&spec, &resolved, &machine) {
        let value = vm.pointer_mut(&path).expect("the path exists");
        let text = value.as_str().expect("a text");
        assert!(text.contains(&machine.name), "{path}: {text}");
        *value = json!(text.replace(&machine.name, "workers-other"));
    }
    assert_eq!(vm, render(&spec, &resolved, &rename(&machine, "workers-other")));
    assert!(!vm.to_string().contains("x7k2p"));
}

#[test]
fn inline_hardware_is_rendered_only_without_an_instance_type() {
    let spec = MachineTemplateSpec {
        instance_type: None,
        cpu: Some(CpuSpec {
            cores: 2,
            sockets: 2,
            threads: 1,
            ..CpuSpec::default()
        }),
        memory: Some("4Gi".into()),
        ..mk_spec()
    };
    let resolved = Resolved {
        instance_type: None,
        preference: None,
        ..mk_resolved()
    };
    let vm = render(&spec, &resolved, &mk_machine());
    assert_eq!(vm.pointer("/spec/template/spec/domain/cpu/sockets"), Some(&json!(2)));
    assert_eq!(
        vm.pointer("/spec/template/spec/domain/memory/guest"),
        Some(&json!("4Gi"))
    );
    assert_eq!(vm.pointer("/spec/instancetype"), None);
    assert_eq!(size(&spec, &resolved).vcpus, 4);
    let with_type = render(&mk_spec(), &mk_resolved(), &mk_machine());
    assert_eq!(with_type.pointer("/spec/template/spec/domain/memory"), None);
}

#[test]
fn keys_join_the_user_data_and_leave_it_as_it_is() {
    let mut spec = mk_spec();
    assert_eq!(user_data(&spec), "");
    spec.ssh_authorized_keys = vec!["ssh-ed25519 AAAA me".into()];
    let keys = "#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA me\"\n";
    assert_eq!(user_data(&spec), keys);
    for own in [
        "#cloud-config\npackages: [jq]\nssh_authorized_keys: [b]\n",
        "#!/bin/sh\necho hi",
    ] {
        spec.user_data = own.into();
        let parts = steading_cloudinit::read(&user_data(&spec)).expect("readable");
        let contents: Vec<&str> = parts.iter().map(|part| part.content.as_str()).collect();
        assert_eq!(contents, [own, keys]);
    }
}

#[test]
fn a_revision_makes_the_same_machine_after_the_catalogue_has_changed() {
    let before = mk_resolved();
    let vm = render(&mk_spec(), &before, &mk_machine());
    // A revision renders from what it keeps: nothing in the machine is looked up by a name that can get another meaning.
    let disk = vm.pointer("/spec/dataVolumeTemplates/0/spec").expect("a disk");
    assert_eq!(disk.pointer("/sourceRef"), None);
    assert_eq!(disk.pointer("/source/pvc/name"), Some(&json!("ubuntu-0123456789")));
    let mut after = before.clone();
    after.instance_type.as_mut().expect("a type").spec = json!({"cpu": {"guest": 4}, "memory": {"guest": "8Gi"}});
    let changed = render(&mk_spec(), &after, &mk_machine());
    assert_ne!(vm.pointer("/spec/instancetype"), changed.pointer("/spec/instancetype"));
}

#[test]
fn differences_are_json_pointers() {
    let mut found = Vec::new();
    differences(
        "",
        &json!({"a/b": [1, 2], "c": 1}),
        &json!({"a/b": [1], "c": 2}),
        &mut |path, _, to| {
            found.push((path.to_owned(), to.cloned()));
        },
    );
    assert_eq!(found, [("/a~1b/1".to_owned(), None), ("/c".to_owned(), Some(json!(2)))]);
}
