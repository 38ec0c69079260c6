//! The order in which a project is taken down: its clusters, then its own catalogue, then the project.

use super::teardown::{Consent, Remainder, list};

/// Objects that a condition lists by name.
const LISTED: usize = 20;

/// What is left of a project that is being deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectRemains {
    /// Clusters.
    pub clusters: Vec<Remainder>,
    /// Templates, policies, instance types, preferences, images and revisions of its own.
    pub catalogue: Vec<Remainder>,
}

/// The next step of a project's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectStep {
    /// Somebody has to agree first.
    WaitForConsent,
    /// Delete its clusters.
    Clusters,
    /// Delete its catalogue.
    Catalogue,
    /// Nothing is left.
    Finish,
}

/// The next step, and what the project's `Deleting` condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPlan {
    /// What to do.
    pub step: ProjectStep,
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
}

/// Decides the next step of a project that is being deleted. The project goes last, so that no later one of its name inherits
/// anything.
pub fn plan_project(remains: &ProjectRemains, consent: Consent) -> ProjectPlan {
    let (step, reason, waits_for) = match (remains.clusters.is_empty(), consent) {
        (false, Consent::Missing) => (ProjectStep::WaitForConsent, "ConsentRequired", &remains.clusters),
        (false, Consent::Given) => (ProjectStep::Clusters, "DeletingClusters", &remains.clusters),
        (true, _) if !remains.catalogue.is_empty() => (ProjectStep::Catalogue, "DeletingCatalogue", &remains.catalogue),
        (true, _) => (ProjectStep::Finish, "Deleted", &remains.catalogue),
    };
    let listed = list(waits_for, LISTED);
    let message = match step {
        ProjectStep::WaitForConsent => format!(
            "nothing is deleted until the project is annotated with {}=<its name>, or deleted with force through the API; it holds \
             {listed}",
            steading_infra::labels::DELETION_CONSENT
        ),
        ProjectStep::Clusters | ProjectStep::Catalogue => format!("waits for {listed}"),
        ProjectStep::Finish => String::new(),
    };
    ProjectPlan { step, reason, message }
}

/// Whether a catalogue object is a project's own: by its label, or by its name where `kubectl` set none.
pub fn is_of_project(project: &str, label: Option<&str>, name: &str) -> bool {
    match label {
        Some(label) => label == project,
        None => name
            .split_once(steading_infra::labels::PROJECT_SEPARATOR)
            .is_some_and(|(prefix, _)| prefix == project),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_remainder(kind: &'static str, name: &str) -> Remainder {
        Remainder {
            kind,
            name: name.into(),
            ..Remainder::default()
        }
    }

    #[test]
    fn a_project_that_holds_clusters_waits_for_consent_however_it_was_deleted() {
        let remains = ProjectRemains {
            clusters: vec![mk_remainder("cluster", "shop--prod")],
            catalogue: vec![mk_remainder("MachineTemplate", "shop--small")],
        };
        let plan = plan_project(&remains, Consent::Missing);
        assert_eq!(
            (plan.step, plan.reason),
            (ProjectStep::WaitForConsent, "ConsentRequired")
        );
        assert!(plan.message.contains("cluster shop--prod") && plan.message.contains("deletion-consent"));
        assert_eq!(plan_project(&remains, Consent::Given).step, ProjectStep::Clusters);
    }

    #[test]
    fn nothing_of_a_project_remains_when_it_is_gone() {
        let mut remains = ProjectRemains {
            catalogue: vec![mk_remainder("DataSource", "shop--ubuntu")],
            ..ProjectRemains::default()
        };
        assert_eq!(plan_project(&remains, Consent::Missing).step, ProjectStep::Catalogue);
        remains.catalogue.clear();
        assert_eq!(plan_project(&remains, Consent::Missing).step, ProjectStep::Finish);
    }

    #[test]
    fn what_is_shared_or_another_projects_is_not_its_own() {
        assert!(is_of_project("shop", Some("shop"), "x"));
        assert!(is_of_project("shop", None, "shop--small"));
        assert!(!is_of_project("shop", None, "shop-two--small"));
        assert!(!is_of_project("shop", None, "small"));
        assert!(!is_of_project("shop", Some("other"), "shop--small"));
    }
}
