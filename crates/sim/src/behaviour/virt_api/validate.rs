//! The rules for a VMI's spec, in virt-api's order. `field` is where the spec is: `spec` of a VMI, `spec.template.spec` of a VM.

mod devices;
mod names;
mod networks;
mod placement;
pub(super) mod sizes;
mod volumes;

use serde_json::Value;

use self::names::{label_errors, subdomain_errors};
use super::fields::{Causes, has, text};

/// Emulated machines that amd64 guests can have.
const MACHINES: [&str; 3] = ["q35*", "pc-q35*", "pc-i440fx*"];
const STRATEGIES: [&str; 4] = ["LiveMigrate", "LiveMigrateIfPossible", "None", "External"];

/// What is wrong with a spec that has been completed.
pub(super) fn spec(field: &str, spec: &Value, causes: &mut Causes) {
    dns_names(field, spec, causes);
    sizes::memory(field, spec, causes);
    machine(field, spec, causes);
    sizes::cpu(field, spec, causes);
    placement::affinity(field, spec, causes);
    placement::spread(field, spec, causes);
    networks::check(field, spec, causes);
    devices::boot_order(field, spec, causes);
    devices::disks(&format!("{field}.domain.devices.disks"), spec, causes);
    volumes::check(&format!("{field}.volumes"), spec, causes);
    eviction_strategy(field, spec, causes);
}

/// What is wrong with a VMI besides: it needs memory, and an architecture that there is.
pub(super) fn instance(field: &str, spec: &Value, causes: &mut Causes) {
    volumes::have_disks(field, spec, causes);
    let memory = [
        "/domain/resources/requests/memory",
        "/domain/memory/guest",
        "/domain/memory/hugepages",
    ];
    if memory.iter().all(|pointer| !has(spec, pointer)) {
        let message = format!(
            "no memory requested, at least one of '{field}.domain.memory.guest', '{field}.domain.memory.hugepages.pageSize' \
             or '{field}.domain.resources.requests.memory' must be set"
        );
        causes.required("", message);
    }
    let architecture = text(spec, "/architecture");
    if !matches!(architecture, "amd64" | "arm64" | "s390x") {
        causes.invalid(
            format!("{field}.architecture"),
            format!("unsupported architecture: {architecture}"),
        );
    }
}

fn dns_names(field: &str, spec: &Value, causes: &mut Causes) {
    let checks = [
        ("hostname", "DNS_LABEL", label_errors as fn(&str) -> Vec<String>),
        ("subdomain", "DNS_SUBDOMAIN", subdomain_errors),
    ];
    for (name, rules, errors) in checks {
        let value = text(spec, &format!("/{name}"));
        let errors = if value.is_empty() { Vec::new() } else { errors(value) };
        if !errors.is_empty() {
            let field = format!("{field}.{name}");
            let message = format!(
                "{field} does not conform to the kubernetes {rules} rules : {}",
                errors.join(", ")
            );
            causes.invalid(field, message);
        }
    }
}

fn machine(field: &str, spec: &Value, causes: &mut Causes) {
    let found = text(spec, "/domain/machine/type");
    let fits = |pattern: &&str| found.starts_with(pattern.trim_end_matches('*'));
    if found.is_empty() || MACHINES.iter().any(fits) {
        return;
    }
    let field = format!("{field}.domain.machine.type");
    let message = format!(
        "{field} is not supported: {found} (allowed values: [{}])",
        MACHINES[..2].join(" ")
    );
    causes.invalid(field, message);
}

fn eviction_strategy(field: &str, spec: &Value, causes: &mut Causes) {
    let strategy = text(spec, "/evictionStrategy");
    if has(spec, "/evictionStrategy") && !STRATEGIES.contains(&strategy) {
        let field = format!("{field}.evictionStrategy");
        let message = format!("{field} is set with an unrecognized option: {strategy}");
        causes.invalid(field, message);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn mk_spec(patch: Value) -> Value {
        let mut spec = json!({
            "architecture": "amd64", "evictionStrategy": "None",
            "domain": {
                "cpu": { "cores": 1 }, "memory": { "guest": "64Mi" },
                "devices": {
                    "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }], "interfaces": [{ "name": "default", "masquerade": {} }],
                },
            },
            "networks": [{ "name": "default", "pod": {} }],
            "volumes": [{ "name": "boot", "containerDisk": { "image": "linux:1" } }],
        });
        json_patch::merge(&mut spec, &patch);
        spec
    }

    #[rstest]
    #[case::good(json!({}), 0)]
    #[case::host_name(json!({ "hostname": "Machine" }), 1)]
    #[case::long_host_name(json!({ "hostname": "m".repeat(64) }), 1)]
    #[case::machine(json!({ "domain": { "machine": { "type": "abacus" } } }), 1)]
    #[case::strategy(json!({ "evictionStrategy": "Gently" }), 1)]
    #[case::negative(json!({ "domain": { "resources": { "requests": { "memory": "-1Gi", "cpu": "-1" } } } }), 2)]
    #[case::over_its_limit(json!({ "domain": { "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } } }), 1)]
    #[case::disks_alike(json!({ "domain": { "devices": { "disks": [
        { "name": "boot", "disk": {} }, { "name": "boot", "disk": {} },
    ]}}}), 1)]
    #[case::disk_without_volume(json!({ "volumes": [] }), 1)]
    #[case::bus(json!({ "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "ide" } }] } } }), 1)]
    #[case::no_source(json!({ "volumes": [{ "name": "boot" }] }), 1)]
    #[case::no_network(json!({ "networks": [] }), 2)]
    #[case::skew(json!({ "topologySpreadConstraints": [
        { "maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" },
    ]}), 1)]
    fn each_rule_finds_what_breaks_it(#[case] patch: Value, #[case] wanted: usize) {
        let mut causes = Causes::default();
        spec("spec", &mk_spec(patch), &mut causes);
        assert_eq!(causes.messages().len(), wanted, "{:?}", causes.messages());
    }
}
