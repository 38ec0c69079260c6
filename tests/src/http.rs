//! REST calls as a user's program makes them.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// A client of one server.
#[derive(Clone)]
pub struct Rest {
    client: Client<HttpConnector, Full<Bytes>>,
    server: SocketAddr,
}

/// A reply that has ended.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// The body as JSON, or as a JSON string where it is none.
    pub body: Value,
}

impl Reply {
    /// The `reason` of the error's ErrorInfo.
    pub fn reason(&self) -> &str {
        self.details()
            .find_map(|d| d.get("reason")?.as_str())
            .unwrap_or_default()
    }

    /// The field paths that the error's BadRequest names.
    pub fn fields(&self) -> Vec<String> {
        let violations = self
            .details()
            .filter_map(|d| d.get("fieldViolations")?.as_array())
            .flatten();
        violations
            .filter_map(|v| v.get("field")?.as_str().map(ToOwned::to_owned))
            .collect()
    }

    fn details(&self) -> impl Iterator<Item = &Value> {
        self.body
            .pointer("/error/details")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
}

impl Rest {
    /// A client of the gateway at `server`.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            server,
        }
    }

    /// Sends a request with these headers and reads the reply to its end.
    ///
    /// # Errors
    /// When there is no reply; an error status is a reply.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Reply> {
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let response = self.open(method, path, headers, body).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Rest::send`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.send("GET", path, &[], None).await
    }

    /// POST.
    ///
    /// # Errors
    /// As [`Rest::send`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.send("POST", path, &[("content-type", "application/json")], Some(body))
            .await
    }

    /// POST of something that must be accepted.
    ///
    /// # Errors
    /// As [`Rest::send`], and for any other status than 200.
    pub async fn create(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let reply = self.post(path, body).await?;
        if reply.status != 200 {
            bail!("POST {path}: {} {}", reply.status, reply.body);
        }
        Ok(reply.body)
    }

    /// Starts a maintenance by the plan that it has; again where that was refreshed in between.
    ///
    /// # Errors
    /// It has no plan after a while, or cannot be started.
    pub async fn start_maintenance(&self, id: &str) -> anyhow::Result<()> {
        crate::wait::until(&format!("maintenance {id} is started"), async || {
            let planned = self.get(&format!("/v1/maintenances/{id}")).await?.body;
            let Some(plan) = planned["plan"]["id"].as_str().filter(|plan| !plan.is_empty()) else {
                return Ok(None);
            };
            let body = serde_json::json!({ "planId": plan });
            let started = self.post(&format!("/v1/maintenances/{id}:start"), &body).await?;
            match started.status {
                200 => Ok(Some(())),
                409 => Ok(None),
                status => anyhow::bail!("{status}: {}", started.body),
            }
        })
        .await
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Errors
    /// When it is not one.
    pub async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let response = self
            .open("GET", path, &[("accept", "text/event-stream")], Bytes::new())
            .await?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if !content_type.starts_with("text/event-stream") {
            bail!("GET {path}: {} {content_type:?}", response.status());
        }
        Ok(Events {
            body: response.into_body(),
            text: String::new(),
        })
    }

    /// Sends a request and returns with its head.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client
            .request(request.body(Full::new(body))?)
            .await
            .with_context(|| format!("{method} {path}"))
    }
}

/// Server-sent events.
pub struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The data of the next event; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or the data is not JSON.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data: String = event
                    .lines()
                    .filter_map(|l| l.strip_prefix("data:"))
                    .map(str::trim)
                    .collect();
                let rest = rest.to_owned();
                self.text = rest;
                if !data.is_empty() {
                    return Ok(Some(serde_json::from_str(&data)?));
                }
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.text
                    .push_str(&String::from_utf8_lossy(&data).replace("\r\n", "\n"));
            }
        }
    }
}
