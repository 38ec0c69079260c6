//! What is rendered.

use steading_infra::crd::machine_template::{AdditionalDiskSpec, CpuSpec, RootDiskSpec};

use super::*;
use crate::domain::{ImageSpec, Size, machine::ResolvedImage};

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
        instance_type: Some((
            "standard-2".into(),
            Size {
                vcpus: 2,
                memory: "8Gi".into(),
                ..Size::default()
            },
        )),
        preference: Some(("sockets-advantage".into(), json!({}))),
        images: [(
            "images/ubuntu".to_owned(),
            ResolvedImage {
                data_source: "ubuntu".into(),
                spec: ImageSpec {
                    size: "10Gi".into(),
                    ..ImageSpec::default()
                },
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
fn keys_join_the_user_data() {
    let mut spec = mk_spec();
    assert_eq!(user_data(&spec), "");
    spec.ssh_authorized_keys = vec!["ssh-ed25519 AAAA me".into()];
    assert_eq!(
        user_data(&spec),
        "#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA me\"\n"
    );
    spec.user_data = "#cloud-config\npackages: [jq]\n".into();
    assert!(user_data(&spec).starts_with("#cloud-config\npackages: [jq]\nssh_authorized_keys:"));
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
