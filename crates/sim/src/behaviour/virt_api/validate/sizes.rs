//! CPU and memory.

use serde_json::Value;

use crate::behaviour::virt_api::fields::{Causes, is, millis, number, shown};

/// The least memory that a pod may ask for, in thousandths of a byte.
const LEAST: i128 = 1_000_000_000;

struct Amounts<'a> {
    field: &'a str,
    spec: &'a Value,
}

impl Amounts<'_> {
    fn of(&self, kind: &str, resource: &str) -> i128 {
        millis(self.spec, &format!("/domain/resources/{kind}/{resource}"))
    }

    fn shown(&self, kind: &str, resource: &str) -> String {
        let pointer = format!("/domain/resources/{kind}/{resource}");
        shown(self.spec, &pointer).unwrap_or_else(|| "0".to_owned())
    }

    fn field(&self, kind: &str, resource: &str) -> String {
        format!("{}.domain.resources.{kind}.{resource}", self.field)
    }

    fn not_negative(&self, kind: &str, resource: &str, causes: &mut Causes) {
        if self.of(kind, resource) < 0 {
            let field = self.field(kind, resource);
            let value = self.shown(kind, resource);
            causes.invalid(
                field.clone(),
                format!("{field} '{value}': must be greater than or equal to 0."),
            );
        }
    }

    fn not_over_limit(&self, resource: &str, causes: &mut Causes) {
        if self.of("limits", resource) > 0 && self.of("requests", resource) > self.of("limits", resource) {
            let (request, limit) = (self.field("requests", resource), self.field("limits", resource));
            let message = format!(
                "{request} '{}' is greater than {limit} '{}'",
                self.shown("requests", resource),
                self.shown("limits", resource)
            );
            causes.invalid(request, message);
        }
    }
}

pub(super) fn memory(field: &str, spec: &Value, causes: &mut Causes) {
    let amounts = Amounts { field, spec };
    amounts.not_negative("requests", "memory", causes);
    let request = amounts.of("requests", "memory");
    if request > 0 && request < LEAST {
        let field = amounts.field("requests", "memory");
        let value = amounts.shown("requests", "memory");
        causes.invalid(
            field.clone(),
            format!("{field} '{value}': must be greater than or equal to 1M."),
        );
    }
    amounts.not_negative("limits", "memory", causes);
    amounts.not_over_limit("memory", causes);
}

pub(super) fn cpu(field: &str, spec: &Value, causes: &mut Causes) {
    let amounts = Amounts { field, spec };
    amounts.not_negative("requests", "cpu", causes);
    amounts.not_negative("limits", "cpu", causes);
    amounts.not_over_limit("cpu", causes);
    if is(spec, "/domain/cpu/dedicatedCpuPlacement") {
        dedicated(&amounts, causes);
    }
    too_many_sockets(field, spec, causes);
}

/// More sockets than there may ever be.
pub(in crate::behaviour::virt_api) fn too_many_sockets(field: &str, spec: &Value, causes: &mut Causes) {
    let (sockets, most) = (
        number(spec, "/domain/cpu/sockets"),
        number(spec, "/domain/cpu/maxSockets"),
    );
    if most > 0 && sockets > most {
        let message = "Number of sockets in CPU topology is greater than the maximum sockets allowed";
        causes.invalid(format!("{field}.domain.cpu.sockets"), message);
    }
}

/// Whole CPUs of one's own: what is asked for has to be whole, and has to be what the guest sees.
fn dedicated(amounts: &Amounts<'_>, causes: &mut Causes) {
    let (requests, limits) = (amounts.of("requests", "cpu"), amounts.of("limits", "cpu"));
    // "interger" is how virt-api spells it.
    for (kind, amount) in [("requests", requests), ("limits", limits)] {
        if amount > 0 && amount % 1000 != 0 {
            let message = format!("provided resources CPU {kind} must be an interger");
            causes.invalid(amounts.field(kind, "cpu"), message);
        }
    }
    let count = |key: &str| number(amounts.spec, &format!("/domain/cpu/{key}"));
    let all = i128::from(count("cores").max(1) * count("sockets").max(1) * count("threads").max(1));
    let whole = |amount: i128| (amount + 999) / 1000;
    let asks = requests > 0 || limits > 0;
    if asks && whole(requests) != all && whole(limits) != all {
        let message = format!(
            "{} or {} must not be provided at the same time with {}.domain.cpu.cores when DedicatedCPUPlacement is true ",
            amounts.field("requests", "cpu"),
            amounts.field("limits", "cpu"),
            amounts.field
        );
        causes.invalid(format!("{}.domain.cpu.dedicatedCpuPlacement", amounts.field), message);
    }
}
