//! The shape of a VM's or VMI's spec: types, required fields, enumerations. virt-api checks it before anything else.

use serde_json::Value;

use super::fields::Causes;

/// What a value has to be.
enum Shape {
    Text,
    OneOf(&'static [&'static str]),
    Whole,
    Truth,
    /// Text or number.
    Amount,
    Map(&'static Shape),
    List(&'static Shape),
    Object(&'static [Field]),
    /// An object of which nothing more is known here.
    Open,
}

/// A field of an object.
struct Field(&'static str, Need, Shape);

#[derive(PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

use Need::{Optional, Required};
use Shape::{Amount, List, Map, Object, OneOf, Open, Text, Truth, Whole};

static TEXT: Shape = Text;
static AMOUNT: Shape = Amount;
static OPEN: Shape = Open;

static REQUIREMENT: Shape = Object(&[
    Field("key", Required, Text),
    Field(
        "operator",
        Required,
        OneOf(&["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"]),
    ),
    Field("values", Optional, List(&TEXT)),
]);
static NODE_TERM: Shape = Object(&[
    Field("matchExpressions", Optional, List(&REQUIREMENT)),
    Field("matchFields", Optional, List(&REQUIREMENT)),
]);
static PREFERRED_NODE: Shape = Object(&[
    Field("weight", Required, Whole),
    Field(
        "preference",
        Required,
        Object(&[
            Field("matchExpressions", Optional, List(&REQUIREMENT)),
            Field("matchFields", Optional, List(&REQUIREMENT)),
        ]),
    ),
]);
static SPREAD: Shape = Object(&[
    Field("maxSkew", Required, Whole),
    Field("topologyKey", Required, Text),
    Field(
        "whenUnsatisfiable",
        Required,
        OneOf(&["DoNotSchedule", "ScheduleAnyway"]),
    ),
    Field("labelSelector", Optional, Open),
    Field("minDomains", Optional, Whole),
    Field("matchLabelKeys", Optional, List(&TEXT)),
    Field("nodeAffinityPolicy", Optional, Text),
    Field("nodeTaintsPolicy", Optional, Text),
]);
static DISK: Shape = Object(&[
    Field("name", Required, Text),
    Field(
        "disk",
        Optional,
        Object(&[Field("bus", Optional, Text), Field("readonly", Optional, Truth)]),
    ),
    Field(
        "cdrom",
        Optional,
        Object(&[Field("bus", Optional, Text), Field("readonly", Optional, Truth)]),
    ),
    Field(
        "lun",
        Optional,
        Object(&[Field("bus", Optional, Text), Field("readonly", Optional, Truth)]),
    ),
    Field("bootOrder", Optional, Whole),
    Field("serial", Optional, Text),
    Field("cache", Optional, Text),
]);
static INTERFACE: Shape = Object(&[
    Field("name", Required, Text),
    Field("model", Optional, Text),
    Field("macAddress", Optional, Text),
    Field("bootOrder", Optional, Whole),
    Field("bridge", Optional, Open),
    Field("masquerade", Optional, Open),
]);
static NETWORK: Shape = Object(&[
    Field("name", Required, Text),
    Field("pod", Optional, Open),
    Field("multus", Optional, Open),
]);
static VOLUME: Shape = Object(&[
    Field("name", Required, Text),
    Field("containerDisk", Optional, Object(&[Field("image", Required, Text)])),
    Field(
        "dataVolume",
        Optional,
        Object(&[Field("name", Required, Text), Field("hotpluggable", Optional, Truth)]),
    ),
    Field(
        "persistentVolumeClaim",
        Optional,
        Object(&[
            Field("claimName", Required, Text),
            Field("hotpluggable", Optional, Truth),
        ]),
    ),
    Field("cloudInitNoCloud", Optional, Open),
    Field("cloudInitConfigDrive", Optional, Open),
    Field("emptyDisk", Optional, Object(&[Field("capacity", Required, Amount)])),
]);
static DOMAIN: &[Field] = &[
    Field(
        "cpu",
        Optional,
        Object(&[
            Field("cores", Optional, Whole),
            Field("sockets", Optional, Whole),
            Field("threads", Optional, Whole),
            Field("maxSockets", Optional, Whole),
            Field("model", Optional, Text),
            Field("dedicatedCpuPlacement", Optional, Truth),
        ]),
    ),
    Field(
        "memory",
        Optional,
        Object(&[
            Field("guest", Optional, Amount),
            Field("maxGuest", Optional, Amount),
            Field("hugepages", Optional, Open),
        ]),
    ),
    Field(
        "resources",
        Optional,
        Object(&[
            Field("requests", Optional, Map(&AMOUNT)),
            Field("limits", Optional, Map(&AMOUNT)),
        ]),
    ),
    Field("machine", Optional, Object(&[Field("type", Optional, Text)])),
    Field(
        "devices",
        Required,
        Object(&[
            Field("disks", Optional, List(&DISK)),
            Field("interfaces", Optional, List(&INTERFACE)),
        ]),
    ),
];
static SPEC: &[Field] = &[
    Field("domain", Required, Object(DOMAIN)),
    Field("volumes", Optional, List(&VOLUME)),
    Field("networks", Optional, List(&NETWORK)),
    Field("hostname", Optional, Text),
    Field("subdomain", Optional, Text),
    Field("architecture", Optional, Text),
    Field("evictionStrategy", Optional, Text),
    Field("priorityClassName", Optional, Text),
    Field("schedulerName", Optional, Text),
    Field("terminationGracePeriodSeconds", Optional, Whole),
    Field("nodeSelector", Optional, Map(&TEXT)),
    Field("tolerations", Optional, List(&OPEN)),
    Field("topologySpreadConstraints", Optional, List(&SPREAD)),
    Field(
        "affinity",
        Optional,
        Object(&[
            Field(
                "nodeAffinity",
                Optional,
                Object(&[
                    Field(
                        "requiredDuringSchedulingIgnoredDuringExecution",
                        Optional,
                        Object(&[Field("nodeSelectorTerms", Required, List(&NODE_TERM))]),
                    ),
                    Field(
                        "preferredDuringSchedulingIgnoredDuringExecution",
                        Optional,
                        List(&PREFERRED_NODE),
                    ),
                ]),
            ),
            Field("podAffinity", Optional, Open),
            Field("podAntiAffinity", Optional, Open),
        ]),
    ),
];
static VM: &[Field] = &[
    Field("running", Optional, Truth),
    Field("runStrategy", Optional, Text),
    Field("instancetype", Optional, Open),
    Field("preference", Optional, Open),
    Field("dataVolumeTemplates", Optional, List(&OPEN)),
    Field(
        "template",
        Required,
        Object(&[Field("metadata", Optional, Open), Field("spec", Optional, Object(SPEC))]),
    ),
];

/// What is wrong with the shape of a VM.
pub(super) fn of_machine(vm: &Value) -> Causes {
    check(vm, &[Field("spec", Required, Object(VM))])
}

/// What is wrong with the shape of a VMI.
pub(super) fn of_instance(vmi: &Value) -> Causes {
    check(vmi, &[Field("spec", Required, Object(SPEC))])
}

fn check(object: &Value, fields: &[Field]) -> Causes {
    let mut causes = Causes::default();
    look_into(object, fields, "", &mut causes);
    causes
}

fn look_into(object: &Value, fields: &[Field], path: &str, causes: &mut Causes) {
    for Field(name, need, shape) in fields {
        let below = if path.is_empty() {
            (*name).to_owned()
        } else {
            format!("{path}.{name}")
        };
        match object.get(name) {
            None | Some(Value::Null) if *need == Required => {
                causes.add("", "", format!("{below} in body is required"));
            }
            None | Some(Value::Null) => {}
            Some(value) => look(value, shape, &below, causes),
        }
    }
}

fn look(value: &Value, shape: &Shape, path: &str, causes: &mut Causes) {
    let wrong = |wanted: &str, causes: &mut Causes| {
        causes.add(
            "",
            "",
            format!("{path} in body must be of type {wanted}: \"{}\"", kind(value)),
        );
    };
    match shape {
        Text | OneOf(_) if !value.is_string() => wrong("string", causes),
        Whole if value.as_i64().is_none() => wrong("integer", causes),
        Truth if !value.is_boolean() => wrong("boolean", causes),
        Object(_) | Map(_) | Open if !value.is_object() => wrong("object", causes),
        List(_) if !value.is_array() => wrong("array", causes),
        Amount if !value.is_string() && !value.is_number() => wrong("string", causes),
        OneOf(words) if !words.contains(&value.as_str().unwrap_or_default()) => {
            causes.add("", "", format!("{path} in body should be one of [{}]", words.join(" ")));
        }
        Object(fields) => look_into(value, fields, path, causes),
        Map(each) => {
            let all = value.as_object().into_iter().flatten();
            all.for_each(|(key, value)| look(value, each, &format!("{path}.{key}"), causes));
        }
        List(each) => {
            let all = value.as_array().into_iter().flatten();
            all.for_each(|item| look(item, each, path, causes));
        }
        Text | OneOf(_) | Whole | Truth | Amount | Open => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::good(json!({ "domain": { "devices": {}, "cpu": { "cores": 2 }, "memory": { "guest": "1Gi" } } }), &[])]
    #[case::unknown(json!({ "domain": { "devices": {}, "wheels": 4 }, "colour": [] }), &[])]
    #[case::missing(json!({}), &["spec.domain in body is required"])]
    #[case::text_for_a_number(
        json!({ "domain": { "devices": {}, "cpu": { "cores": "two" } } }),
        &["spec.domain.cpu.cores in body must be of type integer: \"string\""]
    )]
    #[case::in_a_list(
        json!({ "domain": { "devices": { "disks": [{ "disk": {} }] } } }),
        &["spec.domain.devices.disks.name in body is required"]
    )]
    #[case::no_such_word(
        json!({ "domain": { "devices": {} }, "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "GiveUp" }] }),
        &["spec.topologySpreadConstraints.whenUnsatisfiable in body should be one of [DoNotSchedule ScheduleAnyway]"]
    )]
    fn the_shape_says_what_is_wrong(#[case] spec: Value, #[case] wanted: &[&str]) {
        assert_eq!(of_instance(&json!({ "spec": spec })).messages(), wanted);
    }
}
