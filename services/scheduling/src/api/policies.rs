//! The collection of placement policies.

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_api::{error::RpcError, scheduling::v1 as proto};
use steading_controller::list::list_all;
use steading_infra::{
    crd::{
        MachinePool,
        placement_policy::{PlacementPolicy, PlacementPolicySpec},
    },
    labels,
};
use steading_model::name::{MachinePoolName, PlacementPolicyName, Scope, Within};
use steading_runtime::standard::{Collection, Keys, Writable, kube_error};

use super::convert::policy;
use crate::{
    domain::{
        policy::{Reach, validate},
        resolve::{DEFAULT_POLICY, default_policy},
    },
    error::Error,
};

/// Pools that an error names at most.
const NAMED_POOLS: usize = 5;

/// Annotations of requests, and what does not belong to users.
const KEYS: Keys = Keys {
    request_id: labels::REQUEST_ID,
    request_hash: labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
    ],
};

/// Placement policies as objects of the infra cluster.
#[derive(Clone)]
pub struct Policies {
    /// The infra cluster.
    pub kube: Client,
}

impl Collection for Policies {
    type Object = PlacementPolicy;
    type Resource = proto::PlacementPolicy;
    type Name = PlacementPolicyName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<PlacementPolicy> {
        Api::all(self.kube.clone())
    }

    fn resource(&self, object: &PlacementPolicy) -> Option<proto::PlacementPolicy> {
        policy::policy(object)
    }

    fn selector(&self, within: &Within<Scope>) -> String {
        within.project().map_or_else(
            || format!("!{}", labels::PROJECT),
            |project| format!("{}={project}", labels::PROJECT),
        )
    }
}

impl Writable for Policies {
    async fn object(
        &self,
        name: &PlacementPolicyName,
        resource: &proto::PlacementPolicy,
        current: Option<&PlacementPolicy>,
    ) -> Result<PlacementPolicy, RpcError> {
        let spec = policy::policy_from(resource).map_err(Error::InvalidPolicy)?;
        validate(&spec, Reach::of(&name.scope)).map_err(Error::InvalidPolicy)?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| PlacementPolicy::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let meta = &mut object.metadata;
        let mut all = KEYS.merge(meta.labels.as_ref(), &resource.labels);
        all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
        if let Some(project) = name.scope.project() {
            all.insert(labels::PROJECT.into(), project.to_string());
        }
        meta.labels = Some(all);
        meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), &resource.annotations));
        Ok(object)
    }

    async fn before_delete(&self, name: &PlacementPolicyName, _: &PlacementPolicy, _: bool) -> Result<(), RpcError> {
        if name.object_name() == DEFAULT_POLICY {
            return Err(Error::DefaultPolicy.into());
        }
        let pools = self.pools_using(name).await?;
        if pools.is_empty() {
            return Ok(());
        }
        let policy = name.to_string();
        Err(Error::PolicyInUse { policy, pools }.into())
    }
}

impl Policies {
    /// A stored policy that may be used; without its object if `default` is missing, as it is before the first start.
    ///
    /// # Errors
    /// If it does not exist, or breaks rules: who applies one with `kubectl` is not stopped, so it is checked here.
    pub async fn usable(&self, name: &PlacementPolicyName) -> Result<Usable, RpcError> {
        let found = self.api(None).get_opt(&name.object_name()).await;
        match found.map_err(|e| kube_error(PlacementPolicyName::KIND, &name.to_string(), &e))? {
            Some(object) => {
                validate(&object.spec, Reach::of(&name.scope)).map_err(Error::InvalidPolicy)?;
                Ok(Usable {
                    spec: object.spec.clone(),
                    object: Some(object),
                })
            }
            None if name.object_name() == DEFAULT_POLICY => Ok(Usable {
                spec: default_policy(),
                object: None,
            }),
            None => Err(Error::UnknownPolicy(name.to_string()).into()),
        }
    }

    async fn pools_using(&self, policy: &PlacementPolicyName) -> Result<Vec<String>, Error> {
        let api: Api<MachinePool> = Api::all(self.kube.clone());
        let pools = list_all(&api, &ListParams::default()).await.map_err(Error::Pools)?;
        let (name, object_name) = (policy.to_string(), policy.object_name());
        let uses = |pool: &&MachinePool| {
            let policy = &pool.spec.placement_policy;
            *policy == name || *policy == object_name
        };
        let name = |pool: &MachinePool| {
            let namespace = pool.namespace().unwrap_or_default();
            MachinePoolName::from_object(&namespace, &pool.name_any())
                .map_or_else(|| format!("{namespace}/{}", pool.name_any()), |name| name.to_string())
        };
        Ok(pools.items.iter().filter(uses).map(name).take(NAMED_POOLS).collect())
    }
}

/// A policy that may be used.
pub struct Usable {
    /// What it says.
    pub spec: PlacementPolicySpec,
    /// Its object; `None` for the built-in default.
    pub object: Option<PlacementPolicy>,
}
