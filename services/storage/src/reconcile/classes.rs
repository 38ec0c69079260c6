//! Says of each storage class whether it can be used, also of those that were applied with `kubectl`.

use std::time::Duration;

use k8s_openapi::{
    api::storage::v1::StorageClass as InfraClass,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{Api, Client, ResourceExt};
use steading_controller::Source;
use steading_infra::{
    apply::{FieldManager, apply_status},
    crd::storage_class::{StorageClass, StorageClassStatus},
    error::{InfraError, optional},
    snapshot::VolumeSnapshotClass,
};
use steading_runtime::{CancellationToken, clock::Clock, tasks::Chain};

use crate::observe::class::offer;

/// How often classes are judged again: what they refer to may come and go unseen.
const RESYNC: Duration = Duration::from_secs(60);

/// Runs until cancelled.
pub(crate) async fn run(client: Client, clock: Clock, source: Source<StorageClass>, cancel: CancellationToken) {
    let judge = Judge { client, clock };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = judge.follow(&source) => {}
    }
}

struct Judge {
    client: Client,
    clock: Clock,
}

impl Judge {
    fn api(&self) -> Api<StorageClass> {
        Api::all(self.client.clone())
    }

    /// Judges every class when any changes, and now and then: there are dozens at most, and only what differs is written.
    async fn follow(&self, source: &Source<StorageClass>) {
        let mut changed = source.index().changed();
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return },
                _ = resync.tick() => {}
            }
            for (_, class) in source.index().all() {
                self.judge(&class).await;
            }
        }
    }

    async fn judge(&self, class: &StorageClass) {
        if class.metadata.deletion_timestamp.is_some() {
            return;
        }
        let name = class.name_any();
        let wanted = match self.status(class).await {
            Ok(status) => status,
            Err(error) => {
                tracing::debug!(name, error = %Chain(&error), "a storage class cannot be judged now");
                return;
            }
        };
        if class.status.as_ref() == Some(&wanted) {
            return;
        }
        match apply_status(&self.api(), FieldManager::Storage, &name, &wanted).await {
            Ok(_) | Err(InfraError::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(name, error = %Chain(&error), "the status of a storage class cannot be written")
            }
        }
    }

    async fn status(&self, class: &StorageClass) -> Result<StorageClassStatus, InfraError> {
        let mut conditions = vec![match offer(class) {
            Ok(_) => self.condition(class, "Accepted", Ok("the class can be used")),
            Err(violations) => self.condition(class, "Accepted", Err(("InvalidSpec", violations.to_string()))),
        }];
        let infra: Api<InfraClass> = Api::all(self.client.clone());
        let name = &class.spec.infra_storage_class;
        let found = optional(infra.get(name).await)?.is_some();
        conditions.push(self.found(class, "InfraClassFound", found, &format!("storage class {name}")));
        if let Some(name) = class.spec.snapshot_class.as_deref().filter(|name| !name.is_empty()) {
            let snapshots: Api<VolumeSnapshotClass> = Api::all(self.client.clone());
            let found = optional(snapshots.get(name).await)?.is_some();
            conditions.push(self.found(
                class,
                "SnapshotClassFound",
                found,
                &format!("volume snapshot class {name}"),
            ));
        }
        Ok(StorageClassStatus {
            observed_generation: class.metadata.generation,
            conditions,
        })
    }

    fn found(&self, class: &StorageClass, kind: &str, found: bool, what: &str) -> Condition {
        let has = format!("the infra cluster has {what}");
        let lacks = format!("the infra cluster has no {what}");
        self.condition(
            class,
            kind,
            if found {
                Ok(has.as_str())
            } else {
                Err(("NotFound", lacks))
            },
        )
    }

    fn condition(&self, class: &StorageClass, kind: &str, holds: Result<&str, (&str, String)>) -> Condition {
        let (status, reason, message) = match holds {
            Ok(text) => ("True", kind.to_owned(), text.to_owned()),
            Err((reason, text)) => ("False", reason.to_owned(), text),
        };
        let before = class
            .status
            .as_ref()
            .and_then(|s| s.conditions.iter().find(|c| c.type_ == kind));
        let unchanged = before
            .filter(|c| c.status == status)
            .map(|c| c.last_transition_time.clone());
        // Kubernetes keeps whole seconds.
        let now = jiff::Timestamp::from_second(self.clock.now().as_second()).unwrap_or_default();
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: unchanged.unwrap_or(Time(now)),
            observed_generation: class.metadata.generation,
        }
    }
}
