//! What is said of a template.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use steading_infra::crd::machine_template::{MachineTemplate, MachineTemplateStatus};

use crate::domain::Resolved;

/// What is known of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether machines can be made from it, or which rules it breaks.
    pub accepted: Result<(), String>,
    /// Id and number of the revision that it stands for, if that is stored.
    pub revision: Option<(String, i64)>,
    /// What the catalogue has otherwise than that revision; `None` if that is not known.
    pub changed: Option<Vec<String>>,
}

/// Names of what a revision was made with that the catalogue now has otherwise.
pub fn changed(pinned: &Resolved, present: &Resolved) -> Vec<String> {
    let mut names = Vec::new();
    for (pinned, present) in [
        (&pinned.instance_type, &present.instance_type),
        (&pinned.preference, &present.preference),
    ] {
        if pinned != present {
            let either = pinned.as_ref().or(present.as_ref());
            names.extend(either.map(|entry| entry.name.clone()));
        }
    }
    let images = pinned
        .images
        .iter()
        .filter(|(name, image)| present.images.get(*name) != Some(*image));
    names.extend(images.map(|(name, _)| name.clone()));
    names
}

/// The status that a template should have; `None` if it has it.
pub fn plan_status(
    template: &MachineTemplate,
    verdict: &Verdict,
    now: jiff::Timestamp,
) -> Option<MachineTemplateStatus> {
    let generation = template.metadata.generation.unwrap_or_default();
    let old = template.status.clone().unwrap_or_default();
    let condition = |type_: &str, (status, reason, message): (&str, &str, String)| {
        let since = old.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    };
    let accepted = match &verdict.accepted {
        Ok(()) => ("True", "Valid", "machines can be made from it".to_owned()),
        Err(text) => ("False", "Invalid", text.clone()),
    };
    let current = match &verdict.changed {
        None => (
            "Unknown",
            "NotResolved",
            "what it refers to cannot be looked up".to_owned(),
        ),
        Some(names) if names.is_empty() => ("True", "Current", String::new()),
        Some(names) => (
            "False",
            "CatalogueChanged",
            format!(
                "{} changed since the revision was made; machines are made as before until the template changes or its refresh is raised",
                names.join(", ")
            ),
        ),
    };
    let wanted = MachineTemplateStatus {
        observed_generation: generation,
        latest_revision: verdict.revision.as_ref().map(|(id, _)| id.clone()),
        revision_number: verdict.revision.as_ref().map_or(0, |(_, number)| *number),
        conditions: vec![condition("Accepted", accepted), condition("CatalogueCurrent", current)],
    };
    (wanted != old).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::machine::{CatalogueEntry, ResolvedImage};

    #[test]
    fn a_status_is_written_once() {
        let mut template = MachineTemplate::new(
            "acme--web",
            steading_infra::crd::machine_template::MachineTemplateSpec::default(),
        );
        let mut verdict = Verdict {
            accepted: Ok(()),
            revision: Some(("abc".to_owned(), 1)),
            changed: Some(Vec::new()),
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let status = plan_status(&template, &verdict, now).expect("a status");
        assert_eq!(status.latest_revision.as_deref(), Some("abc"));
        template.status = Some(status);
        assert_eq!(plan_status(&template, &verdict, now), None);
        verdict.accepted = Err("no image".into());
        let refused = plan_status(&template, &verdict, now).expect("a status");
        assert_eq!(refused.conditions[0].message, "no image");
    }

    #[test]
    fn what_the_catalogue_has_otherwise_is_named() {
        let pinned = Resolved {
            instance_type: Some(CatalogueEntry {
                name: "instanceTypes/a".into(),
                object: "a".into(),
                spec: json!({"cpu": {"guest": 2}}),
            }),
            images: [(
                "images/u".to_owned(),
                ResolvedImage {
                    content: "1".into(),
                    ..ResolvedImage::default()
                },
            )]
            .into(),
            ..Resolved::default()
        };
        assert_eq!(changed(&pinned, &pinned), [""; 0]);
        let mut present = pinned.clone();
        present.instance_type.as_mut().expect("a type").spec = json!({"cpu": {"guest": 4}});
        present.images.values_mut().for_each(|image| image.content = "2".into());
        assert_eq!(changed(&pinned, &present), ["instanceTypes/a", "images/u"]);
    }
}
