//! `rights`: what the services may do in the infra cluster, as objects of its access control.

use serde_json::{Value, json};
use steading_infra::{
    labels,
    rights::{ALL, Right, Scope, rules},
};

use crate::{
    args::RightsArgs,
    output::{self, Format, out},
};

/// Name of the roles and their bindings.
const NAME: &str = "steading";
const GROUP: &str = "rbac.authorization.k8s.io";

/// Prints a namespace, a role for it, a role for the whole cluster, and the bindings of both.
///
/// # Errors
/// When the result cannot be written.
pub fn print(args: &RightsArgs, format: Format) -> anyhow::Result<()> {
    let objects = objects(&args.user);
    if format == Format::Json {
        return output::print_value(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }), format);
    }
    for object in objects {
        out::line("---")?;
        output::print_value(&object, Format::Yaml)?;
    }
    Ok(())
}

fn objects(user: &str) -> Vec<Value> {
    let all: Vec<&[Right]> = ALL.iter().map(|(_, rights)| *rights).collect();
    let subject = json!([{ "apiGroup": GROUP, "kind": "User", "name": user }]);
    let meta = |namespace: Option<&str>| {
        let mut meta = json!({ "name": NAME, "labels": { labels::MANAGED_BY: labels::MANAGED_BY_STEADING } });
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(namespace);
        }
        meta
    };
    let rbac = |kind: &str, namespace: Option<&str>, fields: Value| {
        let mut object = json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": meta(namespace) });
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
            object.extend(fields);
        }
        object
    };
    let reference = |kind: &str| json!({ "apiGroup": GROUP, "kind": kind, "name": NAME });
    let system = Some(labels::SYSTEM_NAMESPACE);
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": labels::SYSTEM_NAMESPACE, "labels": { labels::MANAGED_BY: labels::MANAGED_BY_STEADING } },
        }),
        rbac("Role", system, json!({ "rules": rules(&all, Scope::System) })),
        rbac("ClusterRole", None, json!({ "rules": rules(&all, Scope::Cluster) })),
        rbac(
            "RoleBinding",
            system,
            json!({ "roleRef": reference("Role"), "subjects": subject }),
        ),
        rbac(
            "ClusterRoleBinding",
            None,
            json!({ "roleRef": reference("ClusterRole"), "subjects": subject }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_bound_where_it_holds() {
        let objects = objects("ann");
        let kinds: Vec<_> = objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            ["Namespace", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"]
        );
        assert_eq!(objects[3]["metadata"]["namespace"], labels::SYSTEM_NAMESPACE);
        assert_eq!(objects[3]["roleRef"]["kind"], "Role");
        assert_eq!(objects[4]["subjects"][0]["name"], "ann");
        assert!(objects[2]["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    }
}
