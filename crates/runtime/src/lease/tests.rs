//! Elections against an in-memory Lease API with optimistic locking, in paused time.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::tasks::TaskGroup;

/// One Lease, its version, and whether the API server answers.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    down: bool,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let present = self
            .lease
            .as_ref()
            .map(|lease| lease["metadata"]["resourceVersion"].clone());
        let mut sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, present) {
            _ if self.down => failure(StatusCode::SERVICE_UNAVAILABLE),
            (&Method::GET, None) => failure(StatusCode::NOT_FOUND),
            (&Method::GET, Some(_)) => (StatusCode::OK, self.lease.clone().unwrap_or_default()),
            (&Method::POST, Some(_)) => failure(StatusCode::CONFLICT),
            (&Method::PUT, present) if present != Some(sent["metadata"]["resourceVersion"].clone()) => {
                failure(StatusCode::CONFLICT)
            }
            _ => {
                self.version += 1;
                sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.lease = Some(sent.clone());
                (StatusCode::OK, sent)
            }
        }
    }
}

fn failure(code: StatusCode) -> (StatusCode, Value) {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "ServiceUnavailable",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16(),
    });
    (code, body)
}

#[derive(Clone, Default)]
struct LeaseApi(Arc<Mutex<Server>>);

impl LeaseApi {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let (code, answer) = api.0.lock().answer(&parts.method, &bytes);
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(response?)
            }
        });
        Client::new(service, "default")
    }

    fn holder(&self) -> String {
        let server = self.0.lock();
        let lease = server.lease.as_ref();
        lease
            .and_then(|l| l["spec"]["holderIdentity"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

/// A candidate that counts how many lead at once.
struct Candidate {
    cancel: CancellationToken,
    group: TaskGroup,
    leading: watch::Receiver<bool>,
}

impl Candidate {
    fn start(api: &LeaseApi, identity: &str, leaders: &Arc<Mutex<Vec<String>>>) -> Self {
        let config = LeaseConfig::new("steading-system", "test").identity(identity);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let election = LeaderElection::new(api.client(), clock, config);
        let (cancel, leading) = (CancellationToken::new(), election.leading());
        let group = TaskGroup::new(identity, cancel.clone());
        let (token, name, leaders) = (cancel.clone(), identity.to_owned(), Arc::clone(leaders));
        group.spawn("election", async move {
            let work = |lost: CancellationToken| {
                let guard = Leading::begin(&leaders, &name);
                async move {
                    lost.cancelled().await;
                    drop(guard);
                    Ok::<(), std::io::Error>(())
                }
            };
            election.run_while_leading(token, work).await
        });
        Self { cancel, group, leading }
    }

    async fn wait(&mut self, leads: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(120), self.leading.wait_for(|l| *l == leads)).await;
        assert!(waited.is_ok_and(|w| w.is_ok()), "leading never became {leads}");
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.group.join(Duration::from_secs(60)).await.expect("ends in peace");
    }
}

struct Leading(Arc<Mutex<Vec<String>>>, String);

impl Leading {
    fn begin(leaders: &Arc<Mutex<Vec<String>>>, name: &str) -> Self {
        let mut all = leaders.lock();
        all.push(name.to_owned());
        assert_eq!(all.len(), 1, "two lead at once: {all:?}");
        Self(Arc::clone(leaders), name.to_owned())
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.lock().retain(|name| *name != self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_over_at_once() {
    let (api, leaders) = (LeaseApi::default(), Arc::default());
    let mut first = Candidate::start(&api, "first", &leaders);
    first.wait(true).await;
    let mut second = Candidate::start(&api, "second", &leaders);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.holder(), "first", "a living leader keeps it");
    first.stop().await;
    let since = Instant::now();
    second.wait(true).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    second.stop().await;
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_lease_expires() {
    let (api, leaders) = (LeaseApi::default(), Arc::default());
    let mut first = Candidate::start(&api, "first", &leaders);
    first.wait(true).await;
    drop(first);
    let mut second = Candidate::start(&api, "second", &leaders);
    let since = Instant::now();
    second.wait(true).await;
    assert!(since.elapsed() > Duration::from_secs(14), "{:?}", since.elapsed());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_restarted_under_its_name_leads_at_once() {
    let (api, leaders) = (LeaseApi::default(), Arc::default());
    let mut first = Candidate::start(&api, "same", &leaders);
    first.wait(true).await;
    drop(first);
    let since = Instant::now();
    let mut again = Candidate::start(&api, "same", &leaders);
    again.wait(true).await;
    assert!(since.elapsed() < Duration::from_secs(3));
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing_and_a_long_one_the_lead() {
    let (api, leaders) = (LeaseApi::default(), Arc::default());
    let mut first = Candidate::start(&api, "first", &leaders);
    first.wait(true).await;
    api.0.lock().down = true;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(*first.leading.borrow(), "unknown is not lost");
    api.0.lock().down = false;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(*first.leading.borrow());
    api.0.lock().down = true;
    let since = Instant::now();
    first.wait(false).await;
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "given up before others may acquire"
    );
    api.0.lock().down = false;
    first.wait(true).await;
    first.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_candidates_never_lead_together() {
    let (api, leaders) = (LeaseApi::default(), Arc::default());
    let mut candidates: Vec<_> = (0..5)
        .map(|n| Candidate::start(&api, &format!("c{n}"), &leaders))
        .collect();
    for round in 0..20 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        api.0.lock().down = round % 3 == 1;
        if round % 4 == 3 {
            let index = candidates.iter().position(|c| *c.leading.borrow());
            if let Some(index) = index {
                drop(candidates.remove(index));
                candidates.push(Candidate::start(&api, &format!("n{round}"), &leaders));
            }
        }
    }
    api.0.lock().down = false;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let leading = candidates.iter().filter(|c| *c.leading.borrow()).count();
    assert_eq!(leading, 1);
    for candidate in candidates {
        candidate.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_ends_the_election_and_releases() {
    let api = LeaseApi::default();
    let config = LeaseConfig::new("steading-system", "test").identity("me");
    let election = LeaderElection::new(api.client(), Clock::manual(Timestamp::UNIX_EPOCH), config);
    let run = election.run_while_leading(CancellationToken::new(), |_| async { Err::<(), _>("broken") });
    let result = tokio::time::timeout(Duration::from_secs(60), run).await;
    assert_eq!(result, Ok(Err("broken")));
    assert_eq!(api.holder(), "");
}
