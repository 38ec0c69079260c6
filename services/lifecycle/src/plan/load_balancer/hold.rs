//! Load balancers that cannot be served: a placeholder in the infra cluster keeps the reason, so that it is seen everywhere.
//!
//! The placeholder is a headless Service without ports: it takes no address, no port and no traffic, and carries the labels of a
//! load balancer. Once the reason is gone it is deleted and the real one created, as a Service cannot stop being headless.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Service, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use steading_infra::labels;

use super::balanced::{Balanced, FieldNote, labels_of};

/// Why a load balancer is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum HoldReason {
    /// The project has as many as it may.
    QuotaExceeded,
    /// No port can be reached.
    NoNodePorts,
    /// A source range is not one; serving it would open what the tenant wants closed.
    InvalidSourceRanges,
    /// The infra cluster refuses it.
    RefusedByInfra,
}

impl HoldReason {
    /// As conditions and events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::NoNodePorts => "NoNodePorts",
            Self::InvalidSourceRanges => "InvalidSourceRanges",
            Self::RefusedByInfra => "RefusedByInfra",
        }
    }
}

/// That a load balancer is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hold {
    /// Why, for programs.
    pub reason: HoldReason,
    /// Why, for people.
    pub message: String,
    /// Digest of what the infra cluster refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Hold {
    /// A hold.
    pub fn new(reason: HoldReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            digest: None,
            at: None,
        }
    }

    /// A refusal of the infra cluster.
    pub fn refused(message: impl Into<String>, rendered: &Service, now: Timestamp) -> Self {
        Self {
            digest: rendered.annotations().get(labels::RENDERED).cloned(),
            at: Some(now),
            ..Self::new(HoldReason::RefusedByInfra, message)
        }
    }
}

/// Why the load balancer that an infra Service stands for is not served; `None` if it is.
pub fn hold_of(infra: &Service) -> Option<Hold> {
    serde_json::from_str(infra.annotations().get(labels::LOAD_BALANCER_HOLD)?).ok()
}

/// Whether an infra Service is only a placeholder.
pub fn is_placeholder(infra: &Service) -> bool {
    infra.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The placeholder of a load balancer.
pub fn placeholder(balanced: &Balanced, hold: &Hold, notes: &[FieldNote]) -> Service {
    let mut service = Service {
        metadata: ObjectMeta {
            name: Some(balanced.infra_name()),
            namespace: Some(balanced.cluster.clone()),
            labels: Some(labels_of(balanced)),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let annotations = service.annotations_mut();
    annotations.insert(labels::TENANT_SERVICE.to_owned(), balanced.tenant_service());
    annotations.insert(
        labels::FIELD_NOTES.to_owned(),
        serde_json::to_string(notes).unwrap_or_default(),
    );
    annotations.insert(
        labels::LOAD_BALANCER_HOLD.to_owned(),
        serde_json::to_string(hold).unwrap_or_default(),
    );
    service
}
