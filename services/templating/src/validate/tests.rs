//! Which templates are refused, and with which paths.

use steading_infra::crd::machine_template::{CpuSpec, PvcSource};

use super::*;

fn mk_project() -> Id {
    Id::parse("acme").expect("an id")
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

fn paths(spec: &MachineTemplateSpec) -> Vec<String> {
    validate(&mk_project(), spec)
        .err()
        .into_iter()
        .flatten()
        .map(|v| v.path)
        .collect()
}

#[test]
fn a_small_template_is_valid() {
    assert_eq!(validate(&mk_project(), &mk_spec()), Ok(()));
}

#[test]
fn every_fault_is_told_with_its_path() {
    let mut spec = mk_spec();
    spec.cpu = Some(CpuSpec {
        cores: 0,
        sockets: 1,
        threads: 1,
        isolate_emulator_thread: true,
        ..CpuSpec::default()
    });
    spec.root_disk.pvc = Some(PvcSource::default());
    spec.root_disk.size = Some("x".into());
    spec.disks = vec![
        AdditionalDiskSpec {
            name: "root".into(),
            size: "1Gi".into(),
            ..AdditionalDiskSpec::default()
        },
        AdditionalDiskSpec {
            name: "Data".into(),
            size: "0".into(),
            serial: Some("a".repeat(21)),
            ..AdditionalDiskSpec::default()
        },
    ];
    spec.user_data = "echo".into();
    spec.machine_labels
        .insert("steading.dev/project".into(), "other".into());
    spec.ssh_authorized_keys = vec!["nonsense".into()];
    assert_eq!(
        paths(&spec),
        [
            "cpu",
            "memory",
            "cpu",
            "cpu.isolate_emulator_thread",
            "root_disk.source",
            "root_disk.pvc.namespace",
            "root_disk.pvc.name",
            "root_disk.size",
            "disks[0].name",
            "disks[1].name",
            "disks[1].size",
            "disks[1].serial",
            "user_data",
            "ssh_authorized_keys[0]",
            "machine_labels"
        ]
    );
}

fn message(spec: &MachineTemplateSpec) -> String {
    validate(&mk_project(), spec).map_or_else(|all| all.to_string(), |()| String::new())
}

#[test]
fn a_template_may_not_clone_a_claim_of_another_project() {
    let with = |namespace: &str| {
        let mut spec = mk_spec();
        spec.root_disk = RootDiskSpec {
            pvc: Some(PvcSource {
                namespace: namespace.into(),
                name: "data".into(),
            }),
            size: Some("20Gi".into()),
            ..RootDiskSpec::default()
        };
        paths(&spec)
    };
    assert_eq!(with("acme--prod"), [""; 0]);
    for foreign in [
        "other--prod",
        "acme",
        "acme--",
        "acme2--prod",
        "acme--a--b",
        "steading-system",
        "",
    ] {
        assert_eq!(with(foreign), ["root_disk.pvc.namespace"], "{foreign}");
    }
}

#[test]
fn memory_is_whole_bytes_between_a_floor_and_a_ceiling() {
    for bad in ["512m", "1Mi", "1E", "0", "-1Gi", "1.5", "64Ei"] {
        let spec = MachineTemplateSpec {
            instance_type: None,
            memory: Some(bad.into()),
            ..mk_spec()
        };
        assert_eq!(paths(&spec), ["memory"], "{bad}");
    }
    for good in ["64Mi", "1.5Gi", "8G", "12Ti"] {
        let spec = MachineTemplateSpec {
            instance_type: None,
            memory: Some(good.into()),
            ..mk_spec()
        };
        assert_eq!(message(&spec), "", "{good}");
    }
    let mut spec = mk_spec();
    spec.root_disk.size = Some("10E".into());
    assert_eq!(paths(&spec), ["root_disk.size"]);
    let foreign = Resolved {
        instance_type: Some(CatalogueEntry {
            spec: serde_json::json!({"cpu": {"guest": 1}, "memory": {"guest": "512m"}}),
            ..CatalogueEntry::default()
        }),
        ..Resolved::default()
    };
    let refused = validate_resolved(&mk_spec(), &foreign).expect_err("an instance type of half a byte");
    assert_eq!(
        refused.iter().next().map(|v| v.path.as_str()),
        Some("instance_type.memory")
    );
}

#[test]
fn broken_user_data_is_refused_with_its_field() {
    for bad in [
        "#cloud-config\nruncmd:\n\t- echo hi\n",
        "#cloud-config\n- packages: [jq]\n",
        "#cloud-config\na: 1\n---\nb: 2\n",
        "echo",
    ] {
        let spec = MachineTemplateSpec {
            user_data: bad.into(),
            ..mk_spec()
        };
        assert_eq!(paths(&spec), ["user_data"], "{bad}");
    }
    let spec = MachineTemplateSpec {
        user_data: "#cloud-config\nssh_authorized_keys: [a]\nssh_authorized_keys: [b]\nkey: !!binary aGk=\n".into(),
        ssh_authorized_keys: vec!["ssh-ed25519 AAAA me".into()],
        ..mk_spec()
    };
    assert_eq!(message(&spec), "");
}
