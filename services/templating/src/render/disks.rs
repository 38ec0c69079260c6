//! Disks: DataVolumes, and the volumes and disks that use them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use steading_infra::{
    crd::machine_template::{AdditionalDiskSpec, MachineTemplateSpec, RootDiskSpec},
    labels,
};
use steading_model::quantity::Quantity;

use crate::domain::{Machine, Resolved};

/// Size of the root disk: the template's or the image's.
pub fn root_size(spec: &MachineTemplateSpec, resolved: &Resolved) -> String {
    let of_image = || {
        spec.root_disk
            .image
            .as_ref()
            .and_then(|i| resolved.images.get(i))
            .map(|i| i.size.clone())
    };
    spec.root_disk.size.clone().or_else(of_image).unwrap_or_default()
}

/// Sum of all disks of the template.
pub fn local_storage(spec: &MachineTemplateSpec, resolved: &Resolved) -> Quantity {
    let sizes = spec
        .disks
        .iter()
        .map(|d| d.size.clone())
        .chain([root_size(spec, resolved)]);
    sizes
        .filter_map(|s| s.parse::<Quantity>().ok())
        .fold(Quantity::from_bytes(0), Quantity::saturating_add)
}

fn disk_name(machine: &Machine, disk: &str) -> String {
    format!("{}-{disk}", machine.name)
}

pub(super) fn data_volume_templates(
    spec: &MachineTemplateSpec,
    resolved: &Resolved,
    machine: &Machine,
    all_labels: &BTreeMap<String, String>,
) -> Vec<Value> {
    let template = |disk: &str, body: Value| {
        json!({"metadata": {"name": disk_name(machine, disk), "labels": all_labels,
            "annotations": {labels::CDI_DELETE_AFTER_COMPLETION: "false"}}, "spec": body})
    };
    let root = &spec.root_disk;
    let mut body = storage(
        &root_size(spec, resolved),
        root.storage_class.as_deref(),
        root.access_mode.as_deref(),
        root.volume_mode.as_deref(),
    );
    body.extend(root_source(root, resolved));
    if root.preallocation {
        body.insert("preallocation".into(), json!(true));
    }
    let mut all = vec![template("root", Value::Object(body))];
    for disk in &spec.disks {
        let mut body = storage(
            &disk.size,
            disk.storage_class.as_deref(),
            disk.access_mode.as_deref(),
            disk.volume_mode.as_deref(),
        );
        body.extend(match disk.image.as_ref().and_then(|i| image_source(i, resolved)) {
            Some(source) => source,
            None => Map::from_iter([("source".to_owned(), json!({"blank": {}}))]),
        });
        all.push(template(&disk.name, Value::Object(body)));
    }
    all
}

fn storage(size: &str, class: Option<&str>, access: Option<&str>, mode: Option<&str>) -> Map<String, Value> {
    let mut storage = Map::from_iter([("resources".to_owned(), json!({"requests": {"storage": size}}))]);
    if let Some(class) = class {
        storage.insert("storageClassName".into(), json!(class));
    }
    if let Some(access) = access {
        storage.insert("accessModes".into(), json!([access]));
    }
    if let Some(mode) = mode {
        storage.insert("volumeMode".into(), json!(mode));
    }
    Map::from_iter([("storage".to_owned(), Value::Object(storage))])
}

fn root_source(root: &RootDiskSpec, resolved: &Resolved) -> Map<String, Value> {
    if let Some(source) = root.image.as_ref().and_then(|i| image_source(i, resolved)) {
        return source;
    }
    let source = if let Some(http) = &root.http {
        json!({"http": http_source(http)})
    } else if let Some(registry) = &root.registry {
        json!({"registry": registry_source(registry)})
    } else {
        json!({"pvc": root.pvc})
    };
    Map::from_iter([("source".to_owned(), source)])
}

fn image_source(image: &str, resolved: &Resolved) -> Option<Map<String, Value>> {
    let image = resolved.images.get(image)?;
    // Not the DataSource, which moves to the next content: a revision makes the same disk for as long as it makes any.
    let claim = json!({"name": image.volume(), "namespace": labels::SYSTEM_NAMESPACE});
    Some(Map::from_iter([("source".to_owned(), json!({"pvc": claim}))]))
}

/// CDI's form of a source by HTTP.
pub fn http_source(source: &steading_infra::crd::machine_template::HttpSource) -> Value {
    let mut http = Map::from_iter([("url".to_owned(), json!(source.url))]);
    let fields = [
        ("secretRef", source.secret.as_ref().map(|v| json!(v))),
        ("certConfigMap", source.cert_config_map.as_ref().map(|v| json!(v))),
        ("checksum", source.checksum.as_ref().map(|v| json!(v))),
        (
            "extraHeaders",
            Some(json!(source.extra_headers)).filter(|_| !source.extra_headers.is_empty()),
        ),
        (
            "secretExtraHeaders",
            Some(json!(source.secret_extra_headers)).filter(|_| !source.secret_extra_headers.is_empty()),
        ),
    ];
    http.extend(
        fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    Value::Object(http)
}

/// CDI's form of a source in a registry.
pub fn registry_source(source: &steading_infra::crd::machine_template::RegistrySource) -> Value {
    let mut registry = Map::from_iter([("url".to_owned(), json!(source.url))]);
    let fields = [
        ("pullMethod", source.pull_method.as_ref().map(|v| json!(v))),
        ("secretRef", source.secret.as_ref().map(|v| json!(v))),
        ("certConfigMap", source.cert_config_map.as_ref().map(|v| json!(v))),
        (
            "platform",
            source.architecture.as_ref().map(|v| json!({"architecture": v})),
        ),
    ];
    registry.extend(
        fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    Value::Object(registry)
}

pub(super) fn volumes(spec: &MachineTemplateSpec, machine: &Machine) -> Vec<Value> {
    let volume = |disk: &str| json!({"name": disk, "dataVolume": {"name": disk_name(machine, disk)}});
    let cloud_init =
        json!({"name": "cloudinit", "cloudInitNoCloud": {"secretRef": {"name": machine.user_data_secret}}});
    let mut all = vec![volume("root"), cloud_init];
    all.extend(spec.disks.iter().map(|disk| volume(&disk.name)));
    all
}

/// Disks in the order of the volumes. A bus that neither template nor preference names is virtio.
pub(super) fn disks(spec: &MachineTemplateSpec, preferred_bus: bool) -> Vec<Value> {
    let target = |bus: Option<&str>| match bus {
        Some(bus) => json!({"bus": bus}),
        None if preferred_bus => json!({}),
        None => json!({"bus": "virtio"}),
    };
    let root = &spec.root_disk;
    let mut boot = json!({"name": "root", "disk": target(root.bus.as_deref()), "bootOrder": 1});
    if let Some(cache) = &root.cache {
        boot["cache"] = json!(cache);
    }
    if root.dedicated_io_thread {
        boot["dedicatedIOThread"] = json!(true);
    }
    let mut all = vec![boot, json!({"name": "cloudinit", "disk": {"bus": "virtio"}})];
    all.extend(spec.disks.iter().map(|disk: &AdditionalDiskSpec| {
        let mut each = json!({"name": disk.name, "disk": target(disk.bus.as_deref()),
            "serial": disk.serial.as_ref().unwrap_or(&disk.name)});
        if disk.dedicated_io_thread {
            each["dedicatedIOThread"] = json!(true);
        }
        each
    }));
    all
}
