//! The API as the demonstration uses it: calls that outlive the restart of a service, and waits with something to show.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tonic::Code;

use super::report::Report;
use crate::{
    client::{CallError, Client, contracts},
    kinds::{Kind, Kinds, id_of, parent_of},
};

/// Pause between two looks at a resource.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long any one thing may take. On the simulation steps take seconds; on a busy machine several times that.
pub(super) const STEP_DEADLINE: Duration = Duration::from_secs(180);

/// A client with patience.
pub struct Api {
    client: Client,
    kinds: Kinds,
}

impl Api {
    /// A client of the gateway at `server`.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(server: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::new(server)?,
            kinds: Kinds::from_contracts(&contracts()?),
        })
    }

    fn kind_of(&self, name: &str) -> anyhow::Result<&Kind> {
        self.kinds
            .of_name(name)
            .with_context(|| format!("{name:?} is not a resource name"))
    }

    /// Creates a resource; one that is there already from an earlier try is taken as it is.
    ///
    /// # Errors
    /// What the server says, other than being away for a while.
    pub async fn create(&self, name: &str, fields: Value) -> anyhow::Result<Value> {
        let kind = self.kind_of(name)?;
        let create = kind
            .create
            .as_ref()
            .with_context(|| format!("{} cannot be created", kind.name))?;
        let field = kind
            .resource_field(&create.input())
            .context("the create request carries no resource")?;
        let mut request = json!({
            format!("{field}_id"): id_of(name), field: fields, "request_id": uuid::Uuid::new_v4().to_string(),
        });
        if !parent_of(name).is_empty() {
            request["parent"] = Value::from(parent_of(name));
        }
        let created = self.patiently(|| self.client.call(create, request.clone())).await;
        match created {
            Err(CallError::Rpc(status)) if status.code() == Code::AlreadyExists => self.get(name).await,
            other => other.with_context(|| format!("cannot create {name}")),
        }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`Api::create`].
    pub async fn get(&self, name: &str) -> anyhow::Result<Value> {
        let kind = self.kind_of(name)?;
        self.patiently(|| self.client.call(&kind.get, json!({ "name": name })))
            .await
            .with_context(|| format!("cannot read {name}"))
    }

    /// Reads a resource that may not exist.
    ///
    /// # Errors
    /// As [`Api::create`].
    pub async fn find(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let kind = self.kind_of(name)?;
        let found = self
            .patiently(|| self.client.call(&kind.get, json!({ "name": name })))
            .await;
        crate::commands::get::found(found).with_context(|| format!("cannot read {name}"))
    }

    /// Deletes a resource with its children and waits until it is gone. One that is gone already is fine; one that something
    /// still holds on to is tried again, for what holds it is on its way out.
    ///
    /// # Errors
    /// When it takes longer than [`STEP_DEADLINE`], or as [`Api::create`].
    pub async fn delete(&self, report: &Report, name: &str) -> anyhow::Result<()> {
        let kind = self.kind_of(name)?;
        let delete = kind
            .delete
            .as_ref()
            .with_context(|| format!("{} cannot be deleted", kind.name))?;
        let mut request = json!({ "name": name });
        for field in ["allow_missing", "force"] {
            if delete.input().get_field_by_name(field).is_some() {
                request[field] = Value::from(true);
            }
        }
        let deadline = tokio::time::Instant::now() + STEP_DEADLINE;
        let mut shown = String::new();
        loop {
            let answer = self.patiently(|| self.client.call(delete, request.clone())).await;
            let why = match answer {
                Ok(_) => break,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(CallError::Rpc(status))
                    if status.code() == Code::FailedPrecondition && tokio::time::Instant::now() < deadline =>
                {
                    status.message().to_owned()
                }
                Err(error) => return Err(error).with_context(|| format!("cannot delete {name}")),
            };
            if why != shown {
                report.progress(&why);
                shown = why;
            }
            tokio::time::sleep(LOOK_EVERY * 5).await;
        }
        shown.clear();
        while let Some(resource) = self.find(name).await? {
            if shown.is_empty() {
                shown = format!("waiting until {name} is gone");
                report.progress(&shown);
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "{name} is not gone after {}s; last seen: {resource}",
                    STEP_DEADLINE.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Reads a collection, given any name in it (`projects/p/clusters/c/machines/-`).
    ///
    /// # Errors
    /// As [`Api::create`].
    pub async fn list(&self, member: &str) -> anyhow::Result<Vec<Value>> {
        let kind = self.kind_of(member)?;
        let list = kind
            .list
            .as_ref()
            .with_context(|| format!("{} cannot be listed", kind.collection))?;
        let mut request = json!({ "pageSize": 500 });
        if !parent_of(member).is_empty() {
            request["parent"] = Value::from(parent_of(member));
        }
        let mut page = self
            .patiently(|| self.client.call(list, request.clone()))
            .await
            .with_context(|| format!("cannot list {}", kind.collection))?;
        match page.get_mut(&kind.collection).map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Calls a custom method of the resource's service. A mutation is replayed with the same request id.
    ///
    /// # Errors
    /// As [`Api::create`].
    pub async fn custom(&self, name: &str, method: &str, mut request: Value) -> anyhow::Result<Value> {
        let service = self.kind_of(name)?.get.parent_service();
        let pool = service.parent_pool();
        let method = service
            .methods()
            .chain(pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()))
            .find(|m| m.name() == method)
            .with_context(|| format!("there is no method {method}"))?;
        request["name"] = Value::from(name);
        if method.input().get_field_by_name("request_id").is_some() {
            request["request_id"] = Value::from(uuid::Uuid::new_v4().to_string());
        }
        self.patiently(|| self.client.call(&method, request.clone()))
            .await
            .with_context(|| format!("{} of {name} failed", method.name()))
    }

    /// Looks at a resource until `done`, showing what `describe` says whenever it changes.
    ///
    /// # Errors
    /// When it takes longer than [`STEP_DEADLINE`], with the last that was seen.
    pub async fn wait(
        &self,
        report: &Report,
        name: &str,
        describe: impl Fn(&Value) -> String,
        done: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = tokio::time::Instant::now() + STEP_DEADLINE;
        let mut shown = String::new();
        loop {
            let resource = self.get(name).await?;
            let now = describe(&resource);
            if now != shown {
                report.progress(&now);
                shown = now;
            }
            if done(&resource) {
                return Ok(resource);
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "{name} did not get there within {}s; last seen: {}",
                    STEP_DEADLINE.as_secs(),
                    resource
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Repeats a call while nobody answers: a service that restarts is back in a moment.
    async fn patiently<F>(&self, mut call: impl FnMut() -> F) -> Result<Value, CallError>
    where
        F: Future<Output = Result<Value, CallError>>,
    {
        let deadline = tokio::time::Instant::now() + STEP_DEADLINE;
        loop {
            match call().await {
                Err(error) if is_passing(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                other => return other,
            }
        }
    }
}

/// Whether the same call may succeed in a moment: nobody answered, the answer was lost, or somebody wrote in between.
fn is_passing(error: &CallError) -> bool {
    let CallError::Rpc(status) = error else {
        return error.is_unavailable();
    };
    if error.is_stale() {
        return false;
    }
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown
    )
}
