//! What each request is: which standard method (AIP-131 to 135, and Watch) of which resource, or which custom method.
//!
//! The implementations are generated from the descriptors, so that one engine serves all of them and a request that
//! differs from the others in shape fails to compile where it is served.

use prost::Message;
use prost_types::{FieldMask, Timestamp};

use crate::types::v1::WatchEventType;

/// A resource: a message with an identity and a version of its own.
pub trait Resource: Message + Default + Clone + PartialEq + Send + Sync + 'static {
    /// The kind as clients read it, such as `MachinePool`.
    const KIND: &'static str;
    /// Full name of the message, such as `steading.lifecycle.v1.MachinePool`.
    const MESSAGE: &'static str;
    /// Name of the resource's field in requests, such as `machine_pool`.
    const FIELD: &'static str;

    /// The resource name.
    fn name(&self) -> &str;
    /// The object's uid; empty before it is stored.
    fn uid(&self) -> &str;
    /// The etag as the message carries it.
    fn etag(&self) -> &str;
    /// Sets the resource name.
    fn set_name(&mut self, name: String);
    /// Sets the etag.
    fn set_etag(&mut self, etag: String);
    /// Sets the fields that come from the object's metadata. Those that the resource does not have are dropped.
    fn set_meta(&mut self, meta: Meta);
}

/// The fields that every resource takes from its object's metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// The object's uid.
    pub uid: String,
    /// When the object was created.
    pub create_time: Option<Timestamp>,
    /// When its desired state last changed.
    pub update_time: Option<Timestamp>,
    /// When its deletion began.
    pub delete_time: Option<Timestamp>,
    /// The user's labels.
    pub labels: std::collections::HashMap<String, String>,
    /// The user's annotations.
    pub annotations: std::collections::HashMap<String, String>,
}

/// A request of Get.
pub trait Get: Message + 'static {
    /// What is read.
    type Resource: Resource;

    /// Its name.
    fn name(&self) -> &str;
}

/// A request of List.
pub trait List: Message + 'static {
    /// What is listed.
    type Resource: Resource;
    /// The page.
    type Response: Send + 'static;

    /// What is asked for.
    fn into_query(self) -> ListQuery;
    /// The response of one page.
    fn page(items: Vec<Self::Resource>, next_page_token: String) -> Self::Response;
}

/// What a List asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// The parent; empty for collections without one.
    pub parent: String,
    /// Most entries of the page.
    pub page_size: i32,
    /// Token of the page before.
    pub page_token: String,
    /// Filter.
    pub filter: String,
    /// Order.
    pub order_by: String,
}

/// A request of Watch.
pub trait Watch: Message + 'static {
    /// What is watched.
    type Resource: Resource;
    /// One event.
    type Response: Send + 'static;

    /// What is asked for.
    fn into_query(self) -> WatchQuery;
    /// The response of one event.
    fn event(kind: WatchEventType, resource: Option<Self::Resource>, resume_token: String) -> Self::Response;
}

/// What a Watch asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchQuery {
    /// The parent; empty for collections without one.
    pub parent: String,
    /// Filter; what leaves it is reported as deleted.
    pub filter: String,
    /// Token of the last event that was received.
    pub resume_token: String,
}

/// A request of Create.
pub trait Create: Message + Clone + 'static {
    /// What is created.
    type Resource: Resource;
    /// Full name of the request.
    const MESSAGE: &'static str;
    /// Name of the field with the id, for paths in errors.
    const ID_FIELD: &'static str;

    /// What is asked for.
    fn into_creation(self) -> Creation<Self::Resource>;
}

/// What a Create asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Creation<R> {
    /// The parent; empty for collections without one.
    pub parent: String,
    /// Last segment of the name.
    pub id: String,
    /// The desired resource.
    pub resource: Option<R>,
    /// UUID of the request.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// A request of Update.
pub trait Update: Message + Clone + 'static {
    /// What is updated.
    type Resource: Resource;
    /// Full name of the request.
    const MESSAGE: &'static str;

    /// What is asked for.
    fn into_change(self) -> Change<Self::Resource>;
}

/// What an Update asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change<R> {
    /// The new values, with name and etag.
    pub resource: Option<R>,
    /// Fields to write.
    pub mask: Option<FieldMask>,
    /// UUID of the request.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// A request of Delete.
pub trait Delete: Message + Clone + 'static {
    /// What is deleted.
    type Resource: Resource;
    /// Full name of the request.
    const MESSAGE: &'static str;

    /// What is asked for.
    fn into_deletion(self) -> Deletion;
}

/// What a Delete asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Its name.
    pub name: String,
    /// Must be the current etag, if set.
    pub etag: String,
    /// Succeed if there is none.
    pub allow_missing: bool,
    /// Delete it with its children.
    pub force: bool,
    /// UUID of the request.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// A request of a custom method (AIP-136) on a stored resource, which the method returns.
pub trait Act: Message + Clone + 'static {
    /// What it acts on.
    type Resource: Resource;
    /// Full name of the request.
    const MESSAGE: &'static str;
    /// The method's verb as its HTTP rule has it, such as `attach`.
    const VERB: &'static str;

    /// Name of the resource.
    fn name(&self) -> &str;
    /// Must be the current etag, if set.
    fn etag(&self) -> &str;
    /// UUID of the request.
    fn request_id(&self) -> &str;
    /// Check only.
    fn validate_only(&self) -> bool;
}

#[allow(clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/standard.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lifecycle::v1 as lifecycle, scheduling::v1 as scheduling, storage::v1 as storage};

    #[test]
    fn requests_know_their_resource_and_fields() {
        let request = lifecycle::CreateMachinePoolRequest {
            parent: "projects/a/clusters/b".into(),
            machine_pool_id: "c".into(),
            request_id: "d".into(),
            ..lifecycle::CreateMachinePoolRequest::default()
        };
        let creation = request.into_creation();
        assert_eq!(
            (creation.parent.as_str(), creation.id.as_str()),
            ("projects/a/clusters/b", "c")
        );
        assert_eq!(
            <lifecycle::CreateMachinePoolRequest as Create>::ID_FIELD,
            "machine_pool_id"
        );
        assert_eq!(<lifecycle::MachinePool as Resource>::FIELD, "machine_pool");
        assert_eq!(<storage::Volume as Resource>::MESSAGE, "steading.storage.v1.Volume");
    }

    #[test]
    fn what_a_request_does_not_have_is_empty() {
        let query = scheduling::ListInfraNodesRequest {
            filter: "zone=a".into(),
            ..scheduling::ListInfraNodesRequest::default()
        }
        .into_query();
        assert_eq!((query.parent.as_str(), query.filter.as_str()), ("", "zone=a"));
    }

    #[test]
    fn custom_methods_have_the_verb_of_their_rule() {
        assert_eq!(<storage::AttachVolumeRequest as Act>::VERB, "attach");
        assert_eq!(<lifecycle::StartMaintenanceRequest as Act>::VERB, "start");
        assert_eq!(<lifecycle::RestartMachineRequest as Act>::VERB, "restart");
    }

    #[test]
    fn metadata_goes_where_the_resource_has_a_field_for_it() {
        let mut revision = crate::templating::v1::MachineTemplateRevision::default();
        revision.set_meta(Meta {
            uid: "u".into(),
            ..Meta::default()
        });
        assert_eq!(revision.uid(), "u");
    }
}
