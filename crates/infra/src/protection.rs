//! Keeps `kubectl delete` from destroying machines and volumes without a word: an admission policy refuses to delete a Project or
//! Cluster that holds something unless it carries its consent.
//!
//! Where the API server has no admission policies, the finalizers alone protect: the object waits for its consent, and says so.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{
    apply::{FieldManager, apply},
    error::{InfraError, Result},
    labels,
};

/// Name of the policy and of its binding.
pub const NAME: &str = "steading-deletion-consent";

/// Whether the policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It is installed.
    Installed,
    /// The API server does not serve or allow admission policies.
    Unavailable,
}

/// Installs the policy, or upgrades an older one.
///
/// # Errors
/// If the API server does not answer or refuses the policy's content.
pub async fn install(client: &Client, manager: FieldManager) -> Result<Protection> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let (Ok(policy), Ok(binding)) = (serde_json::from_value(policy()), serde_json::from_value(binding())) else {
        return Ok(Protection::Unavailable);
    };
    let applied = match apply(&policies, manager, &policy).await {
        Ok(_) => apply(&bindings, manager, &binding).await.map(drop),
        Err(error) => Err(error),
    };
    match applied {
        Ok(()) => Ok(Protection::Installed),
        Err(InfraError::NotFound(message) | InfraError::Forbidden(message)) => {
            tracing::info!(
                message,
                "admission policies are not available: finalizers alone protect projects and clusters"
            );
            Ok(Protection::Unavailable)
        }
        Err(error) => Err(error),
    }
}

/// The expression that a deletion has to fulfil: what it deletes holds nothing, or carries its own name as the consent.
fn expression() -> String {
    let status = "has(oldObject.status)";
    let count = |field: &str| format!("{status} && has(oldObject.status.{field}) && oldObject.status.{field} > 0");
    let clusters = format!(
        "{status} && has(oldObject.status.used) && 'clusters' in oldObject.status.used && oldObject.status.used['clusters'] != '0'"
    );
    let consent = labels::DELETION_CONSENT;
    format!(
        "!(({}) || ({}) || ({clusters})) || (has(oldObject.metadata.annotations) && '{consent}' in oldObject.metadata.annotations && \
         oldObject.metadata.annotations['{consent}'] == oldObject.metadata.name)",
        count("machines"),
        count("volumes"),
    )
}

fn policy() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME, "labels": {labels::MANAGED_BY: labels::MANAGED_BY_STEADING}},
        "spec": {
            // A fault of the expression must not keep anything from being deleted: the finalizers still protect.
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [labels::GROUP],
                "apiVersions": ["*"],
                "operations": ["DELETE"],
                "resources": ["projects", "clusters"],
            }]},
            "validations": [{
                "expression": expression(),
                "reason": "Forbidden",
                "messageExpression": format!(
                    "'it holds machines, volumes or clusters; to delete them with it, annotate it first: \
                     {}=' + oldObject.metadata.name",
                    labels::DELETION_CONSENT
                ),
            }],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME, "labels": {labels::MANAGED_BY: labels::MANAGED_BY_STEADING}},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_and_binding_are_what_kubernetes_reads() {
        let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy()).unwrap();
        let spec = policy.spec.unwrap();
        let validation = &spec.validations.unwrap()[0];
        assert!(validation.expression.contains(labels::DELETION_CONSENT));
        let parens = |c| validation.expression.chars().filter(|one| *one == c).count();
        assert_eq!(parens('('), parens(')'));
        let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding()).unwrap();
        assert_eq!(binding.spec.policy_name, NAME);
    }
}
