//! What all requests share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::generation::Generation;
use crate::metrics::RequestMetrics;
use crate::rate::RateLimits;
use crate::retry::Budget;
use crate::room::Room;
use crate::tls::Identity;
use crate::upstream::Upstreams;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// The descriptors of the moment; a request takes them once and keeps them.
    pub(crate) generation: ArcSwap<Generation>,
    pub(crate) upstreams: Upstreams,
    /// What new connections are served with; `None` for plaintext.
    pub(crate) identity: Option<ArcSwap<rustls::ServerConfig>>,
    pub(crate) rates: RateLimits,
    /// What repeated calls may cost the services.
    pub(crate) retries: Budget,
    /// What bodies may take up.
    pub(crate) room: Room,
    /// A permit for each request that may be under way.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) metrics: Option<RequestMetrics>,
    /// Cancelled when streams should end.
    pub(crate) drain: CancellationToken,
}

pub(crate) type State = Arc<Shared>;

impl Shared {
    /// # Errors
    /// The descriptors or upstreams cannot be served.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let upstreams = Upstreams::new(&config.upstreams, &config.tls, &config.limits)?;
        let generation = Generation::compile(&config, &config.descriptor_sets, &upstreams)?;
        let identity = config.identity.as_ref().map(Identity::server).transpose()?;
        Ok(Self {
            identity: identity.map(ArcSwap::new),
            generation: ArcSwap::from_pointee(generation),
            upstreams,
            rates: RateLimits::new(&config.rate_limits),
            retries: Budget::default(),
            room: Room::new(config.limits.buffered_bytes),
            places: Arc::new(Semaphore::new(config.limits.requests.min(Semaphore::MAX_PERMITS))),
            metrics: config.metrics.as_ref().map(RequestMetrics::register),
            drain: CancellationToken::new(),
            config,
        })
    }
}
