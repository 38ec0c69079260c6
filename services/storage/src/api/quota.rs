//! The storage that a project may have: volumes and boot disks together.
//!
//! What is there is counted from the index, which has this replica's own writes at once. Between the check and the write the
//! size is reserved, so that calls at the same moment do not pass on the same room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{Api, Client};
use parking_lot::Mutex;
use steading_api::error::RpcError;
use steading_infra::crd::Project;
use steading_model::{name::VolumeName, quantity::Quantity};
use steading_runtime::standard::kube_error;
use tokio::time::Instant;

use crate::{error::Error, observe::Observed};

/// How long a size is reserved for a write that is under way: longer than a request to the API server may take.
const RESERVED: Duration = Duration::from_secs(10);

/// Sizes that are about to be written, by volume. Cheap to clone; bounded by the calls within [`RESERVED`].
#[derive(Debug, Clone, Default)]
pub struct Quotas {
    reserved: Arc<Mutex<HashMap<VolumeName, (Quantity, Instant)>>>,
}

impl Quotas {
    /// Reserves room for a volume of a size, in place of what it has.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` if there is none; if the project cannot be read.
    pub async fn reserve(
        &self,
        kube: &Client,
        observed: &Observed,
        name: &VolumeName,
        size: Quantity,
    ) -> Result<(), RpcError> {
        let id = name.cluster.project.to_string();
        let project = format!("projects/{id}");
        let found = Api::<Project>::all(kube.clone()).get_opt(&id).await;
        let found = found.map_err(|error| kube_error("Project", &project, &error))?;
        let limit = found.and_then(|project| project.spec.quota.get("storage").cloned());
        let Some(limit) = limit.and_then(|text| text.parse::<Quantity>().ok()) else {
            return Ok(());
        };
        let mut reserved = self.reserved.lock();
        let now = Instant::now();
        reserved.retain(|_, (_, until)| *until > now);
        let mut sizes: HashMap<VolumeName, u64> = observed
            .volumes_of_project(&id)
            .map(|volume| (volume.name.clone(), volume.size.bytes()))
            .collect();
        let others = reserved
            .iter()
            .filter(|(other, _)| other.cluster.project == name.cluster.project);
        for (other, (size, _)) in others {
            let present = sizes.entry(other.clone()).or_default();
            *present = (*present).max(size.bytes());
        }
        let present = sizes.get(name).copied().unwrap_or_default();
        let used = sizes.values().fold(observed.boot_disks_of_project(&id), |sum, size| {
            sum.saturating_add(*size)
        });
        let more = size.bytes().saturating_sub(present);
        if used.saturating_add(more) > limit.bytes() {
            return Err(Error::QuotaExceeded {
                project,
                limit: limit.to_string(),
                used: Quantity::from_bytes(used).to_string(),
                wanted: Quantity::from_bytes(more).to_string(),
            }
            .into());
        }
        reserved.insert(name.clone(), (size, now + RESERVED));
        Ok(())
    }

    /// Gives back what was reserved for a write that has been made: the index has it now.
    pub fn settle(&self, name: &VolumeName) {
        self.reserved.lock().remove(name);
    }
}
