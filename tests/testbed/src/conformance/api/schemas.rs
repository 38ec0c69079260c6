//! What the schemas of custom kinds fill in, drop and refuse.

use anyhow::Result;
use serde_json::{Value, json};

use super::definitions::{establish, mk_version};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "defaults-of-a-schema-apply-in-nested-objects" => defaults,
    "unknown-fields-are-pruned-unless-preserved" => pruned,
    "unknown-fields-of-custom-objects-are-refused-or-warned-about-as-asked" => field_validation,
    "each-rule-of-a-schema-has-its-message" => messages,
    "lengths-and-counts-have-their-messages" => lengths,
    "wrong-types-have-their-messages" => wrong_types,
    "several-violations-come-as-causes" => causes,
    "rules-in-cel-refuse-with-their-messages" => cel,
    "rules-in-cel-see-quantities-and-optional-fields" => cel_library,
    "transition-rules-see-the-old-object" => transitions,
    "lists-of-type-map-and-set-refuse-duplicates" => duplicates,
    "int-or-string-takes-both" => int_or_string,
    "null-is-kept-only-where-it-is-allowed" => nullable,
    "one-of-and-any-of-refuse-what-fits-none" => combinations,
}

/// Creates objects with these specs, and notes the spec that is stored or what is refused.
async fn tries(lab: &Lab, t: &mut Transcript, properties: Value, specs: &[(&str, Value)]) -> Result<()> {
    try_all(lab, t, json!({"type": "object", "properties": properties}), specs).await
}

async fn try_all(lab: &Lab, t: &mut Transcript, schema: Value, specs: &[(&str, Value)]) -> Result<()> {
    let widgets = establish(lab, &[mk_version(schema)]).await?;
    for (index, (what, spec)) in specs.iter().enumerate() {
        let answer = widgets.create(&format!("a{index}"), spec.clone()).await?;
        t.note(what, &answer.only(&["spec"]));
    }
    Ok(())
}

async fn defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let inner = json!({"type": "object", "properties": {"port": {"type": "integer", "default": 80}, "name": {"type": "string"}}});
    let mut filled = inner.clone();
    filled["default"] = json!({});
    let properties = json!({
        "replicas": {"type": "integer", "default": 1},
        "maybe": inner, "always": filled,
        "list": {"type": "array", "items": inner},
        "map": {"type": "object", "additionalProperties": inner},
        "text": {"type": "string", "nullable": true, "default": "x"},
    });
    tries(
        lab,
        t,
        properties,
        &[
            ("nothing", json!({})),
            ("a bit", json!({"maybe": {}, "replicas": 3})),
            (
                "lists and maps",
                json!({"list": [{"name": "a"}, {"port": 1}], "map": {"k": {}}}),
            ),
            ("null", json!({"replicas": null, "text": null})),
        ],
    )
    .await
}

async fn pruned(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let known = json!({"known": {"type": "string"}});
    let properties = json!({
        "strict": {"type": "object", "properties": known},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"inner": {"type": "object", "properties": known}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": known}},
        "list": {"type": "array", "items": {"type": "object", "properties": known}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    });
    let both = json!({"known": "a", "other": {"deep": [1, null]}});
    tries(lab, t, properties, &[
        ("strict", json!({"strict": both, "top": 1})),
        ("open", json!({"open": {"other": {"deep": 1}, "inner": both}})),
        ("maps and lists", json!({"map": {"k": both}, "list": [both, {}]})),
        ("embedded", json!({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"any": 1}}})),
        ("embedded without kind", json!({"pod": {"spec": {}}})),
    ])
    .await
}

async fn field_validation(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(
        lab,
        &[mk_version(
            json!({"type": "object", "properties": {"size": {"type": "integer"}}}),
        )],
    )
    .await?;
    for mode in ["Ignore", "Warn", "Strict"] {
        let one = widgets.mk("a", json!({"size": 1, "colour": "red", "shape": {"round": true}}));
        let path = widgets.path(&format!("?dryRun=All&fieldValidation={mode}"));
        t.note(mode, &lab.post(&path, &one).await?.only(&["spec"]));
    }
    widgets.create("a", json!({"size": 1})).await?.expect_ok("create")?;
    let path = widgets.path("/a?fieldValidation=Strict");
    let refused = lab
        .patch(&path, PatchKind::Merge, &json!({"spec": {"colour": "red"}}))
        .await?;
    t.note("a strict patch", &json!([refused.code, refused.at("reason")]));
    t.note(
        "names the field",
        &refused
            .text("message")
            .ends_with("strict decoding error: unknown field \"spec.colour\""),
    );
    t.note(
        "a strict apply",
        &lab.apply(&path, "me", &widgets.mk("a", json!({"colour": "red"})))
            .await?,
    );
    Ok(())
}

async fn messages(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let properties = json!({
        "kind": {"type": "string", "enum": ["small", "large"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2},
        "open": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
        "code": {"type": "string", "pattern": "^[a-z]+$"},
        "when": {"type": "string", "format": "date-time"},
        "size": {"type": "integer", "format": "int32"},
        "need": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    });
    tries(lab, t, properties, &[
        ("enum", json!({"kind": "huge"})),
        ("minimum", json!({"count": 0})),
        ("maximum", json!({"count": 12})),
        ("multiple", json!({"count": 3})),
        ("exclusive minimum", json!({"open": 0})),
        ("pattern", json!({"code": "A1"})),
        ("format", json!({"when": "yesterday"})),
        ("a large number", json!({"size": 3_000_000_000_u64})),
        ("required", json!({"need": {}})),
        ("good", json!({"kind": "small", "count": 4, "open": 0.5, "code": "abc", "when": "2026-01-02T03:04:05Z", "need": {"name": "x"}})),
    ])
    .await
}

async fn lengths(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let text = json!({"type": "string"});
    let properties = json!({
        "text": {"type": "string", "minLength": 2, "maxLength": 4},
        "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": text},
        "map": {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": text},
    });
    tries(
        lab,
        t,
        properties,
        &[
            ("short", json!({"text": "a"})),
            ("long", json!({"text": "abcde"})),
            ("letters, not bytes", json!({"text": "äöüß"})),
            ("no items", json!({"list": []})),
            ("many items", json!({"list": ["a", "b", "c"]})),
            ("no properties", json!({"map": {}})),
            ("many properties", json!({"map": {"a": "1", "b": "2", "c": "3"}})),
        ],
    )
    .await
}

async fn wrong_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let properties = json!({
        "text": {"type": "string"}, "number": {"type": "number"}, "whole": {"type": "integer"}, "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}}, "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "object": {"type": "object", "properties": {"a": {"type": "string"}}},
    });
    tries(
        lab,
        t,
        properties,
        &[
            ("a number for a text", json!({"text": 1})),
            ("a text for a number", json!({"number": "1"})),
            ("a fraction for a whole", json!({"whole": 1.5})),
            ("a text for a flag", json!({"flag": "true"})),
            ("a text for a list", json!({"list": "a"})),
            ("a number in a list", json!({"list": ["a", 1]})),
            ("a number in a map", json!({"map": {"k": 1}})),
            ("a list for an object", json!({"object": []})),
            ("null", json!({"text": null})),
            ("null in a list", json!({"list": [null]})),
        ],
    )
    .await
}

async fn causes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let properties = json!({"a": {"type": "integer", "minimum": 1}, "b": {"type": "string", "enum": ["x"]}, "c": {"type": "string"}});
    let schema = json!({"type": "object", "required": ["c"], "properties": properties});
    let widgets = establish(lab, &[mk_version(schema)]).await?;
    let refused = widgets.create("a", json!({"a": 0, "b": "y"})).await?;
    t.note("three", &json!([refused.code, refused.at("reason")]));
    // The real thing goes through the fields in no order.
    let causes = refused.at("details/causes");
    let mut causes: Vec<String> = causes.as_array().into_iter().flatten().map(Value::to_string).collect();
    causes.sort();
    t.note("causes", &causes);
    Ok(())
}

async fn cel(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let schema = json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not be more than max"},
            {"rule": "self.max < 100"},
            {"rule": "self.max != 50", "messageExpression": "'max must not be ' + 'fifty'", "reason": "FieldValueForbidden", "fieldPath": ".max"},
        ],
        "required": ["min", "max"],
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self.startsWith('n')"}]}},
        },
    });
    try_all(
        lab,
        t,
        schema,
        &[
            ("good", json!({"min": 1, "max": 2, "names": ["na"]})),
            ("with a message", json!({"min": 3, "max": 2})),
            ("without one", json!({"min": 1, "max": 100})),
            ("with an expression", json!({"min": 1, "max": 50})),
            ("in a list", json!({"min": 1, "max": 2, "names": ["na", "x"]})),
            ("two at once", json!({"min": 200, "max": 100})),
            ("after the schema", json!({"min": "x", "max": 1})),
        ],
    )
    .await
}

async fn cel_library(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let schema = json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "!has(self.memory) || quantity(self.memory).isGreaterThan(quantity('1Gi'))", "message": "memory is too small"},
            {"rule": "!has(self.tags) || self.tags.all(t, t.matches('^[a-z]+$'))", "message": "tags are small letters"},
            {"rule": "!has(self.address) || isIP(self.address)", "message": "no address"},
        ],
        "properties": {
            "memory": {"type": "string", "maxLength": 20}, "address": {"type": "string", "maxLength": 50},
            "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9}},
        },
    });
    try_all(
        lab,
        t,
        schema,
        &[
            ("nothing", json!({})),
            ("enough", json!({"memory": "2Gi", "tags": ["a"], "address": "10.0.0.1"})),
            ("too small", json!({"memory": "512Mi"})),
            ("tags", json!({"tags": ["a", "B"]})),
            ("address", json!({"address": "10.0.0"})),
        ],
    )
    .await
}

async fn transitions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spec = json!({"type": "object", "required": ["class"], "properties": {
        "class": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "class is immutable"}]},
        "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "size must not shrink"}]},
    }});
    let widgets = establish(lab, &[mk_version(spec)]).await?;
    t.note(
        "create",
        &widgets
            .create("a", json!({"class": "x", "size": 2}))
            .await?
            .only(&["spec"]),
    );
    for (what, patch) in [
        ("grow", json!({"size": 3})),
        ("shrink", json!({"size": 1})),
        ("another class", json!({"class": "y"})),
        ("no size", json!({"size": null})),
        ("a size again", json!({"size": 1})),
    ] {
        let answer = lab
            .patch(&widgets.path("/a"), PatchKind::Merge, &json!({"spec": patch}))
            .await?;
        t.note(what, &answer.only(&["spec"]));
    }
    Ok(())
}

async fn duplicates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let item = json!({"type": "object", "required": ["name", "port"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}});
    let properties = json!({
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"], "items": item},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "string"}},
    });
    let part = |name: &str, port: u16| json!({"name": name, "port": port});
    tries(
        lab,
        t,
        properties,
        &[
            ("one key of two", json!({"map": [part("a", 1), part("a", 2)]})),
            ("both keys", json!({"map": [part("a", 1), part("b", 1), part("a", 1)]})),
            ("a set", json!({"set": ["a", "b", "a", "a"]})),
            ("an ordinary list", json!({"list": ["a", "a"]})),
            ("a key is missing", json!({"map": [{"name": "a"}]})),
        ],
    )
    .await
}

async fn int_or_string(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let properties = json!({"port": {"x-kubernetes-int-or-string": true}, "share": {"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+%$"}});
    tries(
        lab,
        t,
        properties,
        &[
            ("a number", json!({"port": 80})),
            ("a text", json!({"port": "http"})),
            ("a fraction", json!({"port": 1.5})),
            ("a flag", json!({"port": true})),
            ("a pattern", json!({"share": "half"})),
            ("a pattern that fits", json!({"share": "50%"})),
        ],
    )
    .await
}

async fn nullable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let properties = json!({
        "plain": {"type": "string"}, "null": {"type": "string", "nullable": true},
        "filled": {"type": "string", "default": "x"}, "map": {"type": "object", "additionalProperties": {"type": "string", "nullable": true}},
    });
    tries(
        lab,
        t,
        properties,
        &[
            ("allowed", json!({"null": null})),
            ("with a default", json!({"filled": null})),
            ("in a map", json!({"map": {"k": null}})),
            ("not allowed", json!({"plain": null})),
        ],
    )
    .await
}

async fn combinations(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let schema = json!({
        "type": "object",
        "properties": {"disk": {"type": "string"}, "image": {"type": "string"}, "size": {"type": "integer"}},
        "oneOf": [{"required": ["disk"]}, {"required": ["image"]}],
        "not": {"required": ["size"], "properties": {"size": {"maximum": 0}}},
    });
    try_all(
        lab,
        t,
        schema,
        &[
            ("one", json!({"disk": "a"})),
            ("none", json!({})),
            ("both", json!({"disk": "a", "image": "b"})),
            ("not", json!({"disk": "a", "size": 0})),
        ],
    )
    .await
}
