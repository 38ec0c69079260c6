//! Whose a namespace is. Only what was made for a cluster is ever deleted with it.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use steading_infra::{crd::Cluster, labels};
use steading_model::name::ClusterName;

/// Whose the namespace of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceOwnership {
    /// There is none.
    Absent,
    /// It was made for this very Cluster and is deleted with it.
    Made,
    /// Somebody else made it and labelled it for this cluster: it is used and never deleted.
    Lent,
    /// It was made for another Cluster object of the same name.
    OfFormer,
    /// It is somebody else's: nothing in it is touched.
    Foreign,
}

impl NamespaceOwnership {
    /// Whether what is in it may be written and deleted.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Made | Self::Lent)
    }
}

/// Whose a namespace is. A Cluster whose name does not fit its spec owns none, whatever its name is.
pub fn whose(namespace: Option<&Namespace>, cluster: &Cluster) -> NamespaceOwnership {
    let Some(namespace) = namespace else {
        return NamespaceOwnership::Absent;
    };
    if !is_named_rightly(cluster) || namespace.name_any() != cluster.name_any() {
        return NamespaceOwnership::Foreign;
    }
    let label = |key: &str| namespace.labels().get(key).map(String::as_str);
    let is_labelled = label(labels::PROJECT) == Some(cluster.spec.project.as_str())
        && label(labels::CLUSTER) == Some(cluster.spec.cluster.as_str());
    let made_for = namespace.annotations().get(labels::CLUSTER_UID);
    match (made_for, cluster.uid()) {
        (Some(uid), Some(own)) if *uid == own => NamespaceOwnership::Made,
        (Some(_), _) if is_labelled => NamespaceOwnership::OfFormer,
        (None, _) if is_labelled => NamespaceOwnership::Lent,
        (Some(_) | None, _) => NamespaceOwnership::Foreign,
    }
}

/// Whether a Cluster is named `<project>--<cluster>` as its spec says.
pub fn is_named_rightly(cluster: &Cluster) -> bool {
    ClusterName::from_object_name(&cluster.name_any()).is_some_and(|name| {
        name.project.as_str() == cluster.spec.project && name.cluster.as_str() == cluster.spec.cluster
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn mk_cluster(name: &str) -> Cluster {
        let (project, cluster) = name.split_once("--").unwrap_or((name, name));
        serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "uid": "u-1"},
            "spec": {"project": project, "cluster": cluster},
        }))
        .unwrap()
    }

    fn mk_namespace(name: &str, labelled: bool, uid: Option<&str>) -> Namespace {
        let (project, cluster) = name.split_once("--").unwrap_or((name, name));
        let mut value = json!({"metadata": {"name": name, "labels": {}, "annotations": {}}});
        if labelled {
            value["metadata"]["labels"] = json!({labels::PROJECT: project, labels::CLUSTER: cluster});
        }
        if let Some(uid) = uid {
            value["metadata"]["annotations"] = json!({labels::CLUSTER_UID: Value::String(uid.into())});
        }
        serde_json::from_value(value).unwrap()
    }

    #[rstest]
    #[case::made(true, Some("u-1"), NamespaceOwnership::Made)]
    #[case::labels_lost(false, Some("u-1"), NamespaceOwnership::Made)]
    #[case::lent(true, None, NamespaceOwnership::Lent)]
    #[case::former(true, Some("u-0"), NamespaceOwnership::OfFormer)]
    #[case::foreign(false, None, NamespaceOwnership::Foreign)]
    #[case::foreign_with_uid(false, Some("u-0"), NamespaceOwnership::Foreign)]
    fn only_the_uid_makes_a_namespace_ours(
        #[case] labelled: bool,
        #[case] uid: Option<&str>,
        #[case] whose_it_is: NamespaceOwnership,
    ) {
        let namespace = mk_namespace("acme--prod", labelled, uid);
        assert_eq!(whose(Some(&namespace), &mk_cluster("acme--prod")), whose_it_is);
        assert_eq!(whose(None, &mk_cluster("acme--prod")), NamespaceOwnership::Absent);
    }

    #[rstest]
    #[case(labels::SYSTEM_NAMESPACE)]
    #[case("kube-system")]
    #[case("default")]
    fn a_cluster_named_after_a_namespace_owns_nothing(#[case] name: &str) {
        let namespace = mk_namespace(name, true, Some("u-1"));
        assert_eq!(whose(Some(&namespace), &mk_cluster(name)), NamespaceOwnership::Foreign);
    }
}
