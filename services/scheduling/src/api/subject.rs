//! What placement is asked for: whose machines, of which size, under which policy.

use std::{collections::HashMap, sync::Arc};

use kube::{Api, Client};
use steading_api::error::RpcError;
use steading_infra::kubevirt::VirtualMachineClusterInstancetype;
use steading_model::{
    ids::Id,
    name::{ClusterName, InstanceTypeName, MachinePoolName, PlacementPolicyName, Scope},
    violation::Violations,
};
use steading_runtime::standard::kube_error;

use crate::{
    domain::{
        Amounts, Constraints, Placement,
        footprint::Guest,
        resolve::{DEFAULT_POLICY, Subject},
        selector::Labels,
    },
    error::Error,
    observe::Workload,
};

/// Parses the name of a policy.
///
/// # Errors
/// If it is none.
pub(crate) fn parse_policy(path: &str, name: &str) -> Result<PlacementPolicyName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

/// A policy's name, or that of the default.
pub(crate) fn policy_or_default(path: &str, name: &str) -> Result<PlacementPolicyName, RpcError> {
    let default = format!("placementPolicies/{DEFAULT_POLICY}");
    parse_policy(path, if name.is_empty() { &default } else { name })
}

/// Refuses what another project owns.
pub(crate) fn visible(scope: &Scope, name: &str, project: &Id) -> Result<(), RpcError> {
    if scope.visible_to(project) {
        Ok(())
    } else {
        Err(Error::OtherProject {
            name: name.to_owned(),
            project: project.to_string(),
        }
        .into())
    }
}

/// Whose machines a request is about.
pub(crate) fn subject(cluster: &str, pool: &str, match_labels: &HashMap<String, String>) -> Result<Subject, RpcError> {
    let cluster: ClusterName = cluster.parse().map_err(|e| RpcError::invalid_name("cluster", &e))?;
    let pool = match pool {
        "" => None,
        name if name.contains('/') => {
            let name: MachinePoolName = name.parse().map_err(|e| RpcError::invalid_name("pool", &e))?;
            if name.cluster != cluster {
                return Err(Violations::one("pool", "must be a pool of the cluster").into());
            }
            name.object_name().parse::<Id>().ok()
        }
        id => Some(Id::parse(id).map_err(|e| RpcError::from(Violations::one("pool", e.to_string())))?),
    };
    Ok(Subject {
        cluster,
        pool,
        match_labels: match_labels.clone().into_iter().collect(),
    })
}

/// A machine of the subject's kind.
pub(crate) fn workload(subject: &Subject, placement: &Placement, requests: Amounts) -> Workload {
    let labels = Labels::from(&subject.labels());
    let namespace = subject.cluster.namespace();
    Workload {
        constraints: Arc::new(Constraints::compile(placement, &namespace, &labels)),
        namespace,
        labels,
        requests,
    }
}

/// Size of an instance type of the infra cluster.
pub(crate) async fn read_guest(kube: &Client, path: &str, name: &str, project: Option<&Id>) -> Result<Guest, RpcError> {
    let parsed: InstanceTypeName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
    if let Some(project) = project {
        visible(&parsed.scope, name, project)?;
    }
    let api: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(|e| kube_error("InstanceType", name, &e))?;
    let spec = found.and_then(|object| serde_json::to_value(object.spec).ok());
    let guest = spec.as_ref().and_then(Guest::from_instancetype_spec);
    guest.ok_or_else(|| Error::UnknownInstanceType(name.to_owned()).into())
}
