//! Which templates are valid. What passes can be rendered without fail. Paths are those of the message `MachineTemplate`.

use std::collections::BTreeSet;

use steading_infra::crd::machine_template::{
    AdditionalDiskSpec, Binding, InterfaceSpec, MachineTemplateSpec, RootDiskSpec,
};
use steading_model::{
    ids::Id,
    name::{ImageName, InstanceTypeName, PreferenceName},
    quantity::Quantity,
    violation::Violations,
};

use crate::domain::{Resolved, machine::CatalogueEntry, revision::MAX_HISTORY};

mod amount;
mod image;
mod source;

pub(crate) use amount::{disk_size, memory_size};
pub use image::image;

use source::{claim_of, http_source, registry_source, secret_of_user};

/// Most entries of any list of a template: KubeVirt has fewer slots for disks and cards than that.
const MAX_ENTRIES: usize = 24;
/// Most SSH keys: they are part of each machine's user data.
const MAX_KEYS: usize = 64;
/// Longest SSH key: an RSA key of 16,384 bits has some 2,800 bytes.
const MAX_KEY: usize = 4096;
/// Most vCPUs of a machine.
const MAX_VCPUS: u32 = 512;

/// Checks everything that can be told from a project's template alone.
///
/// # Errors
/// Every rule that it breaks.
pub fn validate(project: &Id, spec: &MachineTemplateSpec) -> Result<(), Violations> {
    let mut all = Violations::new();
    size(&mut all, spec);
    root_disk(&mut all, project, &spec.root_disk);
    let mut names = BTreeSet::from(["root", "cloudinit"]);
    all.require(
        spec.disks.len() <= MAX_ENTRIES,
        "disks",
        format!("must have at most {MAX_ENTRIES} entries"),
    );
    for (index, disk) in spec.disks.iter().enumerate() {
        let path = format!("disks[{index}]");
        all.require(
            names.insert(&disk.name),
            format!("{path}.name"),
            "is taken by another disk",
        );
        additional_disk(&mut all, &path, disk);
    }
    interfaces(&mut all, &spec.interfaces);
    user_data(&mut all, spec);
    for (field, map) in [
        ("machine_labels", &spec.machine_labels),
        ("machine_annotations", &spec.machine_annotations),
    ] {
        for key in map
            .keys()
            .filter(|k| k.starts_with("steading.dev/") || k.starts_with("kubevirt.io/"))
        {
            all.add(field, format!("{key:?} does not belong to users"));
        }
    }
    if let Some(limit) = spec.revision_history_limit {
        all.require(
            (0..=MAX_HISTORY).contains(&limit),
            "revision_history_limit",
            format!("must be 0 to {MAX_HISTORY}"),
        );
    }
    if let Some(policy) = spec.dns_policy.as_deref() {
        all.require(
            matches!(policy, "ClusterFirst" | "Default" | "None"),
            "dns_policy",
            "is not known",
        );
        let servers = spec
            .dns_config
            .as_ref()
            .and_then(|c| c.nameservers.as_ref())
            .map_or(0, Vec::len);
        all.require(
            policy != "None" || servers > 0,
            "dns_config.nameservers",
            "must not be empty with DNS policy NONE",
        );
        all.require(servers <= 3, "dns_config.nameservers", "must have at most 3 entries");
    }
    if let Some(period) = spec.termination_grace_period_seconds {
        all.require(
            (0..=3600).contains(&period),
            "termination_grace_period",
            "must be 0 to 3600 seconds",
        );
    }
    all.finish()
}

fn size(all: &mut Violations, spec: &MachineTemplateSpec) {
    if let Some(name) = &spec.instance_type {
        all.take("instance_type", name.parse::<InstanceTypeName>());
        let inline = [
            ("cpu", spec.cpu.is_some()),
            ("memory", spec.memory.is_some()),
            ("gpus", !spec.gpus.is_empty()),
            ("host_devices", !spec.host_devices.is_empty()),
            ("io_threads_policy", spec.io_threads_policy.is_some()),
        ];
        for (field, set) in inline {
            all.require(!set, field, "must not be set together with instance_type");
        }
    }
    if let Some(name) = &spec.preference {
        all.take("preference", name.parse::<PreferenceName>());
    }
    all.require(
        spec.cpu.is_none() || spec.memory.is_some(),
        "memory",
        "must be set together with cpu",
    );
    if let Some(memory) = &spec.memory {
        memory_size(all, "memory", memory);
    }
    if let Some(cpu) = &spec.cpu {
        let vcpus = u64::from(cpu.cores) * u64::from(cpu.sockets) * u64::from(cpu.threads);
        all.require(
            (1..=u64::from(MAX_VCPUS)).contains(&vcpus),
            "cpu",
            format!("must have 1 to {MAX_VCPUS} vCPUs, has {vcpus}"),
        );
        let pinned = cpu.dedicated_cpu_placement;
        all.require(
            !cpu.isolate_emulator_thread || pinned,
            "cpu.isolate_emulator_thread",
            "needs dedicated_cpu_placement",
        );
        all.require(
            !cpu.numa_guest_mapping_passthrough || (pinned && cpu.hugepages_page_size.is_some()),
            "cpu.numa_guest_mapping_passthrough",
            "needs dedicated_cpu_placement and hugepages_page_size",
        );
    }
}

fn root_disk(all: &mut Violations, project: &Id, disk: &RootDiskSpec) {
    let sources = [
        disk.image.is_some(),
        disk.http.is_some(),
        disk.registry.is_some(),
        disk.pvc.is_some(),
    ];
    all.require(
        sources.into_iter().filter(|set| *set).count() == 1,
        "root_disk.source",
        "must be exactly one of image, http, registry and pvc",
    );
    if let Some(image) = &disk.image {
        all.take("root_disk.image", image.parse::<ImageName>());
    }
    if let Some(http) = &disk.http {
        http_source(all, "root_disk.http", http);
        for secret in http.secret.iter().chain(&http.secret_extra_headers) {
            secret_of_user(all, "root_disk.http", secret);
        }
    }
    if let Some(registry) = &disk.registry {
        registry_source(all, "root_disk.registry", registry);
        if let Some(secret) = &registry.secret {
            secret_of_user(all, "root_disk.registry", secret);
        }
    }
    if let Some(claim) = &disk.pvc {
        claim_of(all, "root_disk.pvc", project, claim);
    }
    match &disk.size {
        Some(size) => disk_size(all, "root_disk.size", size),
        None => all.require(
            disk.image.is_some(),
            "root_disk.size",
            "must be set unless the source is an image",
        ),
    }
    modes(
        all,
        "root_disk",
        disk.access_mode.as_deref(),
        disk.volume_mode.as_deref(),
        disk.bus.as_deref(),
    );
    if let Some(cache) = disk.cache.as_deref() {
        all.require(
            matches!(cache, "none" | "writethrough" | "writeback"),
            "root_disk.cache",
            "is not known",
        );
    }
}

fn additional_disk(all: &mut Violations, path: &str, disk: &AdditionalDiskSpec) {
    let name = &disk.name;
    let good = !name.is_empty()
        && name.len() <= 20
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    all.require(
        good,
        format!("{path}.name"),
        "must match [a-z]([a-z0-9-]*[a-z0-9])? with at most 20 characters",
    );
    disk_size(all, &format!("{path}.size"), &disk.size);
    if let Some(image) = &disk.image {
        all.take(format!("{path}.image"), image.parse::<ImageName>());
    }
    if let Some(serial) = &disk.serial {
        let longest = if disk.bus.as_deref() == Some("scsi") { 128 } else { 20 };
        all.require(
            serial.len() <= longest,
            format!("{path}.serial"),
            format!("must have at most {longest} characters: a guest sees no more on this bus"),
        );
    }
    modes(
        all,
        path,
        disk.access_mode.as_deref(),
        disk.volume_mode.as_deref(),
        disk.bus.as_deref(),
    );
}

fn modes(all: &mut Violations, path: &str, access: Option<&str>, volume: Option<&str>, bus: Option<&str>) {
    let known = |value: Option<&str>, values: &[&str]| value.is_none_or(|v| values.contains(&v));
    all.require(
        known(
            access,
            &["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany"],
        ),
        format!("{path}.access_mode"),
        "is not known",
    );
    all.require(
        known(volume, &["Block", "Filesystem"]),
        format!("{path}.volume_mode"),
        "is not known",
    );
    all.require(
        known(bus, &["virtio", "scsi", "sata"]),
        format!("{path}.bus"),
        "is not known",
    );
}

fn interfaces(all: &mut Violations, interfaces: &[InterfaceSpec]) {
    all.require(
        interfaces.len() <= MAX_ENTRIES,
        "interfaces",
        format!("must have at most {MAX_ENTRIES} entries"),
    );
    let pod = interfaces.iter().filter(|i| i.multus.is_none()).count();
    all.require(pod <= 1, "interfaces", "only one can be on the pod network");
    let mut names = BTreeSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let path = format!("interfaces[{index}]");
        all.require(!interface.name.is_empty(), format!("{path}.name"), "must be set");
        all.require(
            names.insert(&interface.name),
            format!("{path}.name"),
            "is taken by another interface",
        );
        match interface.binding {
            Binding::Masquerade => all.require(
                interface.multus.is_none(),
                format!("{path}.binding"),
                "MASQUERADE is for the pod network only",
            ),
            Binding::Sriov => all.require(
                interface.multus.is_some(),
                format!("{path}.binding"),
                "SRIOV is for multus networks only",
            ),
            Binding::Bridge => {}
        }
        all.require(
            interface.ports.is_empty() || interface.binding == Binding::Masquerade,
            format!("{path}.ports"),
            "can only be set with MASQUERADE",
        );
        if let Some(multus) = &interface.multus {
            all.require(
                !multus.network_name.is_empty(),
                format!("{path}.multus.network_name"),
                "must be set",
            );
        }
    }
}

fn user_data(all: &mut Violations, spec: &MachineTemplateSpec) {
    if !spec.user_data.is_empty() {
        all.take("user_data", steading_cloudinit::check(&spec.user_data));
    }
    all.require(
        spec.ssh_authorized_keys.len() <= MAX_KEYS,
        "ssh_authorized_keys",
        format!("must have at most {MAX_KEYS} entries"),
    );
    for (index, key) in spec.ssh_authorized_keys.iter().enumerate() {
        let good = key.len() <= MAX_KEY
            && key.split_whitespace().count() >= 2
            && !key.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'));
        all.require(
            good,
            format!("ssh_authorized_keys[{index}]"),
            format!("must be a public key in the form `type base64 comment` of at most {MAX_KEY} bytes"),
        );
    }
}

/// Checks a template together with what it refers to.
///
/// # Errors
/// Every rule that it breaks.
pub fn validate_resolved(spec: &MachineTemplateSpec, resolved: &Resolved) -> Result<(), Violations> {
    let mut all = Violations::new();
    all.require(
        resolved.instance_type.is_some() || spec.memory.is_some(),
        "instance_type",
        "must be set, or cpu and memory, unless the image has a default",
    );
    if let Some(size) = resolved.instance_type.as_ref().map(CatalogueEntry::size) {
        // One that was not made through this API may have any size.
        let mut of_type = Violations::new();
        memory_size(&mut of_type, "memory", &size.memory);
        all.nest("instance_type", of_type);
    }
    let wanted = spec.root_disk.size.as_deref().and_then(|s| s.parse::<Quantity>().ok());
    let least = spec
        .root_disk
        .image
        .as_ref()
        .and_then(|i| resolved.images.get(i))
        .and_then(|i| i.size.parse::<Quantity>().ok());
    if let (Some(wanted), Some(least)) = (wanted, least) {
        all.require(
            wanted >= least,
            "root_disk.size",
            format!("must be at least the image's {least}"),
        );
    }
    if let (Some(size), Some(preference)) = (&resolved.instance_type, &resolved.preference) {
        let (size, preference) = (size.size(), &preference.spec);
        let vcpus = preference
            .pointer("/requirements/cpu/guest")
            .and_then(serde_json::Value::as_u64);
        all.require(
            vcpus.is_none_or(|least| u64::from(size.vcpus) >= least),
            "instance_type",
            "has fewer vCPUs than the preference demands",
        );
        let least = preference
            .pointer("/requirements/memory/guest")
            .and_then(serde_json::Value::as_str);
        let least = least.and_then(|m| m.parse::<Quantity>().ok());
        all.require(
            least
                .zip(size.memory.parse::<Quantity>().ok())
                .is_none_or(|(least, has)| has >= least),
            "instance_type",
            "has less memory than the preference demands",
        );
    }
    all.finish()
}

/// What is allowed but probably not meant.
pub fn warnings(spec: &MachineTemplateSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    if spec.interfaces.iter().any(|i| i.mac_address.is_some()) {
        warnings.push("a fixed MAC address is only of use in pools of one machine".to_owned());
    }
    if spec
        .interfaces
        .iter()
        .any(|i| i.binding == Binding::Bridge && i.multus.is_none())
    {
        warnings.push("a bridge on the pod network cannot be migrated live unless the CNI supports it".to_owned());
    }
    if !spec.disks.is_empty() && spec.disks.iter().all(|d| d.image.is_none()) {
        warnings
            .push("additional disks are deleted with their machine; data that must stay belongs on volumes".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests;
