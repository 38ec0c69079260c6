//! What each service asks of the infra cluster's API server: the one list of rights, and the check of it.
//!
//! A service that lacks a right finds out at its first request, in the middle of the work. So the rights are asked for
//! before anything starts, and the roles that are deployed are made from the same list.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    rbac::v1::PolicyRule,
};
use kube::{Api, Client, api::PostParams};

use crate::{
    apply::FieldManager,
    error::{InfraError, Result},
    labels,
};

/// Reviews asked at once: a hundred questions take a moment, and the API server has others to serve.
const CONCURRENT_REVIEWS: usize = 16;

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In the whole cluster: objects that belong to no namespace, or to any.
    Cluster,
    /// In [`labels::SYSTEM_NAMESPACE`].
    System,
}

impl Scope {
    /// The namespace; empty means all of them.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Cluster => "",
            Self::System => labels::SYSTEM_NAMESPACE,
        }
    }
}

/// What happens without a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The service does not do its work.
    Essential,
    /// The rest works; this does not.
    For(&'static str),
}

/// Some verbs on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Where.
    pub scope: Scope,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, with `/` and the subresource if it is one.
    pub resource: &'static str,
    /// Verbs as RBAC says them.
    pub verbs: &'static [&'static str],
    /// What happens without.
    pub need: Need,
}

const fn cluster(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right {
        scope: Scope::Cluster,
        group,
        resource,
        verbs,
        need: Need::Essential,
    }
}

const fn system(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right {
        scope: Scope::System,
        ..cluster(group, resource, verbs)
    }
}

const fn only_for(what: &'static str, right: Right) -> Right {
    Right {
        need: Need::For(what),
        ..right
    }
}

const GET: &[&str] = &["get"];
const LIST: &[&str] = &["list"];
const CREATE: &[&str] = &["create"];
const PATCH: &[&str] = &["patch"];
const READ: &[&str] = &["get", "list", "watch"];
const FOLLOW: &[&str] = &["list", "watch"];
/// A collection of the API: read, created, replaced, deleted.
const COLLECTION: &[&str] = &["get", "list", "watch", "create", "update", "delete"];
const LEASE: Right = system("coordination.k8s.io", "leases", &["get", "create", "update"]);
const OWN_NAMESPACE: Right = only_for(
    "making steading-system where the installation has not",
    cluster("", "namespaces", CREATE),
);

const STEADING: &str = labels::GROUP;
const KUBEVIRT: &str = "kubevirt.io";
const INSTANCE_TYPES: &str = "instancetype.kubevirt.io";
const CDI: &str = "cdi.kubevirt.io";
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const SNAPSHOTTING: &str = "snapshots of volumes";
const CAPABILITIES: &str = "telling what the infra cluster can do";
const PREDICTIONS: &str = "predicting placements by volumes, namespaces and the configuration of KubeVirt";

/// What the installation of Steading needs: its kinds and its namespace.
pub const INSTALLATION: &[Right] = &[
    cluster(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &["get", "list", "watch", "create", "patch"],
    ),
    cluster("", "namespaces", CREATE),
    only_for(
        "refusing kubectl delete of projects and clusters that hold something",
        cluster(
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies",
            &["create", "patch"],
        ),
    ),
    only_for(
        "refusing kubectl delete of projects and clusters that hold something",
        cluster(
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings",
            &["create", "patch"],
        ),
    ),
];

/// What templating needs.
pub const TEMPLATING: &[Right] = &[
    LEASE,
    OWN_NAMESPACE,
    cluster(
        INSTANCE_TYPES,
        "virtualmachineclusterinstancetypes",
        &["get", "list", "watch", "create", "update", "patch", "delete"],
    ),
    cluster(
        INSTANCE_TYPES,
        "virtualmachineclusterpreferences",
        &["get", "list", "watch", "create", "update", "patch", "delete"],
    ),
    system(CDI, "datasources", COLLECTION),
    system(CDI, "datavolumes", &["get", "list", "watch", "create", "delete"]),
    // A golden disk stays while a clone of it runs, wherever that is.
    cluster(CDI, "datavolumes", FOLLOW),
    only_for(
        "images that are clones of claims",
        cluster(CDI, "datavolumes/source", CREATE),
    ),
    only_for(
        "events on images",
        system("events.k8s.io", "events", &["create", "patch"]),
    ),
    system(
        "apps",
        "controllerrevisions",
        &["get", "list", "create", "patch", "delete"],
    ),
    cluster("apps", "controllerrevisions", FOLLOW),
    cluster(CDI, "datasources", FOLLOW),
    cluster(STEADING, "machinetemplates", COLLECTION),
    cluster(STEADING, "machinetemplates/status", PATCH),
    cluster(STEADING, "machinepools", FOLLOW),
    cluster(KUBEVIRT, "virtualmachines", FOLLOW),
];

/// What scheduling needs.
pub const SCHEDULING: &[Right] = &[
    LEASE,
    OWN_NAMESPACE,
    cluster(STEADING, "placementpolicies", COLLECTION),
    cluster(STEADING, "placementpolicies/status", PATCH),
    cluster(STEADING, "machinepools", LIST),
    cluster("", "nodes", READ),
    cluster("", "pods", FOLLOW),
    cluster(KUBEVIRT, "virtualmachineinstances", FOLLOW),
    cluster(INSTANCE_TYPES, "virtualmachineclusterinstancetypes", &["get", "list"]),
    only_for(PREDICTIONS, cluster("", "namespaces", READ)),
    only_for(PREDICTIONS, cluster("", "persistentvolumeclaims", FOLLOW)),
    only_for(PREDICTIONS, cluster("", "persistentvolumes", FOLLOW)),
    only_for(PREDICTIONS, cluster(KUBEVIRT, "kubevirts", FOLLOW)),
    only_for(CAPABILITIES, cluster(CDI, "cdis", LIST)),
    only_for(CAPABILITIES, cluster(CDI, "storageprofiles", LIST)),
    only_for(CAPABILITIES, cluster("storage.k8s.io", "storageclasses", LIST)),
    only_for(CAPABILITIES, cluster(SNAPSHOTS, "volumesnapshotclasses", LIST)),
];

/// What storage needs.
pub const STORAGE: &[Right] = &[
    LEASE,
    OWN_NAMESPACE,
    cluster(STEADING, "storageclasses", COLLECTION),
    cluster(STEADING, "storageclasses/status", PATCH),
    // Volumes count against the quota of their project, together with the boot disks of its pools.
    cluster(STEADING, "projects", GET),
    cluster(STEADING, "machinepools", READ),
    cluster(CDI, "cdiconfigs", GET),
    cluster("events.k8s.io", "events", &["create", "patch"]),
    cluster("", "nodes", READ),
    cluster("", "namespaces", GET),
    cluster(
        CDI,
        "datavolumes",
        &["get", "list", "watch", "create", "update", "patch", "delete"],
    ),
    cluster("", "persistentvolumeclaims", &["get", "list", "watch", "patch"]),
    cluster("", "persistentvolumes", &["get", "patch"]),
    cluster("storage.k8s.io", "storageclasses", GET),
    cluster(KUBEVIRT, "virtualmachines", &["get", "list", "watch", "patch"]),
    cluster(KUBEVIRT, "virtualmachineinstances", READ),
    only_for(SNAPSHOTTING, cluster(SNAPSHOTS, "volumesnapshots", COLLECTION)),
    only_for(SNAPSHOTTING, cluster(SNAPSHOTS, "volumesnapshotclasses", GET)),
];

/// What lifecycle needs.
pub const LIFECYCLE: &[Right] = &[
    LEASE,
    cluster(STEADING, "projects", COLLECTION),
    cluster(STEADING, "projects", PATCH),
    cluster(STEADING, "projects/status", PATCH),
    cluster(STEADING, "clusters", COLLECTION),
    cluster(STEADING, "clusters", PATCH),
    cluster(STEADING, "clusters/status", PATCH),
    cluster(STEADING, "machinepools", COLLECTION),
    cluster(STEADING, "machinepools", PATCH),
    cluster(STEADING, "machinepools/status", PATCH),
    cluster(STEADING, "maintenances", COLLECTION),
    cluster(STEADING, "maintenances", PATCH),
    cluster(STEADING, "maintenances/status", PATCH),
    cluster(STEADING, "machinetemplates", READ),
    cluster("", "namespaces", &["get", "list", "watch", "create", "patch", "delete"]),
    // Machines clone golden images: KubeVirt wants their namespaces allowed to, and only who may do so may allow it.
    system(CDI, "datavolumes/source", CREATE),
    system("rbac.authorization.k8s.io", "roles", &["create", "patch"]),
    system(
        "rbac.authorization.k8s.io",
        "rolebindings",
        &["get", "create", "patch", "delete"],
    ),
    // A deleted project takes its own catalogue along.
    cluster(STEADING, "machinetemplates", &["delete"]),
    cluster(STEADING, "placementpolicies", &["list", "delete"]),
    cluster(
        INSTANCE_TYPES,
        "virtualmachineclusterinstancetypes",
        &["list", "delete"],
    ),
    cluster(INSTANCE_TYPES, "virtualmachineclusterpreferences", &["list", "delete"]),
    system(CDI, "datasources", &["list", "delete"]),
    system("apps", "controllerrevisions", &["list", "delete"]),
    system(CDI, "datavolumes", &["delete"]),
    only_for("what volumes use of a quota", cluster(CDI, "datavolumes", READ)),
    cluster(
        "networking.k8s.io",
        "networkpolicies",
        &["get", "create", "patch", "delete"],
    ),
    // Watched without their content, for new kubeconfigs.
    cluster("", "secrets", &["get", "list", "watch", "create", "patch", "delete"]),
    cluster("", "services", &["get", "list", "watch", "create", "patch", "delete"]),
    cluster(
        "discovery.k8s.io",
        "endpointslices",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    only_for(
        "events on projects, clusters and machines",
        cluster("events.k8s.io", "events", &["create", "patch"]),
    ),
    cluster("", "nodes", &["get", "list", "watch", "patch"]),
    cluster(
        KUBEVIRT,
        "virtualmachines",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    cluster(KUBEVIRT, "virtualmachineinstances", &["get", "list", "watch", "delete"]),
    cluster(
        KUBEVIRT,
        "virtualmachineinstancemigrations",
        &["get", "list", "watch", "create", "delete"],
    ),
    only_for(
        "taking back an eviction",
        cluster(
            "subresources.kubevirt.io",
            "virtualmachineinstances/evacuate/cancel",
            &["update"],
        ),
    ),
];

/// Who needs what, by the name of the service.
pub const ALL: [(&str, &[Right]); 5] = [
    ("installation", INSTALLATION),
    (labels::TEMPLATING_MANAGER, TEMPLATING),
    (labels::SCHEDULING_MANAGER, SCHEDULING),
    (labels::STORAGE_MANAGER, STORAGE),
    (labels::LIFECYCLE_MANAGER, LIFECYCLE),
];

/// What a service needs; nothing for the simulated controllers, which are no part of a deployment.
pub fn of(service: FieldManager) -> &'static [Right] {
    match service {
        FieldManager::Templating => TEMPLATING,
        FieldManager::Scheduling => SCHEDULING,
        FieldManager::Storage => STORAGE,
        FieldManager::Lifecycle => LIFECYCLE,
        FieldManager::Simulation => &[],
    }
}

/// The rules of a role that gives the rights of one scope: one for each set of verbs on resources of one group, in order.
pub fn rules(rights: &[&[Right]], scope: Scope) -> Vec<PolicyRule> {
    let mut verbs: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for right in rights.iter().copied().flatten().filter(|r| r.scope == scope) {
        verbs
            .entry((right.group, right.resource))
            .or_default()
            .extend(right.verbs);
    }
    let mut resources: BTreeMap<(&str, BTreeSet<&str>), Vec<String>> = BTreeMap::new();
    for ((group, resource), verbs) in verbs {
        resources.entry((group, verbs)).or_default().push(resource.to_owned());
    }
    let rule = |((group, verbs), resources): ((&str, BTreeSet<&str>), Vec<String>)| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        verbs: verbs.into_iter().map(ToOwned::to_owned).collect(),
        ..PolicyRule::default()
    };
    resources.into_iter().map(rule).collect()
}

/// Whether some rights allow a request.
pub fn covers(rights: &[Right], verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
    rights.iter().any(|right| {
        right.group == group
            && right.resource == resource
            && right.verbs.contains(&verb)
            && (right.scope == Scope::Cluster || right.scope.namespace() == namespace)
    })
}

/// A right that the caller does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// The verb.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, with its subresource.
    pub resource: &'static str,
    /// Where.
    pub scope: Scope,
    /// Who needs it, and for what.
    pub needed_by: Vec<(&'static str, Need)>,
}

impl MissingRight {
    /// Whether somebody cannot do without.
    pub fn is_essential(&self) -> bool {
        self.needed_by.iter().any(|(_, need)| *need == Need::Essential)
    }
}

/// Asks the API server for each right, and returns those that the caller does not have, in the order of the list.
///
/// # Errors
/// If the API server does not answer. A review that it refuses to make is an error too: nothing is known then.
pub async fn check(client: &Client, wanted: &[(&'static str, &'static [Right])]) -> Result<Vec<MissingRight>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let questions = questions(wanted);
    let answers: Vec<Option<MissingRight>> = stream::iter(questions)
        .map(|question| {
            let api = api.clone();
            async move {
                let allowed = api
                    .create(&PostParams::default(), &review(&question))
                    .await
                    .map_err(InfraError::from)?
                    .status
                    .is_some_and(|status| status.allowed);
                Ok::<_, InfraError>(if allowed { None } else { Some(question) })
            }
        })
        .buffered(CONCURRENT_REVIEWS)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Each verb on each resource once, however many need it.
fn questions(wanted: &[(&'static str, &'static [Right])]) -> Vec<MissingRight> {
    let mut places = BTreeMap::new();
    let mut questions: Vec<MissingRight> = Vec::new();
    for (service, rights) in wanted {
        for right in *rights {
            for verb in right.verbs {
                let place = *places
                    .entry((right.scope, right.group, right.resource, *verb))
                    .or_insert(questions.len());
                if place == questions.len() {
                    questions.push(MissingRight {
                        verb,
                        group: right.group,
                        resource: right.resource,
                        scope: right.scope,
                        needed_by: Vec::new(),
                    });
                }
                if let Some(question) = questions.get_mut(place) {
                    question.needed_by.push((service, right.need));
                }
            }
        }
    }
    questions
}

fn review(question: &MissingRight) -> SelfSubjectAccessReview {
    let (resource, subresource) = match question.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (question.resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(question.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(question.verb.to_owned()),
                namespace: Some(question.scope.namespace().to_owned()).filter(|n| !n.is_empty()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_asked_for_once_and_knows_who_needs_it() {
        let questions = questions(&ALL);
        let leases: Vec<_> = questions
            .iter()
            .filter(|q| q.resource == "leases" && q.verb == "update")
            .collect();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].needed_by.len(), 4);
        assert_eq!(
            review(leases[0]).spec.resource_attributes.unwrap().namespace.as_deref(),
            Some(labels::SYSTEM_NAMESPACE)
        );
    }

    #[test]
    fn one_who_can_do_without_does_not_make_a_right_dispensable() {
        let questions = questions(&ALL);
        let of = |resource: &str, verb: &str| {
            questions
                .iter()
                .find(|q| q.resource == resource && q.verb == verb)
                .unwrap()
        };
        assert!(of("namespaces", "create").is_essential());
        assert!(!of("kubevirts", "list").is_essential());
    }

    #[test]
    fn a_subresource_is_asked_for_as_one() {
        let questions = questions(&ALL);
        let question = questions.iter().find(|q| q.resource.ends_with("/cancel")).unwrap();
        let asked = review(question).spec.resource_attributes.unwrap();
        assert_eq!(asked.resource.as_deref(), Some("virtualmachineinstances"));
        assert_eq!(asked.subresource.as_deref(), Some("evacuate/cancel"));
        assert_eq!(asked.namespace, None);
    }

    #[test]
    fn the_rules_of_a_role_say_exactly_the_rights() {
        let all: Vec<_> = ALL.iter().map(|(_, rights)| *rights).collect();
        for scope in [Scope::Cluster, Scope::System] {
            let mut ruled = BTreeSet::new();
            for rule in rules(&all, scope) {
                for resource in rule.resources.unwrap() {
                    for verb in &rule.verbs {
                        let new = ruled.insert((rule.api_groups.clone().unwrap(), resource.clone(), verb.clone()));
                        assert!(new, "{verb} {resource} twice");
                    }
                }
            }
            let listed: BTreeSet<_> = questions(&ALL)
                .into_iter()
                .filter(|q| q.scope == scope)
                .map(|q| (vec![q.group.to_owned()], q.resource.to_owned(), q.verb.to_owned()))
                .collect();
            assert_eq!(ruled, listed);
        }
    }

    #[test]
    fn a_right_in_one_namespace_does_not_cover_another() {
        assert!(covers(LIFECYCLE, "get", "", "secrets", "demo--prod"));
        assert!(covers(
            LIFECYCLE,
            "get",
            "coordination.k8s.io",
            "leases",
            "steading-system"
        ));
        assert!(!covers(LIFECYCLE, "get", "coordination.k8s.io", "leases", "default"));
        assert!(!covers(LIFECYCLE, "update", "", "secrets", "demo--prod"));
    }
}
