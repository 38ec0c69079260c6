//! What a case works with: a client, a namespace of its own, and raw HTTP, so that it sees what is said on the wire.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use http::{Method, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::stream::{DEADLINE, Watch, at};

const POLL: Duration = Duration::from_millis(60);
/// The manager under which the cases write where they name none: the first word of the user agent.
const USER_AGENT: &str = "conformance/1.0";
/// Letters and digits of a lab's id: few enough for every name, enough never to meet twice.
const ID_LENGTH: usize = 9;
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Resources whose short paths [`Lab::path`] knows, by API group and version; all others are of the core group.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "apps/v1",
        &[
            "deployments",
            "replicasets",
            "daemonsets",
            "statefulsets",
            "controllerrevisions",
        ],
    ),
    ("batch/v1", &["jobs", "cronjobs"]),
    ("coordination.k8s.io/v1", &["leases"]),
    ("discovery.k8s.io/v1", &["endpointslices"]),
    ("events.k8s.io/v1", &["events.events.k8s.io"]),
    ("policy/v1", &["poddisruptionbudgets"]),
    ("networking.k8s.io/v1", &["networkpolicies", "ingresses"]),
    ("rbac.authorization.k8s.io/v1", &["roles", "rolebindings"]),
    (
        "kubevirt.io/v1",
        &[
            "virtualmachines",
            "virtualmachineinstances",
            "virtualmachineinstancemigrations",
            "virtualmachineinstancereplicasets",
        ],
    ),
    (
        "instancetype.kubevirt.io/v1beta1",
        &["virtualmachineinstancetypes", "virtualmachinepreferences"],
    ),
    ("cdi.kubevirt.io/v1beta1", &["datavolumes", "datasources"]),
];

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' merge by keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The body as JSON; a text where it is none.
    pub body: Value,
    /// Texts of the `Warning` headers.
    pub warnings: Vec<String>,
    /// `Content-Type`.
    pub content_type: String,
    /// All headers, in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Answer {
    /// Whether it is a success.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The value at a path of the body, as `spec/ports/0/port`; null where nothing is.
    pub fn at(&self, path: &str) -> Value {
        at(&self.body, path).cloned().unwrap_or(Value::Null)
    }

    /// The text at a path of the body; empty where none is.
    pub fn text(&self, path: &str) -> String {
        at(&self.body, path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// `metadata.resourceVersion`.
    pub fn revision(&self) -> String {
        self.text("metadata/resourceVersion")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> String {
        self.text("metadata/uid")
    }

    /// The names of a list's items, sorted.
    pub fn names(&self) -> Vec<String> {
        let items = at(&self.body, "items").and_then(Value::as_array);
        let mut names: Vec<String> = items
            .into_iter()
            .flatten()
            .filter_map(|item| at(item, "metadata/name").and_then(Value::as_str).map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// The same, or an error that says what was refused: for steps that only prepare.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn expect_ok(self, what: &str) -> Result<Self> {
        if self.ok() {
            return Ok(self);
        }
        bail!("{what}: {} {}", self.code, self.body)
    }
}

/// A case's workplace.
pub struct Lab {
    /// The control plane.
    pub client: kube::Client,
    /// A namespace of its own, deleted after the case.
    pub namespace: String,
    /// Part of the namespace's name, for unique names of what has no namespace. It reads `<id>` in transcripts.
    pub id: String,
    leftovers: Mutex<Vec<String>>,
}

impl Lab {
    /// A lab with a fresh namespace.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub async fn open(client: kube::Client) -> Result<Self> {
        let id = fresh_id();
        let lab = Self {
            client,
            namespace: format!("case-{id}"),
            id,
            leftovers: Mutex::default(),
        };
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lab.namespace}});
        lab.post("/api/v1/namespaces", &body)
            .await?
            .expect_ok("make a namespace")?;
        // Pods are refused until it is there.
        lab.until(
            "default service account",
            &lab.path("serviceaccounts/default"),
            Answer::ok,
        )
        .await?;
        Ok(lab)
    }

    /// Deletes the namespace and whatever else the case named, without waiting for the end of it.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn close(self) -> Result<()> {
        let leftovers = std::mem::take(&mut *self.leftovers.lock().await);
        for path in leftovers.into_iter().rev() {
            self.delete(&path).await?;
        }
        self.delete(&format!("/api/v1/namespaces/{}", self.namespace)).await?;
        Ok(())
    }

    /// Deletes the object at `path` after the case; for objects outside the case's namespace.
    pub async fn clean_up(&self, path: impl Into<String>) {
        self.leftovers.lock().await.push(path.into());
    }

    /// The path of a resource in the case's namespace, as `pods`, `pods/a/status` or `deployments/web`.
    pub fn path(&self, resource: &str) -> String {
        let plural = resource.split(['/', '?']).next().unwrap_or(resource);
        let group = GROUPS.iter().find(|(_, plurals)| plurals.contains(&plural));
        match group {
            Some((group, _)) => self.path_in(group, resource),
            None => format!("/api/v1/namespaces/{}/{resource}", self.namespace),
        }
    }

    /// The path of a resource in the case's namespace, by its group and version, as `stable.example.com/v1`.
    pub fn path_in(&self, group_version: &str, resource: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{resource}", self.namespace)
    }

    /// A request of any shape.
    pub fn request(&self, method: Method, path: impl Into<String>) -> Request<'_> {
        Request {
            lab: self,
            method,
            path: path.into(),
            headers: vec![("user-agent".to_owned(), USER_AGENT.to_owned())],
            body: Vec::new(),
        }
    }

    /// A request with a JSON body, or none. What is refused is an answer, not an error.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let request = self.request(method, path);
        match body {
            Some(body) => request.json(body).send().await,
            None => request.send().await,
        }
    }

    /// GET.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// POST.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// POST that must succeed, for steps that only prepare.
    ///
    /// # Errors
    /// When it is refused or the server cannot be reached.
    pub async fn make(&self, path: &str, body: &Value) -> Result<Answer> {
        self.post(path, body).await?.expect_ok(path)
    }

    /// PUT.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.call(Method::DELETE, path, None).await
    }

    /// PATCH.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn patch(&self, path: &str, kind: PatchKind, body: &Value) -> Result<Answer> {
        self.request(Method::PATCH, path)
            .header("content-type", kind.media_type())
            .raw(body.to_string())
            .send()
            .await
    }

    /// Server-side apply under a manager's name.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn apply(&self, path: &str, manager: &str, body: &Value) -> Result<Answer> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}fieldManager={manager}");
        self.patch(&path, PatchKind::Apply, body).await
    }

    /// Reads `path` until the answer is as wanted.
    ///
    /// # Errors
    /// After [`DEADLINE`], with what was seen last.
    pub async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path).await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if Instant::now() > end {
                bail!("{what}: not within {DEADLINE:?}; last: {} {}", answer.code, answer.body);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads `path` until it is not found.
    ///
    /// # Errors
    /// After [`DEADLINE`], with what was seen last.
    pub async fn until_gone(&self, path: &str) -> Result<Answer> {
        self.until("gone", path, |answer| answer.code == 404).await
    }

    /// Repeats an attempt until its answer is as wanted, as a write that must wait for a controller.
    ///
    /// # Errors
    /// After [`DEADLINE`], with what was seen last, or when the attempt fails.
    pub async fn retry<F>(
        &self,
        what: &str,
        attempt: impl Fn() -> F,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer>
    where
        F: Future<Output = Result<Answer>>,
    {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = attempt().await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if Instant::now() > end {
                bail!("{what}: not within {DEADLINE:?}; last: {} {}", answer.code, answer.body);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Watches a collection; `path` is as for a list, with or without a query.
    ///
    /// # Errors
    /// When the watch is refused or the server cannot be reached.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let request = self
            .request(Method::GET, format!("{path}{separator}watch=true"))
            .build()?;
        let response = self.client.send(request).await.context("watch")?;
        if !response.status().is_success() {
            let answer = read(response).await?;
            bail!("watch of {path}: {} {}", answer.code, answer.body);
        }
        Ok(Watch::new(response.into_body()))
    }
}

/// A request that is being put together.
pub struct Request<'a> {
    lab: &'a Lab,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request<'_> {
    /// With this header instead of what it was.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").raw(body.to_string())
    }

    /// With a body as it is.
    #[must_use]
    pub fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn build(self) -> Result<http::Request<Body>> {
        let mut request = http::Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(Body::from(self.body))
            .with_context(|| format!("a request for {}", self.path))
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn send(self) -> Result<Answer> {
        let lab = self.lab;
        let what = format!("{} {}", self.method, self.path);
        let response = lab.client.send(self.build()?).await.with_context(|| what.clone())?;
        read(response).await.with_context(|| what)
    }
}

async fn read(response: http::Response<Body>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.context("the body of an answer")?.to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let warnings = parts.headers.get_all(header::WARNING).iter().map(text).collect();
    let headers: BTreeMap<String, String> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    Ok(Answer {
        code: parts.status.as_u16(),
        body,
        warnings,
        content_type: headers.get("content-type").cloned().unwrap_or_default(),
        headers,
    })
}

/// An id that no other lab has. It begins with a letter, and no ordinary word contains it.
fn fresh_id() -> String {
    let mut random = RandomState::new().build_hasher().finish();
    let mut id = String::from("z");
    for _ in 0..ID_LENGTH {
        let place = random % ALPHABET.len() as u64;
        random /= ALPHABET.len() as u64;
        let letter = usize::try_from(place).ok().and_then(|place| ALPHABET.get(place));
        id.extend(letter.map(|letter| char::from(*letter)));
    }
    id
}
