//! What is refused of matchers, instance types and preferences, and what a preference requires of a VM.

use serde_json::Value;

use super::{
    super::fields::{Causes, has, number, quantity, refused, shown, text},
    kinds::{Found, INSTANCETYPE, PREFERENCE},
};
use steading_kubesim::{ApiError, Cause};

/// What of a preference's requirements a VM does not meet: the field, and the text.
pub(in crate::behaviour::virt_api) fn unmet(found: &Found, spec: &Value) -> Option<(String, String)> {
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
pub(in crate::behaviour::virt_api) fn check_matchers(webhook: &str, vm: &Value) -> Result<(), ApiError> {
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
pub(in crate::behaviour::virt_api) fn admit(plural: &str, object: &Value) -> Result<(), ApiError> {
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
pub(in crate::behaviour::virt_api) fn admit_preference(plural: &str, object: &Value) -> Result<(), ApiError> {
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
