//! The admin port: how a process is, for orchestrators and operators. Never the port that clients see.
//!
//! | path | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 when every gate is ready, else 503 with the gates that are not; both with the health of every source |
//! | `GET /metrics` | Prometheus text |
//! | `PUT /log-level` | the body is a new filter such as `info,steading_storage=debug` |

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use parking_lot::Mutex;
use steading_controller::{Health, Sources};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, telemetry::LogFilter};

/// Longest filter that is taken.
const MAX_FILTER: usize = 4096;
/// Time for answers under way when the port closes.
const DRAIN: Duration = Duration::from_secs(1);

/// The named things that must be ready before a process is, and the sources of its controllers. Cheap to clone; nothing registered is
/// ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// What the names of its gates begin with.
    scope: String,
    gates: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    sources: Arc<Mutex<BTreeMap<String, Sources>>>,
}

/// One named thing; see [`Readiness::gate`].
#[derive(Debug, Clone)]
pub struct Gate {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Without gates.
    pub fn new() -> Self {
        Self::default()
    }

    /// The share of one part of a process that runs several: its gates are also gates of this, named `part/gate`.
    #[must_use]
    pub fn within(&self, part: &str) -> Self {
        Self {
            scope: format!("{}{part}/", self.scope),
            gates: self.gates.clone(),
            sources: self.sources.clone(),
        }
    }

    /// Forgets its gates: what registered them has ended.
    pub fn clear(&self) {
        self.gates.lock().retain(|name, _| !name.starts_with(&self.scope));
    }

    /// Registers a gate, closed. Taking the same name again gives the same gate as it is.
    pub fn gate(&self, name: &str) -> Gate {
        let name = format!("{}{name}", self.scope);
        self.gates
            .lock()
            .entry(name.clone())
            .or_insert_with(|| Err("starting".to_owned()));
        Gate {
            name,
            readiness: self.clone(),
        }
    }

    /// Whether every gate is ready; not before there is one.
    pub fn is_ready(&self) -> bool {
        let gates = self.gates();
        !gates.is_empty() && gates.values().all(Result::is_ok)
    }

    /// The gates with what they wait for.
    pub fn gates(&self) -> BTreeMap<String, Result<(), String>> {
        let gates = self.gates.lock();
        let own = gates.iter().filter_map(|(name, state)| {
            let name = name.strip_prefix(&self.scope)?;
            Some((name.to_owned(), state.clone()))
        });
        own.collect()
    }

    /// Adds the sources of a service: told one by one, so that a person sees which view is stale. They close no gate: a replica with
    /// an old view still serves what it reads from the API server.
    pub fn sources(&self, service: &str, sources: &Sources) {
        self.sources.lock().insert(service.to_owned(), sources.clone());
    }

    /// Every source as `service/source` with its health.
    pub fn health(&self) -> Vec<(String, Health)> {
        let services = self.sources.lock();
        let named = |(service, sources): (&String, &Sources)| {
            let report = sources.report();
            let service = service.clone();
            report
                .into_iter()
                .map(move |(source, health)| (format!("{service}/{source}"), health))
        };
        services.iter().flat_map(named).collect()
    }
}

impl Gate {
    /// Opens the gate.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// Closes the gate and says why.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Err(why.into()));
    }

    fn set(&self, state: Result<(), String>) {
        self.readiness.gates.lock().insert(self.name.clone(), state);
    }
}

/// What the admin port tells.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub metrics: Metrics,
    /// Behind `/log-level`; `None` where logging is not ours, as in tests.
    pub log_filter: Option<LogFilter>,
}

impl Admin {
    /// Serves until `cancel` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/log-level", put(log_level))
            .layer(DefaultBodyLimit::max(MAX_FILTER))
            .with_state(self);
        let serve = axum::serve(listener, routes).with_graceful_shutdown(cancel.clone().cancelled_owned());
        tokio::select! {
            result = async { serve.await } => result,
            () = async { cancel.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    for (name, state) in admin.readiness.gates() {
        let _ = match state {
            Ok(()) => writeln!(text, "[+] {name}"),
            Err(why) => writeln!(text, "[-] {name}: {why}"),
        };
    }
    for (name, health) in admin.readiness.health() {
        let _ = match health {
            Health::Live { version, seen_at } => {
                writeln!(
                    text,
                    "[+] {name}: live at version {version}, heard of {:.0?} ago",
                    seen_at.elapsed()
                )
            }
            Health::Syncing => writeln!(text, "[ ] {name}: not listed yet"),
            Health::Stale { since, why } => writeln!(text, "[!] {name}: stale for {:.0?}: {why}", since.elapsed()),
        };
    }
    let code = if admin.readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], admin.metrics.encode()).into_response()
}

async fn log_level(State(admin): State<Admin>, filter: String) -> Response {
    let Some(log_filter) = admin.log_filter else {
        return (StatusCode::NOT_IMPLEMENTED, "this process does not own its logging\n").into_response();
    };
    match log_filter.set(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "log filter changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn mk_admin() -> Admin {
        Admin {
            readiness: Readiness::new(),
            metrics: Metrics::new(),
            log_filter: None,
        }
    }

    #[tokio::test]
    async fn ready_means_that_every_gate_is() {
        let admin = mk_admin();
        assert!(!admin.readiness.is_ready());
        let (api, watch) = (admin.readiness.gate("api"), admin.readiness.gate("watch"));
        api.ready();
        let response = readyz(State(admin.clone())).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let text = to_bytes(response.into_body(), 1024).await.expect("a body");
        assert_eq!(text, "[+] api\n[-] watch: starting\n");
        watch.ready();
        assert_eq!(readyz(State(admin.clone())).await.status(), StatusCode::OK);
        admin.readiness.gate("watch").not_ready("lost");
        assert!(!admin.readiness.is_ready());
    }

    #[test]
    fn a_part_is_ready_by_its_own_gates_and_the_whole_by_all() {
        let whole = Readiness::new();
        let (one, other) = (whole.within("one"), whole.within("other"));
        one.gate("api").ready();
        let api = other.gate("api");
        assert!(one.is_ready() && !other.is_ready() && !whole.is_ready());
        api.ready();
        assert!(whole.is_ready());
        assert_eq!(whole.gates().keys().collect::<Vec<_>>(), ["one/api", "other/api"]);
        assert_eq!(one.gates().keys().collect::<Vec<_>>(), ["api"]);
        other.clear();
        assert!(!other.is_ready() && one.is_ready());
    }

    #[tokio::test]
    async fn metrics_are_shown_as_text() {
        let response = metrics(State(mk_admin())).await;
        let text = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        assert!(text.ends_with(b"# EOF\n"));
    }

    #[tokio::test]
    async fn the_port_closes_with_its_token() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(mk_admin().run(listener, cancel).await.is_ok());
    }
}
