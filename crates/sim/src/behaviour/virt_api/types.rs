//! Instance types and preferences: what they say is applied to a VMI's spec, and what is refused.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Map, Value, json};

use super::fields::{Causes, has, list_mut, number, object, quantity, refused, shown, text};
use crate::apiserver::{ApiError, Cause};

/// Annotations of a VMI: what it was made from.
const ORIGINS: [(&str, &str); 2] = [("instancetype", "instancetype-name"), ("preference", "preference-name")];

/// What a VM's matchers have found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::behaviour) struct Found {
    /// The instance type, whole.
    pub(in crate::behaviour) instancetype: Option<Value>,
    /// The preference, whole.
    pub(in crate::behaviour) preference: Option<Value>,
}

/// Why a matcher finds nothing: the word for the VM's condition, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::behaviour) struct NotFound {
    pub(in crate::behaviour) reason: &'static str,
    pub(in crate::behaviour) message: String,
}

/// Kinds of an instance type or a preference, as a matcher may write them: of the namespace, of the cluster.
struct Kinds {
    /// `instancetype` or `preference`.
    matcher: &'static str,
    of_namespace: (&'static str, &'static str),
    of_cluster: (&'static str, &'static str),
    unknown: &'static str,
    reason: &'static str,
}

const INSTANCETYPE: Kinds = Kinds {
    matcher: "instancetype",
    of_namespace: ("VirtualMachineInstancetype", "virtualmachineinstancetypes"),
    of_cluster: (
        "VirtualMachineClusterInstancetype",
        "virtualmachineclusterinstancetypes",
    ),
    unknown: "InstancetypeMatcher",
    reason: "FailedFindInstancetype",
};
const PREFERENCE: Kinds = Kinds {
    matcher: "preference",
    of_namespace: ("VirtualMachinePreference", "virtualmachinepreferences"),
    of_cluster: ("VirtualMachineClusterPreference", "virtualmachineclusterpreferences"),
    unknown: "PreferenceMatcher",
    reason: "FailedFindPreference",
};

/// Whether a matcher's kind is one, by its singular or plural in whatever case.
fn is_kind(kind: &str, (singular, plural): (&str, &str)) -> bool {
    kind.eq_ignore_ascii_case(singular) || kind.eq_ignore_ascii_case(plural)
}

/// Whether a matcher means something of the namespace.
fn is_namespaced(kind: &str) -> bool {
    is_kind(kind, INSTANCETYPE.of_namespace) || is_kind(kind, PREFERENCE.of_namespace)
}

/// Finds what a VM is to be made from: what it was made from before, or what its matchers name now.
///
/// # Errors
/// The outer one when the API server cannot be read.
pub(in crate::behaviour) async fn find(client: &Client, vm: &Value) -> kube::Result<Result<Found, NotFound>> {
    let mut found = Found::default();
    for kinds in [INSTANCETYPE, PREFERENCE] {
        let matcher = &vm["spec"][kinds.matcher];
        if matcher.is_null() || text(matcher, "/name").is_empty() {
            continue;
        }
        match find_one(client, vm, &kinds).await? {
            Ok(object) if kinds.matcher == INSTANCETYPE.matcher => found.instancetype = Some(object),
            Ok(object) => found.preference = Some(object),
            Err(message) => {
                return Ok(Err(NotFound {
                    reason: kinds.reason,
                    message,
                }));
            }
        }
    }
    Ok(Ok(found))
}

async fn find_one(client: &Client, vm: &Value, kinds: &Kinds) -> kube::Result<Result<Value, String>> {
    let namespace = text(vm, "/metadata/namespace");
    let matcher = &vm["spec"][kinds.matcher];
    let (name, kind) = (text(matcher, "/name"), text(matcher, "/kind"));
    if let Some(revision) = revision_in_use(vm, kinds.matcher) {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        if let Some(data) = api.get_opt(&revision).await?.and_then(|revision| revision.data) {
            return Ok(Ok(data.0));
        }
    }
    let (kind, plural, of_namespace) = match kind {
        kind if is_kind(kind, kinds.of_namespace) => (kinds.of_namespace.0, kinds.of_namespace.1, true),
        kind if kind.is_empty() || is_kind(kind, kinds.of_cluster) => (kinds.of_cluster.0, kinds.of_cluster.1, false),
        other => return Ok(Err(format!("got unexpected kind in {}: {other}", kinds.unknown))),
    };
    let gvk = GroupVersionKind::gvk("instancetype.kubevirt.io", "v1beta1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> = if of_namespace {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    Ok(match api.get_opt(name).await? {
        Some(object) => Ok(serde_json::to_value(object).map_err(kube::Error::SerdeError)?),
        None => Err(format!("{plural}.instancetype.kubevirt.io \"{name}\" not found")),
    })
}

/// The revision that a VM was made from, if its matcher still names the same.
fn revision_in_use(vm: &Value, matcher: &str) -> Option<String> {
    let wanted = &vm["spec"][matcher];
    let asked = text(wanted, "/revisionName");
    if !asked.is_empty() {
        return Some(asked.to_owned());
    }
    let known = vm.pointer(&format!("/status/{matcher}Ref"))?;
    let same = text(known, "/name") == text(wanted, "/name")
        && (text(wanted, "/kind").is_empty() || text(known, "/kind") == text(wanted, "/kind"));
    let revision = text(known, "/controllerRevisionRef/name");
    (same && !revision.is_empty()).then(|| revision.to_owned())
}

/// The annotations that tell what a VMI was made from.
pub(in crate::behaviour) fn origins(vm: &Value) -> Map<String, Value> {
    let origins = ORIGINS.iter().filter_map(|(matcher, annotation)| {
        let matcher = vm["spec"].get(matcher)?;
        let name = text(matcher, "/name");
        let of_cluster = if is_namespaced(text(matcher, "/kind")) {
            ""
        } else {
            "cluster-"
        };
        (!name.is_empty()).then(|| (format!("kubevirt.io/{of_cluster}{annotation}"), json!(name)))
    });
    origins.collect()
}

/// Applies what was found to a VMI's spec and annotations; the fields in the spec at `field` that conflict, if any do.
pub(in crate::behaviour) fn apply(field: &str, vmi: &mut Value, found: &Found) -> Vec<String> {
    let preference = found.preference.as_ref().map(|preference| &preference["spec"]);
    if let Some(of) = found.instancetype.as_ref().map(|instancetype| &instancetype["spec"]) {
        let conflicts = conflicts(of, &vmi["spec"]);
        if !conflicts.is_empty() {
            return conflicts.into_iter().map(|path| format!("{field}.{path}")).collect();
        }
        apply_instancetype(of, preference, &mut vmi["spec"]);
        merge_annotations(vmi, &of["annotations"]);
    }
    if let Some(preference) = preference {
        apply_preference(preference, &mut vmi["spec"]);
        merge_annotations(vmi, &preference["annotations"]);
    }
    Vec::new()
}

fn merge_annotations(vmi: &mut Value, annotations: &Value) {
    let Some(annotations) = annotations.as_object() else {
        return;
    };
    let own = object(vmi, &["metadata", "annotations"]);
    for (key, value) in annotations {
        own.entry(key).or_insert_with(|| value.clone());
    }
}

/// Fields of a VMI's spec that the instance type has to say.
fn conflicts(of: &Value, spec: &Value) -> Vec<&'static str> {
    let mut conflicts = Vec::new();
    if has(of, "/nodeSelector") && has(spec, "/nodeSelector") {
        conflicts.push("nodeSelector");
    }
    if has(of, "/schedulerName") && has(spec, "/schedulerName") {
        conflicts.push("schedulerName");
    }
    let own = |path: &str| spec.pointer(path).is_some_and(|value| !value.is_null() && *value != 0);
    let cpu = [
        ("/domain/resources/requests/cpu", "domain.resources.requests.cpu"),
        ("/domain/resources/limits/cpu", "domain.resources.limits.cpu"),
        ("/domain/cpu/sockets", "domain.cpu.sockets"),
        ("/domain/cpu/cores", "domain.cpu.cores"),
        ("/domain/cpu/threads", "domain.cpu.threads"),
    ];
    conflicts.extend(cpu.iter().filter(|(path, _)| own(path)).map(|(_, name)| *name));
    // Of memory only the first is told.
    let memory = [
        ("/domain/memory/guest", "domain.memory.guest"),
        ("/domain/resources/requests/memory", "domain.resources.requests.memory"),
        ("/domain/resources/limits/memory", "domain.resources.limits.memory"),
    ];
    conflicts.extend(memory.iter().find(|(path, _)| own(path)).map(|(_, name)| *name));
    if has(of, "/ioThreadsPolicy") && has(spec, "/domain/ioThreadsPolicy") {
        conflicts.push("domain.ioThreadsPolicy");
    }
    conflicts
}

fn apply_instancetype(of: &Value, preference: Option<&Value>, spec: &mut Value) {
    for key in ["nodeSelector", "schedulerName"] {
        if has(of, &format!("/{key}")) {
            object(spec, &[]).insert(key.to_owned(), of[key].clone());
        }
    }
    let cpu = object(spec, &["domain", "cpu"]);
    for key in ["model", "maxSockets", "isolateEmulatorThread", "numa", "realtime"] {
        if has(of, &format!("/cpu/{key}")) {
            cpu.insert(key.to_owned(), of["cpu"][key].clone());
        }
    }
    if has(of, "/cpu/dedicatedCPUPlacement") {
        cpu.insert(
            "dedicatedCpuPlacement".to_owned(),
            of["cpu"]["dedicatedCPUPlacement"].clone(),
        );
    }
    for (key, count) in topology(number(of, "/cpu/guest"), preference) {
        cpu.insert(key.to_owned(), json!(count));
    }
    let memory = object(spec, &["domain", "memory"]);
    for key in ["guest", "hugepages", "maxGuest"] {
        if has(of, &format!("/memory/{key}")) {
            memory.insert(key.to_owned(), of["memory"][key].clone());
        }
    }
    let overcommit = number(of, "/memory/overcommitPercent");
    if let Some(guest) = quantity(of, "/memory/guest").filter(|_| overcommit > 0) {
        let asked = guest.bytes() / 100 * 100_u64.saturating_sub(overcommit);
        object(spec, &["domain", "resources", "requests"]).insert("memory".to_owned(), json!(asked.to_string()));
    }
    for key in ["ioThreadsPolicy", "ioThreads", "launchSecurity"] {
        if has(of, &format!("/{key}")) {
            object(spec, &["domain"]).insert(key.to_owned(), of[key].clone());
        }
    }
    for key in ["gpus", "hostDevices"] {
        if has(of, &format!("/{key}")) {
            object(spec, &["domain", "devices"]).insert(key.to_owned(), of[key].clone());
        }
    }
}

/// Sockets, cores and threads of so many CPUs, as the preference would have them.
fn topology(cpus: u64, preference: Option<&Value>) -> [(&'static str, u64); 3] {
    let (mut sockets, mut cores, mut threads) = (1, 1, 1);
    let preferred = preference.map_or("", |preference| text(preference, "/cpu/preferredCPUTopology"));
    match preferred {
        "cores" | "preferCores" => cores = cpus,
        "threads" | "preferThreads" => threads = cpus,
        "spread" | "preferSpread" if cpus > 1 => {
            let (ratio, across) = spread_options(preference);
            match across {
                "CoresThreads" => (cores, threads) = (cpus / ratio, ratio),
                "SocketsCoresThreads" => (sockets, cores, threads) = (cpus / 2 / ratio, ratio, 2),
                _ => (sockets, cores) = (cpus / ratio, ratio),
            }
        }
        _ => sockets = cpus,
    }
    [("sockets", sockets), ("cores", cores), ("threads", threads)]
}

fn spread_options(preference: Option<&Value>) -> (u64, &str) {
    let Some(preference) = preference else { return (2, "") };
    let ratios = ["/cpu/spreadOptions/ratio", "/preferSpreadSocketToCoreRatio"];
    let ratio = ratios
        .iter()
        .map(|pointer| number(preference, pointer))
        .find(|ratio| *ratio > 0);
    (ratio.unwrap_or(2), text(preference, "/cpu/spreadOptions/across"))
}

/// Devices of their own that a preference may attach.
const TRUTHS: [(&str, &str); 6] = [
    ("autoattachMemBalloon", "preferredAutoattachMemBalloon"),
    ("autoattachGraphicsDevice", "preferredAutoattachGraphicsDevice"),
    ("autoattachSerialConsole", "preferredAutoattachSerialConsole"),
    ("autoattachPodInterface", "preferredAutoattachPodInterface"),
    ("blockMultiQueue", "preferredBlockMultiQueue"),
    ("networkInterfaceMultiqueue", "preferredNetworkInterfaceMultiQueue"),
];

fn apply_preference(preference: &Value, spec: &mut Value) {
    let devices = &preference["devices"];
    for disk in list_mut(spec, "/domain/devices/disks") {
        let target = ["disk", "cdrom", "lun"]
            .into_iter()
            .find(|kind| has(disk, &format!("/{kind}")));
        let target = target.unwrap_or("disk");
        let preferred = match target {
            "cdrom" => "preferredCdromBus",
            "lun" => "preferredLunBus",
            _ => "preferredDiskBus",
        };
        fill(object(disk, &[target]), "bus", &devices[preferred]);
        if target == "disk" {
            fill(object(disk, &[]), "cache", &devices["preferredDiskCache"]);
            fill(object(disk, &[]), "io", &devices["preferredDiskIO"]);
        }
    }
    for interface in list_mut(spec, "/domain/devices/interfaces") {
        fill(object(interface, &[]), "model", &devices["preferredInterfaceModel"]);
    }
    for (key, preferred) in TRUTHS {
        fill(object(spec, &["domain", "devices"]), key, &devices[preferred]);
    }
    fill(
        object(spec, &[]),
        "terminationGracePeriodSeconds",
        &preference["preferredTerminationGracePeriodSeconds"],
    );
    fill(object(spec, &[]), "subdomain", &preference["preferredSubdomain"]);
}

/// Sets a field that is open to what is preferred, if anything is.
fn fill(map: &mut Map<String, Value>, key: &str, preferred: &Value) {
    let open = map.get(key).is_none_or(|value| value.is_null() || *value == "");
    if open && !preferred.is_null() && *preferred != "" {
        map.insert(key.to_owned(), preferred.clone());
    }
}

/// What of a preference's requirements a VM does not meet: the field, and the text.
pub(super) fn unmet(found: &Found, spec: &Value) -> Option<(String, String)> {
    let required = found.preference.as_ref()?.pointer("/spec/requirements")?;
    let of_type = found.instancetype.as_ref().map(|instancetype| &instancetype["spec"]);
    let cpus = number(required, "/cpu/guest");
    if let Some(has) = of_type.map(|of| number(of, "/cpu/guest")).filter(|has| *has < cpus) {
        let message = format!(
            "insufficient CPU resources of {has} vCPU provided by instance type, preference requires {cpus} vCPU"
        );
        return Some(("spec.instancetype".to_owned(), message));
    }
    let count = |key: &str| number(spec, &format!("/domain/cpu/{key}")).max(1);
    let all = count("cores") * count("sockets") * count("threads");
    if of_type.is_none() && all < cpus {
        let message = format!(
            "insufficient CPU resources of {all} vCPU provided by VirtualMachine, preference requires {cpus} vCPU"
        );
        return Some(("spec.template.spec.domain.cpu".to_owned(), message));
    }
    let wanted = quantity(required, "/memory/guest")?;
    let has = quantity(spec, "/domain/memory/guest").map_or(0, |guest| guest.bytes());
    if has >= wanted.bytes() {
        return None;
    }
    let (field, who) = match of_type {
        Some(_) => ("spec.instancetype", "instance type"),
        None => ("spec.template.spec.domain.memory", "VirtualMachine"),
    };
    let shown = |value: &Value, pointer: &str| shown(value, pointer).unwrap_or_else(|| "0".to_owned());
    let message = format!(
        "insufficient Memory resources of {} provided by {who}, preference requires {}",
        shown(spec, "/domain/memory/guest"),
        shown(required, "/memory/guest")
    );
    Some((field.to_owned(), message))
}

/// Checks a VM's matchers.
pub(super) fn check_matchers(webhook: &str, vm: &Value) -> Result<(), ApiError> {
    for kinds in [INSTANCETYPE, PREFERENCE] {
        let matcher = &vm["spec"][kinds.matcher];
        if matcher.is_null() {
            continue;
        }
        let mut causes = Causes::default();
        let field = format!("spec.{}", kinds.matcher);
        let (name, volume) = (text(matcher, "/name"), text(matcher, "/inferFromVolume"));
        if name.is_empty() && volume.is_empty() {
            let message = format!(
                "Either Name or InferFromVolume should be provided within the {}",
                kinds.unknown
            );
            causes.add("FieldValueNotFound", field.clone(), message);
        }
        if !volume.is_empty() {
            for (key, what) in [("name", "Name"), ("kind", "Kind")] {
                if !text(matcher, &format!("/{key}")).is_empty() {
                    let message = format!("{what} already set, should be cleared before setting inferFromVolume");
                    causes.unsupported(format!("{field}.{key}"), message);
                }
            }
        }
        causes.deny(webhook)?;
        if !volume.is_empty() {
            let message = format!("unable to infer defaults from volume {volume} as type is not supported");
            return Err(refused(webhook, &message));
        }
    }
    Ok(())
}

/// Checks an instance type as its CRD's schema and its webhook do.
pub(super) fn admit(plural: &str, object: &Value) -> Result<(), ApiError> {
    const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
    let kind = if plural == INSTANCETYPE.of_namespace.1 {
        INSTANCETYPE.of_namespace.0
    } else {
        INSTANCETYPE.of_cluster.0
    };
    let mut causes = Vec::new();
    for (part, field) in [("cpu", "guest"), ("memory", "guest")] {
        let missing = if has(object, &format!("/spec/{part}")) {
            (!has(object, &format!("/spec/{part}/{field}"))).then(|| format!("spec.{part}.{field}"))
        } else {
            Some(format!("spec.{part}"))
        };
        causes.extend(missing.map(|field| Cause::new("FieldValueRequired", field, "Required value")));
    }
    if let Some(guest) =
        shown(object, "/spec/memory/guest").filter(|_| quantity(object, "/spec/memory/guest").is_none())
    {
        let message = format!("Invalid value: \"{guest}\": spec.memory.guest in body should match '{QUANTITY}'");
        causes.push(Cause::new("FieldValueInvalid", "spec.memory.guest", message));
    }
    let percent = number(object, "/spec/memory/overcommitPercent");
    let field = "spec.memory.overcommitPercent";
    if percent > 100 {
        let message = format!("Invalid value: {percent}: {field} in body should be less than or equal to 100");
        causes.push(Cause::new("FieldValueInvalid", field, message));
    }
    invalid(kind, object, causes)?;
    let mut causes = Causes::default();
    if percent > 0 && has(object, "/spec/memory/hugepages") {
        let message = format!("{field} and spec.memory.hugepages should not be requested together.");
        causes.invalid(field, message);
    }
    let webhook = plural.trim_end_matches('s');
    causes.deny(&format!("{webhook}-validator.instancetype.kubevirt.io"))
}

/// Checks a preference as its webhook does.
pub(super) fn admit_preference(plural: &str, object: &Value) -> Result<(), ApiError> {
    const TOPOLOGIES: [&str; 11] = [
        "",
        "preferSockets",
        "preferCores",
        "preferThreads",
        "preferSpread",
        "preferAny",
        "sockets",
        "cores",
        "threads",
        "spread",
        "any",
    ];
    let mut causes = Causes::default();
    let topology = text(object, "/spec/cpu/preferredCPUTopology");
    if !TOPOLOGIES.contains(&topology) {
        let message = format!("unknown preferredCPUTopology {topology}");
        causes.invalid("spec.cpu.preferredCPUTopology", message);
    }
    let webhook = plural.trim_end_matches('s');
    causes.deny(&format!("{webhook}-validator.instancetype.kubevirt.io"))
}

/// Refuses as the API server does by a CRD's schema.
fn invalid(kind: &str, object: &Value, causes: Vec<Cause>) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    let text = match all.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let name = self::text(object, "/metadata/name");
    let message = format!("{kind}.instancetype.kubevirt.io \"{name}\" is invalid: {text}");
    let mut error = ApiError::new(422, "Invalid", message);
    error.details.causes = causes;
    name.clone_into(&mut error.details.name);
    "instancetype.kubevirt.io".clone_into(&mut error.details.group);
    kind.clone_into(&mut error.details.kind);
    Err(error)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn mk_found(cpus: u64, preference: Value) -> Found {
        Found {
            instancetype: Some(json!({ "spec": { "cpu": { "guest": cpus }, "memory": { "guest": "1Gi" } } })),
            preference: Some(json!({ "spec": preference })),
        }
    }

    #[rstest]
    #[case::sockets(json!({}), [4, 1, 1])]
    #[case::cores(json!({ "cpu": { "preferredCPUTopology": "cores" } }), [1, 4, 1])]
    #[case::threads(json!({ "cpu": { "preferredCPUTopology": "preferThreads" } }), [1, 1, 4])]
    #[case::spread(json!({ "cpu": { "preferredCPUTopology": "spread" } }), [2, 2, 1])]
    fn the_preference_lays_out_the_cpus(#[case] preference: Value, #[case] wanted: [u64; 3]) {
        let mut vmi = json!({ "spec": { "domain": {} } });
        assert!(apply("spec", &mut vmi, &mk_found(4, preference)).is_empty());
        let count = |key: &str| number(&vmi, &format!("/spec/domain/cpu/{key}"));
        assert_eq!([count("sockets"), count("cores"), count("threads")], wanted);
        assert_eq!(text(&vmi, "/spec/domain/memory/guest"), "1Gi");
    }

    #[test]
    fn a_size_of_its_own_conflicts() {
        let mut vmi = json!({ "spec": { "domain": { "cpu": { "cores": 2 }, "memory": { "guest": "1Gi" } } } });
        let conflicts = apply("spec.template.spec", &mut vmi, &mk_found(4, json!({})));
        assert_eq!(
            conflicts,
            [
                "spec.template.spec.domain.cpu.cores",
                "spec.template.spec.domain.memory.guest"
            ]
        );
    }

    #[test]
    fn what_is_preferred_fills_what_is_open() {
        let preference = json!({ "devices": { "preferredDiskBus": "scsi", "preferredInterfaceModel": "e1000" } });
        let mut vmi = json!({ "spec": { "domain": { "devices": {
            "disks": [{ "name": "a" }, { "name": "b", "disk": { "bus": "virtio" } }], "interfaces": [{ "name": "default" }],
        }}}});
        apply("spec", &mut vmi, &mk_found(1, preference));
        let devices = &vmi["spec"]["domain"]["devices"];
        assert_eq!(
            devices["disks"],
            json!([{ "name": "a", "disk": { "bus": "scsi" } }, { "name": "b", "disk": { "bus": "virtio" } }])
        );
        assert_eq!(devices["interfaces"][0]["model"], "e1000");
    }

    #[test]
    fn a_revision_holds_only_while_the_matcher_is_the_same() {
        let vm = |name: &str| {
            json!({
                "spec": { "instancetype": { "name": name } },
                "status": { "instancetypeRef": { "name": "small", "controllerRevisionRef": { "name": "r" } } },
            })
        };
        assert_eq!(revision_in_use(&vm("small"), "instancetype").as_deref(), Some("r"));
        assert_eq!(revision_in_use(&vm("large"), "instancetype"), None);
    }
}
