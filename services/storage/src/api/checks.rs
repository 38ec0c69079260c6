//! Whether a wish can be granted: asked before it is noted, so that whoever wishes learns at once why not.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use steading_api::error::RpcError;
use steading_infra::kubevirt::VirtualMachine;
use steading_model::{
    name::{MachineName, VolumeName},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::standard::kube_error;

use super::{classes::Classes, fields::class_name, volumes::Volumes};
use crate::{
    domain::{
        attachment::elsewhere,
        class::Offer,
        eligibility::{Attachee, unfit},
        site::Site,
        volume::{Stage, Volume},
    },
    error::Error,
    observe::parse,
};

impl Volumes {
    /// Checks that a volume may be attached to a machine now.
    ///
    /// # Errors
    /// If another machine has it or may still have it, its data is lost, the machine is of another cluster, does not exist, is
    /// being deleted or cannot take it.
    pub async fn check_attach(
        &self,
        name: &VolumeName,
        subject: Attachee<'_>,
        machine: &MachineName,
    ) -> Result<(), RpcError> {
        if machine.cluster != name.cluster {
            return Err(Violations::one("machine", "must be a machine of the volume's cluster").into());
        }
        let refused = |id: &str| {
            let machine = id
                .parse()
                .map(|id| MachineName::new(name.cluster.clone(), id).to_string());
            Error::AttachedElsewhere {
                volume: name.to_string(),
                machine: machine.unwrap_or_default(),
            }
        };
        let id = machine.id.as_str();
        if let Attachee::Present(volume) = subject {
            if let Some(other) = volume.wanted_on().filter(|other| *other != id) {
                return Err(refused(other).into());
            }
            let sites = self.observed.sites(volume);
            if let Some(other) = elsewhere(volume, &sites, Some(id)) {
                return Err(refused(other).into());
            }
            self.check_content(volume).await?;
        }
        let site = self.machine(machine).await?;
        let hold = match subject {
            Attachee::Present(volume) if site.holds(volume.id()) => None,
            Attachee::Present(volume) => unfit(volume.id(), volume.bus, &volume.zones, &site),
            Attachee::New(offer) => unfit(name.id.as_str(), offer.bus, &offer.zones, &site),
        };
        match hold {
            Some(hold) => Err(Error::InvalidState(hold.message).into()),
            None => Ok(()),
        }
    }

    /// Checks that a volume has something to attach: it was made, and the claim that holds its bytes is there.
    async fn check_content(&self, volume: &Volume) -> Result<(), RpcError> {
        let name = &volume.name;
        if volume.stage == Stage::Failed {
            return Err(Error::InvalidState(format!("volume {name} could not be made: {}", volume.message)).into());
        }
        if volume.stage != Stage::Ready || self.observed.claim(volume).is_some_and(|claim| !claim.lost) {
            return Ok(());
        }
        // It may only not have been seen yet.
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.kube.clone(), &name.namespace());
        let found = claims.get_opt(volume.id()).await;
        let found = found.map_err(|e| kube_error("Volume", &name.to_string(), &e))?;
        match found.as_ref().and_then(parse::claim) {
            Some(claim) if !claim.lost => Ok(()),
            Some(_) | None => {
                let text = format!("the claim that held the data of volume {name} is gone from the infra cluster");
                Err(Error::InvalidState(text).into())
            }
        }
    }

    /// The index knows nearly every machine, so that attaching many volumes does not read one machine many times.
    async fn machine(&self, machine: &MachineName) -> Result<Site, RpcError> {
        let (namespace, id) = (machine.namespace(), machine.object_name());
        let mut site = self.observed.site(&namespace, &id);
        let current = self.observed.machines.health().is_live();
        if !current || site.vm.as_ref().is_none_or(|vm| vm.terminating) {
            let api: Api<VirtualMachine> = Api::namespaced(self.kube.clone(), &namespace);
            let found = api
                .get_opt(&id)
                .await
                .map_err(|e| kube_error("Machine", &machine.to_string(), &e))?;
            let missing = || Error::ReferenceNotFound {
                kind: "Machine",
                name: machine.to_string(),
            };
            site.vm = Some(Arc::new(parse::machine(&found.ok_or_else(missing)?)));
        }
        Ok(site)
    }

    /// Checks that the project's quota has room for a volume of a size.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` if not.
    pub async fn check_quota(
        &self,
        name: &VolumeName,
        size: Quantity,
        before: Option<Quantity>,
    ) -> Result<(), RpcError> {
        if before.is_some_and(|before| size <= before) {
            return Ok(());
        }
        self.quotas.reserve(&self.kube, &self.observed, name, size).await
    }

    /// Checks that a volume may have another size.
    ///
    /// # Errors
    /// If it would shrink, or its class does not allow it.
    pub async fn check_growth(&self, volume: &Volume, size: Quantity, path: &str) -> Result<(), RpcError> {
        if size < volume.size {
            let (present, wanted) = (volume.size.to_string(), size.to_string());
            return Err(Error::Shrink {
                volume: volume.name.to_string(),
                present,
                wanted,
            }
            .into());
        }
        let classes = Classes::new(self.kube.clone());
        let offer: Offer = classes
            .offered(
                &volume.name.cluster.project,
                &class_name(&volume.class),
                "storage_class",
            )
            .await?;
        if !offer.expansion_allowed {
            return Err(Error::ClassForbids {
                class: offer.id,
                what: "growth of volumes",
            }
            .into());
        }
        let mut violations = Violations::new();
        offer.check_size(size, path, &mut violations);
        Ok(violations.finish()?)
    }
}
