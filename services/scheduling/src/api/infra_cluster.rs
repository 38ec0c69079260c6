//! The infra cluster itself: a resource of which there is one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use steading_api::{
    error::RpcError,
    scheduling::v1::{self as proto},
};
use steading_infra::capabilities::{Capabilities, discover};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
};
use tokio::sync::Mutex;

use super::convert::infra_cluster::{self, NAME};
use crate::error::Error;

/// How long an answer is given again. What it tells changes with installations, in minutes at the least, and costs eight
/// requests; a few seconds keep a page that many people look at from becoming a load on the API server.
const FRESH_FOR: Duration = Duration::from_secs(3);

/// Reads what the infra cluster can do. Those who ask at the same time share one reading.
#[derive(Clone)]
pub struct InfraCluster {
    kube: Client,
    clock: Clock,
    last: Arc<Mutex<Option<Reading>>>,
}

#[derive(Clone)]
struct Reading {
    read: Instant,
    at: jiff::Timestamp,
    capabilities: Arc<Capabilities>,
}

impl InfraCluster {
    /// Reads nothing yet.
    pub fn new(kube: Client, clock: Clock) -> Self {
        Self {
            kube,
            clock,
            last: Arc::default(),
        }
    }

    /// The resource.
    ///
    /// # Errors
    /// Another name, a caller who may not, an API server that does not answer.
    pub async fn get(&self, context: &CallContext, name: &str) -> Result<proto::InfraCluster, RpcError> {
        if name != NAME {
            return Err(Error::NotInfraCluster(name.to_owned()).into());
        }
        context.authorize(Action::new(Verb::Get, "InfraCluster", name)).await?;
        let reading = self.reading().await?;
        Ok(infra_cluster::infra_cluster(&reading.capabilities, reading.at))
    }

    async fn reading(&self) -> Result<Reading, RpcError> {
        // Held while reading: whoever comes meanwhile waits for this answer instead of asking too. Reads are bounded.
        let mut last = self.last.lock().await;
        if let Some(reading) = last.as_ref().filter(|r| r.read.elapsed() < FRESH_FOR) {
            return Ok(reading.clone());
        }
        let capabilities = discover(&self.kube).await.map_err(Error::Capabilities)?;
        let reading = Reading {
            read: Instant::now(),
            at: self.clock.now(),
            capabilities: Arc::new(capabilities),
        };
        *last = Some(reading.clone());
        Ok(reading)
    }
}
