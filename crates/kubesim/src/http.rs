//! The servers over HTTP/1 and cleartext HTTP/2: one port, several API servers below different paths.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, uri::PathAndQuery};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::apiserver::{ApiServer, Body, Disconnected};

/// How long open requests get to end once the listener is cancelled; watches are cut then.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a client that was refused by `accept` is not retried, so that a full descriptor table does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Finds the API server for a path: the server and how many bytes of the path are its prefix.
pub type Router = Arc<dyn Fn(&str) -> Option<(ApiServer, usize)> + Send + Sync>;

/// A router for one server at the root.
pub fn at_root(server: ApiServer) -> Router {
    Arc::new(move |_| Some((server.clone(), 0)))
}

/// A router: `root` at the root, `named(<segment>)` below `<prefix><segment>`. The prefix begins and ends with a slash.
pub fn with_named(
    root: ApiServer,
    prefix: &'static str,
    named: impl Fn(&str) -> Option<ApiServer> + Send + Sync + 'static,
) -> Router {
    Arc::new(move |path| {
        let Some(rest) = path.strip_prefix(prefix) else {
            return Some((root.clone(), 0));
        };
        let segment = rest.split('/').next().unwrap_or_default();
        named(segment).map(|server| (server, prefix.len() + segment.len()))
    })
}

/// Serves until `cancel`, then lets open requests end for a moment.
///
/// # Errors
///
/// When the listener has no address.
pub async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving the simulated API");
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| route(router.clone(), request));
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = graceful.watch(
            builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .into_owned(),
        );
        detach(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a connection's task ends with its connection and its failure concerns nobody else"
)]
fn detach(connection: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(connection);
}

async fn route(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Disconnected> {
    let Some((server, prefix)) = router(request.uri().path()) else {
        return Ok(nobody());
    };
    let (mut parts, body) = request.into_parts();
    if prefix > 0 {
        parts.uri = strip(&parts.uri, prefix);
    }
    server.handle(Request::from_parts(parts, body)).await
}

fn strip(uri: &Uri, prefix: usize) -> Uri {
    let rest = uri
        .path_and_query()
        .map(PathAndQuery::as_str)
        .and_then(|path| path.get(prefix..))
        .unwrap_or_default();
    let rest = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    rest.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

fn nobody() -> Response<Body> {
    use http_body_util::BodyExt;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no API server at this path", "reason": "NotFound", "code": 404});
    let body = http_body_util::Full::new(Bytes::from(status.to_string()));
    let mut response = Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// A kubeconfig for the server at `address` below `path` (empty at the root).
pub fn kubeconfig(address: SocketAddr, path: &str, token: Option<&str>) -> String {
    let user = token.map_or_else(|| json!({}), |token| json!({"token": token}));
    // JSON is YAML, and every reader of kubeconfigs reads YAML.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "kubesim",
        "clusters": [{"name": "kubesim", "cluster": {"server": format!("http://{address}{path}")}}],
        "users": [{"name": "kubesim", "user": user}],
        "contexts": [{"name": "kubesim", "context": {"cluster": "kubesim", "user": "kubesim"}}],
    });
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    format!("{text}\n")
}
