//! Channels to the other services.

use steading_api::{
    scheduling::v1::{
        capacity_service_client::CapacityServiceClient, placement_service_client::PlacementServiceClient,
    },
    storage::v1::volume_service_client::VolumeServiceClient,
    templating::v1::template_service_client::TemplateServiceClient,
};
use steading_runtime::channel::{AddressError, ChannelConfig, PeerChannel, connect_lazy};

use crate::config::PeerArgs;

/// Channels to the other services.
#[derive(Debug, Clone)]
pub struct Peers {
    templating: PeerChannel,
    scheduling: PeerChannel,
    storage: PeerChannel,
}

impl Peers {
    /// Channels that exist already.
    pub fn new(templating: PeerChannel, scheduling: PeerChannel, storage: PeerChannel) -> Self {
        Self {
            templating,
            scheduling,
            storage,
        }
    }

    /// Channels to addresses; nothing is connected yet.
    ///
    /// # Errors
    /// If one is not an address.
    pub fn connect(args: &PeerArgs) -> Result<Self, AddressError> {
        let config = ChannelConfig::new("steading-lifecycle");
        Ok(Self {
            templating: connect_lazy(&args.templating, &config)?,
            scheduling: connect_lazy(&args.scheduling, &config)?,
            storage: connect_lazy(&args.storage, &config)?,
        })
    }

    /// Templates.
    pub fn templates(&self) -> TemplateServiceClient<PeerChannel> {
        TemplateServiceClient::new(self.templating.clone())
    }

    /// Placement.
    pub fn placement(&self) -> PlacementServiceClient<PeerChannel> {
        PlacementServiceClient::new(self.scheduling.clone())
    }

    /// Capacity.
    pub fn capacity(&self) -> CapacityServiceClient<PeerChannel> {
        CapacityServiceClient::new(self.scheduling.clone())
    }

    /// Volumes.
    pub fn volumes(&self) -> VolumeServiceClient<PeerChannel> {
        VolumeServiceClient::new(self.storage.clone())
    }
}
