//! Leader election over `coordination.k8s.io/v1` Leases: every replica serves, one reconciles.
//!
//! ```text
//!            acquire                       renew deadline passed, or somebody else holds it
//!  FOLLOWS ──────────► LEADS ──────────────────────────────► work cancelled ─► FOLLOWS
//!     ▲                  │ cancel
//!     └── poll           └─► work cancelled, awaited ─► lease released
//! ```
//!
//! Invariants:
//! - The work is cancelled, and dropped if it does not end, before the lease can expire for others: `renew_deadline` counts
//!   from the last success and is shorter than `duration` by the time that the work gets to end.
//! - Every write carries the resourceVersion that was read: two candidates cannot both win.
//! - Expiry is judged by how long *we* have seen the lease unchanged, never by comparing clocks of two machines.
//! - An API server that errs means *unknown*: the leader goes on until its renew deadline, a follower waits.

use std::{future::Future, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams, WatchParams},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, tasks::Chain};

use self::decide::{Holder, Observed, Step};

mod decide;
mod identity;
#[cfg(test)]
mod tests;

/// One candidate for a lease.
#[derive(Clone)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease, such as `steading-lifecycle`.
    pub name: String,
    /// Unique name of this candidate. Two that are alive must never share one; one that is restarted under its old name
    /// leads again at once.
    pub identity: String,
    /// After how long without renewal others may take the lease.
    pub duration: Duration,
    /// After how long without a successful renewal the leader gives up.
    pub renew_deadline: Duration,
    /// Time between renewals: one write each, so that idle services cost the API server next to nothing.
    pub renew: Duration,
    /// Time between attempts while the lease is not held or a renewal failed.
    pub retry: Duration,
    /// A client for the lease alone, so that no throttling of the work costs it; without one, that of the election's owner.
    pub client: Option<Client>,
}

impl std::fmt::Debug for LeaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseConfig")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl LeaseConfig {
    /// The usual times (15, 10 and 2 seconds, as Kubernetes' own controllers; a renewal every 5) and the identity of this process.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            namespace: namespace.into(),
            identity: identity::of_this_process(&name),
            name,
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            renew: Duration::from_secs(5),
            retry: Duration::from_secs(2),
            client: None,
        }
    }

    /// A client for the lease alone.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Another identity.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        self
    }
}

/// One candidate's part in an election.
#[derive(Debug)]
pub struct LeaderElection {
    config: LeaseConfig,
    leases: Api<Lease>,
    clock: Clock,
    leading: watch::Sender<bool>,
}

/// What became of one attempt to get or keep the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// We hold it, as of the moment before the request was sent.
    Ours(Instant),
    /// Somebody else holds it.
    Theirs,
    /// The API server did not say.
    Unknown,
}

/// What one candidate knows of the lease.
#[derive(Debug, Default)]
struct Sight {
    observed: Observed,
    /// The lease as we wrote it last.
    held: Option<Lease>,
}

impl Sight {
    fn wrote(&mut self, lease: Lease, at: Instant) {
        self.observed.see(Some(&lease), at);
        self.held = Some(lease);
    }
}

impl LeaderElection {
    /// A candidate that does nothing yet.
    pub fn new(client: Client, clock: Clock, config: LeaseConfig) -> Self {
        let client = config.client.clone().unwrap_or(client);
        let leases = Api::namespaced(client, &config.namespace);
        Self {
            config,
            leases,
            clock,
            leading: watch::Sender::new(false),
        }
    }

    /// Tells whether this candidate leads.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Runs `work` whenever this candidate leads, until `cancel` is cancelled; then releases the lease, so that the next
    /// one need not wait.
    ///
    /// `work` gets a token that is cancelled when leadership is lost or the process ends, and should return soon
    /// after. It may be called again after a loss. Work that returns although it still leads is an error of its own
    /// and ends the election with its result.
    ///
    /// # Errors
    /// What `work` returned.
    pub async fn run_while_leading<F, Fut, E>(&self, cancel: CancellationToken, mut work: F) -> Result<(), E>
    where
        F: FnMut(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let mut sight = Sight::default();
        while let Some(since) = self.acquire(&mut sight, &cancel).await {
            let lost = cancel.child_token();
            tracing::info!(lease = %self.config.name, identity = %self.config.identity, "leading");
            self.leading.send_replace(true);
            let result = self.lead(&mut sight, since, &lost, work(lost.clone())).await;
            self.leading.send_replace(false);
            match result {
                Some(result) if !lost.is_cancelled() || cancel.is_cancelled() || result.is_err() => {
                    self.release(&mut sight).await;
                    return result;
                }
                _ => tracing::warn!(lease = %self.config.name, "no longer leading"),
            }
        }
        Ok(())
    }

    /// Waits for the lease; `None` if cancelled before.
    async fn acquire(&self, sight: &mut Sight, cancel: &CancellationToken) -> Option<Instant> {
        loop {
            // A request that hangs is given up like one that fails: the API server may be back on another connection.
            let attempt = tokio::select! {
                () = cancel.cancelled() => return None,
                attempt = tokio::time::timeout(self.config.renew_deadline, self.attempt(sight)) => attempt,
            };
            if let Ok(Held::Ours(since)) = attempt {
                return Some(since);
            }
            let followed = matches!(attempt, Ok(Held::Theirs));
            tokio::select! {
                () = cancel.cancelled() => return None,
                () = self.pause(sight, followed) => {}
            }
        }
    }

    /// Waits until another attempt may succeed: when the holder's lease changes or would have expired, and a moment later if it cannot
    /// be watched.
    async fn pause(&self, sight: &Sight, followed: bool) {
        // Candidates that started together should not ask together.
        let jitter = rand::random_range(0.8..1.2);
        if followed && let Some(version) = sight.observed.version() {
            let params = WatchParams::default()
                .fields(&format!("metadata.name={}", self.config.name))
                .timeout(u32::try_from(self.config.duration.as_secs()).unwrap_or(15));
            if let Ok(Ok(events)) = tokio::time::timeout(self.config.retry, self.leases.watch(&params, version)).await {
                let mut events = std::pin::pin!(events);
                let expiry = self.config.duration.mul_f64(jitter);
                if let Ok(Some(Ok(_))) = tokio::time::timeout(expiry, events.next()).await {
                    return;
                }
            }
        }
        tokio::time::sleep(self.config.retry.mul_f64(jitter)).await;
    }

    /// Runs the work and keeps the lease; `None` if the work did not end in time after a loss and was dropped.
    async fn lead<E>(
        &self,
        sight: &mut Sight,
        since: Instant,
        lost: &CancellationToken,
        work: impl Future<Output = Result<(), E>>,
    ) -> Option<Result<(), E>> {
        let mut work = std::pin::pin!(work);
        let mut renewed = since;
        tokio::select! {
            result = work.as_mut() => return Some(result),
            () = self.keep(sight, &mut renewed, lost) => {}
        }
        lost.cancel();
        // What is left of the lease is the work's time to end; at a shutdown the lease is renewed no more either.
        let end = renewed + self.config.duration;
        tokio::time::timeout_at(end, work).await.ok()
    }

    /// Renews until the lease is lost or `lost` is cancelled from outside.
    async fn keep(&self, sight: &mut Sight, renewed: &mut Instant, lost: &CancellationToken) {
        let mut pause = self.config.renew;
        loop {
            tokio::select! {
                () = lost.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let give_up = *renewed + self.config.renew_deadline;
            let attempt = tokio::select! {
                () = lost.cancelled() => return,
                attempt = tokio::time::timeout_at(give_up, self.renew(sight)) => attempt,
            };
            match attempt {
                Ok(Held::Ours(since)) => {
                    *renewed = since;
                    pause = self.config.renew;
                }
                Ok(Held::Theirs) | Err(_) => return,
                Ok(Held::Unknown) if Instant::now() >= give_up => return,
                Ok(Held::Unknown) => pause = self.config.retry,
            }
        }
    }

    /// Writes the lease that was written last once more, without reading it: its version tells whether somebody else wrote meanwhile.
    async fn renew(&self, sight: &mut Sight) -> Held {
        let before = Instant::now();
        let Some(held) = sight.held.take() else {
            return self.attempt(sight).await;
        };
        match self.replace(&self.wanted(Some(held.clone()))).await {
            Ok(lease) => {
                sight.wrote(lease, before);
                Held::Ours(before)
            }
            // Somebody wrote it, or deleted it, or an answer of ours was lost: the read tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => self.attempt(sight).await,
            Err(error) => {
                sight.held = Some(held);
                self.unknown(&error)
            }
        }
    }

    /// Reads the lease and writes it if it is or becomes ours.
    async fn attempt(&self, sight: &mut Sight) -> Held {
        let before = Instant::now();
        let lease = match self.leases.get_opt(&self.config.name).await {
            Ok(lease) => lease,
            Err(error) => return self.unknown(&error),
        };
        sight.observed.see(lease.as_ref(), before);
        let holder = match sight.observed.holder() {
            Some(holder) if identity::is_dead(holder) => Holder::Dead,
            Some(_) | None => Holder::MayLive,
        };
        let step = decide::step(
            &sight.observed,
            &self.config.identity,
            holder,
            self.config.duration,
            before,
        );
        let written = match (step, lease) {
            (Step::Wait, _) => return Held::Theirs,
            (_, None) => self.leases.create(&PostParams::default(), &self.wanted(None)).await,
            (_, Some(lease)) => self.replace(&self.wanted(Some(lease))).await,
        };
        match written {
            Ok(lease) => {
                sight.wrote(lease, before);
                Held::Ours(before)
            }
            // Somebody was faster, or we lost the answer of a write of our own: the next read tells.
            Err(kube::Error::Api(status)) if status.code == 409 => Held::Unknown,
            Err(error) => self.unknown(&error),
        }
    }

    fn unknown(&self, error: &kube::Error) -> Held {
        tracing::warn!(lease = %self.config.name, error = %Chain(error), "lease cannot be read or written");
        Held::Unknown
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        self.leases
            .replace(&self.config.name, &PostParams::default(), lease)
            .await
    }

    /// The lease as we want it; keeps the resourceVersion of what was read.
    fn wanted(&self, lease: Option<Lease>) -> Lease {
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let now = self.micro_time();
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = Some(i32::try_from(self.config.duration.as_secs().max(1)).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        lease
    }

    /// Lets the next candidate have the lease at once. Tried once: if it fails the lease expires.
    async fn release(&self, sight: &mut Sight) {
        let released = async {
            let Some(mut lease) = self.leases.get_opt(&self.config.name).await? else {
                return Ok(());
            };
            let Some(spec) = &mut lease.spec else {
                return Ok(());
            };
            if spec.holder_identity.as_deref() != Some(&self.config.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(self.micro_time());
            self.replace(&lease).await.map(drop)
        };
        *sight = Sight::default();
        match tokio::time::timeout(self.config.retry, released).await {
            Ok(Ok(())) => tracing::info!(lease = %self.config.name, "released"),
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.config.name, error = %Chain(&error), "not released");
            }
            Err(_) => tracing::warn!(lease = %self.config.name, "not released in time"),
        }
    }

    /// The time as Leases write it: whole microseconds.
    fn micro_time(&self) -> MicroTime {
        let now = self.clock.now();
        MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
    }
}
