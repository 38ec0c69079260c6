//! Follows one kind of one tenant: watch → projection → index, and its health.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use kube::{Api, Resource, runtime::watcher};
use rand::RngExt;
use serde::de::DeserializeOwned;
use steading_runtime::clock::Clock;

use super::{Cache, KindHealth, TenantKind, projection::differs};

/// Pause after a first failure of a watch.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a kind that is forbidden costs its tenant a request a minute.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How long one watch request lasts. It is begun again at its end, and a connection that hangs without an error is given up shortly
/// after it.
const WATCH_SECONDS: u32 = 60;
/// Objects in one page of a listing.
const PAGE: u32 = 500;
/// Longest text of an error that is kept.
const WHY: usize = 200;

/// How a kind is followed.
pub(super) struct Feed<'a, K> {
    pub(super) kind: TenantKind,
    pub(super) api: Api<K>,
    pub(super) cache: &'a Cache<K>,
    pub(super) most: usize,
    pub(super) project: fn(K) -> Option<K>,
    pub(super) clock: &'a Clock,
}

impl<K> Feed<'_, K>
where
    K: Resource<DynamicType = ()> + Clone + PartialEq + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    /// Follows the kind for ever. `changed` is called with each object that changed, `health` with the kind's health.
    pub(super) async fn follow(self, changed: impl Fn(&str, &str), health: impl Fn(TenantKind, KindHealth)) {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Ended::Failed(why) = self.watch(&changed, &health, &mut pause).await {
                tracing::debug!(kind = self.kind.as_str(), why, "watch of a tenant failed");
                let since = self.clock.now();
                health(self.kind, KindHealth::Stale { since, why });
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Watches until something breaks. Each watch begins with a listing, which is what proves that it works again.
    async fn watch(
        &self,
        changed: &impl Fn(&str, &str),
        health: &impl Fn(TenantKind, KindHealth),
        pause: &mut Duration,
    ) -> Ended {
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let mut events = pin!(watcher(self.api.clone(), config));
        let mut beyond = 0_usize;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => return Ended::Failed(short(&error)),
            };
            match &event {
                watcher::Event::Init => beyond = 0,
                watcher::Event::InitDone if beyond == 0 => *pause = FIRST_PAUSE,
                watcher::Event::InitDone
                | watcher::Event::Apply(_)
                | watcher::Event::InitApply(_)
                | watcher::Event::Delete(_) => {}
            }
            let done = matches!(event, watcher::Event::InitDone);
            let deleted = matches!(event, watcher::Event::Delete(_));
            let applied = self.cache.apply(event, self.project, self.most, differs);
            beyond += applied.refused;
            for (namespace, name) in &applied.changed {
                changed(namespace, name);
            }
            if done || applied.refused > 0 && self.cache.is_synced() {
                health(self.kind, KindHealth::Live { beyond });
            }
            if deleted && beyond > 0 {
                // There is space again for one that was not kept: only a listing finds it.
                return Ended::Room;
            }
        }
        Ended::Failed("the watch ended".into())
    }
}

/// How a watch ended.
enum Ended {
    /// It broke; why.
    Failed(String),
    /// There is space in the cache for objects that were not kept.
    Room,
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.8..1.2))
}

/// An error for a condition: short, and by its kind rather than by the tenant's own words where they may be long.
fn short(error: &watcher::Error) -> String {
    let api = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    let text = match api {
        Some(status) => format!("{} {}: {}", status.code, status.reason, status.message),
        None => steading_runtime::tasks::Chain(error).to_string(),
    };
    text.chars().take(WHY).collect()
}

#[cfg(test)]
mod tests;
