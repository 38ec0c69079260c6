//! Which maintenance a drain continues with.

use serde_json::Value;
use steading_model::derived::derived_id;

use crate::{
    kinds::id_of,
    output::{
        name_of,
        table::{at, cell_at},
    },
};

/// What the ids of maintenances begin with that a drain makes.
const PREFIX: &str = "drain";

/// What a drain continues with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// A maintenance that is planned or runs, by its name.
    TakeUp(String),
    /// The infra node is drained already, by the maintenance of that name.
    InMaintenance(String),
    /// A new maintenance, with that id.
    Create(String),
}

/// Chooses among all maintenances that exist. Without an `id`, one that runs on the node is followed whoever began it; a planned one is taken up
/// only if an earlier drain made it, since others may have plans of their own.
///
/// # Errors
/// The maintenance of that id is another node's, or is over.
pub(super) fn choose(all: &[Value], node: &str, id: Option<&str>) -> Result<Choice, String> {
    let state = |maintenance: &Value| cell_at(maintenance, "state");
    if let Some(id) = id {
        let id = id_of(id);
        let Some(found) = all.iter().find(|one| id_of(name_of(one)) == id) else {
            return Ok(Choice::Create(id.to_owned()));
        };
        let (name, of) = (
            name_of(found).to_owned(),
            at(found, "infraNode").as_str().unwrap_or_default(),
        );
        if of != node {
            return Err(format!("{name} is a maintenance of {of}; choose another --id"));
        }
        return match state(found).as_str() {
            "PLANNED" | "RUNNING" | "STALLED" => Ok(Choice::TakeUp(name)),
            "IN_MAINTENANCE" => Ok(Choice::InMaintenance(name)),
            over => Err(format!("{name} is {over}; choose another --id")),
        };
    }
    let of_node: Vec<&Value> = all
        .iter()
        .filter(|one| at(one, "infraNode").as_str() == Some(node))
        .collect();
    let find = |fits: &dyn Fn(&Value) -> bool| of_node.iter().find(|one| fits(one)).map(|one| name_of(one).to_owned());
    let runs = find(&|one| matches!(state(one).as_str(), "RUNNING" | "STALLED"));
    if let Some(name) = runs {
        return Ok(Choice::TakeUp(name));
    }
    if let Some(name) = find(&|one| state(one) == "IN_MAINTENANCE") {
        return Ok(Choice::InMaintenance(name));
    }
    let ours = |one: &Value| id_of(name_of(one)).starts_with(&format!("{PREFIX}-"));
    if let Some(name) = find(&|one| state(one) == "PLANNED" && ours(one)) {
        return Ok(Choice::TakeUp(name));
    }
    let free = (0..=u32::MAX)
        .map(|attempt| derived_id(PREFIX, id_of(node), attempt))
        .find(|id| all.iter().all(|one| id_of(name_of(one)) != id));
    free.map(Choice::Create).ok_or_else(|| "no id is free".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk(id: &str, node: &str, state: &str) -> Value {
        json!({"name": format!("maintenances/{id}"), "infraNode": format!("infraNodes/{node}"), "state": format!("STATE_{state}")})
    }

    fn chosen(all: &[Value], id: Option<&str>) -> Result<Choice, String> {
        choose(all, "infraNodes/infra-2", id)
    }

    #[test]
    fn only_a_maintenance_that_is_planned_or_runs_is_taken_up() {
        let take = |id: &str| Ok(Choice::TakeUp(format!("maintenances/{id}")));
        assert_eq!(chosen(&[], None), Ok(Choice::Create("drain-infra-2".to_owned())));
        for state in ["PLANNED", "RUNNING", "STALLED"] {
            assert_eq!(
                chosen(&[mk("drain-infra-2", "infra-2", state)], None),
                take("drain-infra-2")
            );
        }
        for state in ["COMPLETED", "CANCELLED", "FAILED", "CANCELLING"] {
            let all = [mk("drain-infra-2", "infra-2", state)];
            let Ok(Choice::Create(id)) = chosen(&all, None) else {
                unreachable!("{state}")
            };
            assert!(id.starts_with("drain-infra-2-") && id.len() <= 28, "{id}");
            assert!(
                chosen(&all, Some("drain-infra-2"))
                    .unwrap_err()
                    .contains("another --id")
            );
        }
        let drained = [mk("m", "infra-2", "IN_MAINTENANCE")];
        assert_eq!(
            chosen(&drained, None),
            Ok(Choice::InMaintenance("maintenances/m".to_owned()))
        );
    }

    #[test]
    fn plans_of_others_are_left_alone() {
        let planned = [mk("weekly", "infra-2", "PLANNED")];
        assert_eq!(chosen(&planned, None), Ok(Choice::Create("drain-infra-2".to_owned())));
        assert_eq!(
            chosen(&planned, Some("weekly")),
            Ok(Choice::TakeUp("maintenances/weekly".to_owned()))
        );
        let elsewhere = [mk("drain-infra-2", "infra-1", "RUNNING")];
        assert!(matches!(chosen(&elsewhere, None), Ok(Choice::Create(id)) if id != "drain-infra-2"));
        assert!(chosen(&elsewhere, Some("drain-infra-2")).is_err());
    }

    #[test]
    fn the_id_of_a_long_node_name_is_bounded() {
        let Ok(Choice::Create(id)) = choose(&[], "infraNodes/metal-07.rack-b.dc1.example.test", None) else {
            unreachable!("nothing to take up")
        };
        assert!(id.len() <= 28 && id.starts_with("drain-metal-07-"), "{id}");
    }
}
