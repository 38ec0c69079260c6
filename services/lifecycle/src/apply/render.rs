//! Placement and rendering of a pool's machines, by the services that know how.

use prost_types::{Struct, Value as ProtoValue, value::Kind};
use serde_json::Value;
use steading_api::{
    scheduling::v1::{Placement, ResolvePlacementRequest},
    templating::v1::{MachineContext, RenderMachineTemplateRequest, RenderMachineTemplateResponse},
};
use steading_infra::{crd::MachinePool, labels};
use steading_model::name::{ClusterName, MachinePoolName, MachineTemplateName, PlacementPolicyName};

use crate::{context::Context, domain::rendering::placeholder, error::Error};

/// Names that a pool's objects follow from.
#[derive(Debug, Clone)]
pub struct PoolPlace {
    /// The pool.
    pub name: MachinePoolName,
    /// Its cluster.
    pub cluster: ClusterName,
}

impl PoolPlace {
    /// The place of an object; `None` if it is not in a namespace of ours.
    pub fn of(namespace: &str, pool: &str) -> Option<Self> {
        let name = MachinePoolName::from_object(namespace, pool)?;
        Some(Self {
            cluster: name.cluster.clone(),
            name,
        })
    }

    /// Name of the pool's template.
    pub fn template(&self, pool: &MachinePool) -> Option<MachineTemplateName> {
        let id = steading_model::ids::Id::parse(pool.spec.machine_template.clone()).ok()?;
        Some(MachineTemplateName::new(self.cluster.project.clone(), id))
    }
}

/// Asks scheduling where machines of a pool may go.
///
/// # Errors
/// If it refuses or is away.
pub async fn resolve_placement(context: &Context, place: &PoolPlace, policy: &str) -> Result<Option<Placement>, Error> {
    let policy = PlacementPolicyName::from_object_name(policy)
        .map(|name| name.to_string())
        .unwrap_or_default();
    let request = ResolvePlacementRequest {
        policy,
        cluster: place.cluster.to_string(),
        pool: place.name.to_string(),
        ..ResolvePlacementRequest::default()
    };
    let answer = context
        .peers
        .placement()
        .resolve_placement(request)
        .await
        .map_err(Error::peer("scheduling"))?;
    Ok(answer.into_inner().placement)
}

/// Asks templating for the VirtualMachine of a pool.
///
/// # Errors
/// If it refuses or is away.
pub async fn render(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    placement: Option<Placement>,
) -> Result<RenderMachineTemplateResponse, Error> {
    let machine = placeholder(&place.name.id);
    let template = place
        .template(pool)
        .ok_or_else(|| Error::Malformed("machine_template is not an id".into()))?;
    let request = RenderMachineTemplateRequest {
        name: template.to_string(),
        revision: pool.spec.machine_template_revision.clone(),
        machine: Some(MachineContext {
            user_data_secret: format!("{machine}{}", labels::USER_DATA_SUFFIX),
            machine_name: machine,
            namespace: place.cluster.namespace(),
            project: place.cluster.project.to_string(),
            cluster: place.cluster.cluster.to_string(),
            pool: place.name.id.to_string(),
            placement,
            kubernetes_version: pool.spec.kubernetes_version.clone(),
            ..MachineContext::default()
        }),
        machine_template: None,
    };
    let answer = context
        .peers
        .templates()
        .render_machine_template(request)
        .await
        .map_err(Error::peer("templating"))?;
    Ok(answer.into_inner())
}

/// A struct of protobuf as JSON; whole numbers stay whole, as Kubernetes insists.
pub fn json(message: Struct) -> Value {
    Value::Object(
        message
            .fields
            .into_iter()
            .map(|(key, value)| (key, value_json(value)))
            .collect(),
    )
}

fn value_json(value: ProtoValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::StructValue(message)) => json(message),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value_json).collect()),
        Some(Kind::NumberValue(number)) => number_json(number),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "only taken if the number is whole and small enough to be exact"
)]
fn number_json(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        Value::from(number as i64)
    } else {
        serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}
