//! A witness of the drain: does the web service ever have fewer ready pods than its disruption budget allows?

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::oneshot;

use super::tenant::{Tenant, WEB_MIN_AVAILABLE};

/// What was seen while it looked.
#[derive(Debug, Clone, Copy)]
pub struct Testimony {
    /// The fewest ready pods at any moment.
    pub fewest_ready: usize,
    /// How many changes were looked at.
    pub changes: usize,
}

impl Testimony {
    /// Whether the budget was kept at every moment.
    pub fn budget_kept(self) -> bool {
        self.fewest_ready >= WEB_MIN_AVAILABLE
    }
}

/// A watch on the web service's pods.
pub struct Witness {
    stop: oneshot::Sender<()>,
    watching: tokio::task::JoinHandle<Testimony>,
}

impl Witness {
    /// Begins to watch.
    #[allow(
        clippy::disallowed_methods,
        reason = "the witness is awaited by stop; it outlives no process"
    )]
    pub fn start(tenant: &Tenant) -> Self {
        let (stop, stopped) = oneshot::channel();
        let pods = tenant.watch_web();
        Self {
            stop,
            watching: tokio::spawn(watch(pods, stopped)),
        }
    }

    /// Ends the watch and says what it saw.
    pub async fn stop(self) -> Testimony {
        // The receiver is gone only if the watch ended by itself; its result is there all the same.
        let _ = self.stop.send(());
        self.watching.await.unwrap_or(Testimony {
            fewest_ready: 0,
            changes: 0,
        })
    }
}

async fn watch(
    pods: impl futures::Stream<Item = kube::runtime::watcher::Result<kube::runtime::watcher::Event<Pod>>>,
    mut stopped: oneshot::Receiver<()>,
) -> Testimony {
    use kube::runtime::watcher::Event;
    let mut pods = std::pin::pin!(pods);
    let mut ready = std::collections::BTreeSet::new();
    let mut listing = std::collections::BTreeSet::new();
    let mut testimony = Testimony {
        fewest_ready: usize::MAX,
        changes: 0,
    };
    loop {
        let event = tokio::select! {
            _ = &mut stopped => return testimony,
            event = pods.next() => event,
        };
        match event {
            None => return testimony,
            // The watcher takes itself up again; nothing was seen meanwhile.
            Some(Err(_)) => continue,
            Some(Ok(Event::Init)) => listing.clear(),
            Some(Ok(Event::InitApply(pod))) => note(&mut listing, &pod),
            Some(Ok(Event::InitDone)) => ready = std::mem::take(&mut listing),
            Some(Ok(Event::Apply(pod))) => note(&mut ready, &pod),
            Some(Ok(Event::Delete(pod))) => {
                ready.remove(&name_of(&pod));
            }
        }
        testimony.changes += 1;
        if listing.is_empty() && testimony.changes > 1 {
            testimony.fewest_ready = testimony.fewest_ready.min(ready.len());
        }
    }
}

fn note(ready: &mut std::collections::BTreeSet<String>, pod: &Pod) {
    if super::tenant::is_ready(pod) {
        ready.insert(name_of(pod));
    } else {
        ready.remove(&name_of(pod));
    }
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}
