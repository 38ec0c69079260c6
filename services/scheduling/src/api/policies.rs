//! The collection of placement policies.

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_api::{error::RpcError, scheduling::v1 as proto};
use steading_infra::{
    crd::{
        MachinePool,
        placement_policy::{PlacementPolicy, PlacementPolicySpec},
    },
    labels,
};
use steading_model::name::{MachinePoolName, PlacementPolicyName, Scope};
use steading_runtime::collection::{self, Collection, Keys, kube_error};

use super::{KEYS, convert::policy};
use crate::{
    domain::{
        policy::{Reach, validate},
        resolve::{DEFAULT_POLICY, default_policy},
    },
    error::Error,
};

/// Pools that an error names at most.
const NAMED_POOLS: usize = 5;

/// Placement policies as objects of the infra cluster.
#[derive(Clone)]
pub struct Policies {
    /// The infra cluster.
    pub kube: Client,
}

/// Parses the name of a policy.
///
/// # Errors
/// If it is none.
pub fn parse_name(path: &str, name: &str) -> Result<PlacementPolicyName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

impl Collection for Policies {
    type Object = PlacementPolicy;
    type Message = proto::PlacementPolicy;

    const KIND: &'static str = "PlacementPolicy";
    const MESSAGE: &'static str = "steading.scheduling.v1.PlacementPolicy";
    const FIELD: &'static str = "placement_policy";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<PlacementPolicy>, RpcError> {
        Ok(Api::all(self.kube.clone()))
    }

    fn scope(&self, parent: &str) -> Result<collection::Scope, RpcError> {
        let scope = Scope::parse_parent(parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
        Ok(collection::Scope {
            selector: match scope {
                Scope::Shared => format!("!{}", labels::PROJECT),
                Scope::Project(project) => format!("{}={project}", labels::PROJECT),
            },
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse_name("name", name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let scope = Scope::parse_parent(parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
        let id = steading_model::ids::Id::parse(id).map_err(|e| {
            RpcError::from(steading_model::violation::Violations::one(
                "placement_policy_id",
                e.to_string(),
            ))
        })?;
        Ok(PlacementPolicyName::new(scope, id).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::PlacementPolicy) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &PlacementPolicy) -> Option<proto::PlacementPolicy> {
        policy::policy(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::PlacementPolicy,
        current: Option<&PlacementPolicy>,
    ) -> Result<PlacementPolicy, RpcError> {
        let name = parse_name("name", name)?;
        let spec = policy::policy_from(message).map_err(Error::InvalidPolicy)?;
        validate(&spec, Reach::of(&name.scope)).map_err(Error::InvalidPolicy)?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| PlacementPolicy::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let meta = &mut object.metadata;
        let mut all = KEYS.merge(meta.labels.as_ref(), &message.labels);
        all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
        if let Some(project) = name.scope.project() {
            all.insert(labels::PROJECT.into(), project.to_string());
        }
        meta.labels = Some(all);
        meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), &message.annotations));
        Ok(object)
    }

    async fn before_delete(&self, current: &PlacementPolicy) -> Result<(), RpcError> {
        let object_name = current.name_any();
        if object_name == DEFAULT_POLICY {
            return Err(Error::DefaultPolicy.into());
        }
        let pools = self.pools_using(&object_name).await?;
        if pools.is_empty() {
            return Ok(());
        }
        let policy = PlacementPolicyName::from_object_name(&object_name).map_or(object_name, |n| n.to_string());
        Err(Error::PolicyInUse { policy, pools }.into())
    }
}

impl Policies {
    /// A stored policy that may be used, and its etag; the built-in default if the object `default` is missing, as it is before
    /// the first start.
    ///
    /// # Errors
    /// If it does not exist, or breaks rules: who applies one with `kubectl` is not stopped, so it is checked here.
    pub async fn usable(&self, name: &PlacementPolicyName) -> Result<(PlacementPolicySpec, String), RpcError> {
        let api: Api<PlacementPolicy> = Api::all(self.kube.clone());
        let found = api.get_opt(&name.object_name()).await;
        match found.map_err(|e| kube_error("PlacementPolicy", &name.to_string(), &e))? {
            Some(object) => {
                validate(&object.spec, Reach::of(&name.scope)).map_err(Error::InvalidPolicy)?;
                Ok((object.spec, object.metadata.resource_version.unwrap_or_default()))
            }
            None if name.scope == Scope::Shared && name.id == *DEFAULT_POLICY => Ok((default_policy(), String::new())),
            None => Err(Error::UnknownPolicy(name.to_string()).into()),
        }
    }

    async fn pools_using(&self, object_name: &str) -> Result<Vec<String>, RpcError> {
        let api: Api<kube::api::DynamicObject> =
            Api::all_with(self.kube.clone(), &kube::api::ApiResource::erase::<MachinePool>(&()));
        let resource_name = PlacementPolicyName::from_object_name(object_name).map(|n| n.to_string());
        let pools = api
            .list(&ListParams::default())
            .await
            .map_err(|e| kube_error("MachinePool", "machine pools", &e))?;
        let uses = |pool: &&kube::api::DynamicObject| {
            let policy = pool
                .data
                .pointer("/spec/placementPolicy")
                .and_then(serde_json::Value::as_str);
            policy.is_some_and(|p| p == object_name || resource_name.as_deref() == Some(p))
        };
        let name = |pool: &kube::api::DynamicObject| {
            let namespace = pool.namespace().unwrap_or_default();
            MachinePoolName::from_object(&namespace, &pool.name_any())
                .map_or_else(|| format!("{namespace}/{}", pool.name_any()), |n| n.to_string())
        };
        Ok(pools.items.iter().filter(uses).map(name).take(NAMED_POOLS).collect())
    }
}
