//! Says of each storage class whether it can be used, also of those that were applied with `kubectl`.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::{
    api::storage::v1::StorageClass as InfraClass,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use steading_infra::{
    apply::{FieldManager, apply_status},
    crd::storage_class::{StorageClass, StorageClassStatus},
    error::{InfraError, optional},
    snapshot::VolumeSnapshotClass,
};
use steading_runtime::{CancellationToken, clock::Clock, tasks::Chain};

use crate::observe::class::offer;

/// How often classes are judged anew: what they refer to may come and go unseen.
const RESYNC: Duration = Duration::from_secs(60);

/// Runs until cancelled.
pub(crate) async fn run(client: Client, clock: Clock, cancel: CancellationToken) {
    let judge = Judge { client, clock };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = judge.follow() => {}
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

    async fn follow(&self) {
        let mut events = Box::pin(watcher(self.api(), watcher::Config::default()).default_backoff());
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(class) | watcher::Event::InitApply(class))) => self.judge(&class).await,
                    Some(Ok(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone)) => {}
                    Some(Err(error)) => tracing::warn!(%error, "the watch of storage classes broke and is begun anew"),
                    None => return,
                },
                _ = resync.tick() => {
                    let classes = self.api().list(&kube::api::ListParams::default()).await;
                    for class in classes.iter().flatten() {
                        self.judge(class).await;
                    }
                }
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
