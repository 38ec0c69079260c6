//! The user's commands on resources. Each reads its arguments, calls the API and prints the result.

pub mod apply;
pub mod delete;
pub mod documents;
pub mod get;
pub mod maintenance;
pub mod pools;
pub mod progress;
pub mod rights;
pub mod sim;
pub mod up;
pub mod watch;

use anyhow::anyhow;
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};

use crate::{
    args::Global,
    client::{CallError, Client, contracts},
    kinds::{Kind, Kinds},
    output::Format,
};

/// What every command needs.
#[derive(Clone)]
pub struct Context {
    /// The API.
    pub client: Client,
    /// The kinds it serves.
    pub kinds: Kinds,
    /// The options of every command.
    pub global: Global,
}

impl Context {
    /// Reads the contracts and prepares the client; connects with the first call.
    ///
    /// # Errors
    /// When the server's address is not one.
    pub fn new(global: Global) -> anyhow::Result<Self> {
        let kinds = Kinds::from_contracts(&contracts()?);
        Ok(Self {
            client: Client::new(&global.server)?,
            kinds,
            global,
        })
    }

    /// The form of results.
    pub fn format(&self) -> Format {
        self.global.output
    }

    /// A kind by what a person typed.
    ///
    /// # Errors
    /// Names the kinds there are.
    pub fn kind(&self, typed: &str) -> anyhow::Result<Kind> {
        self.kinds.find(typed).cloned().map_err(|message| anyhow!(message))
    }

    /// A full resource name by what a person typed.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn name(&self, kind: &Kind, typed: &str) -> anyhow::Result<String> {
        self.name_or_singleton(kind, Some(typed))
    }

    /// A full resource name by what a person typed, which may be nothing where there is only one.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn name_or_singleton(&self, kind: &Kind, typed: Option<&str>) -> anyhow::Result<String> {
        kind.complete_name(typed, &self.global.scope())
            .map_err(|message| anyhow!(message))
    }

    /// Reads one resource.
    ///
    /// # Errors
    /// As the server says.
    pub async fn read(&self, kind: &Kind, name: &str) -> Result<Value, CallError> {
        self.client.call(&kind.get, json!({ "name": name })).await
    }
}

/// A method of a kind, or an error that says that the kind has none.
fn method<'k>(kind: &Kind, verb: &str, method: Option<&'k MethodDescriptor>) -> anyhow::Result<&'k MethodDescriptor> {
    method.ok_or_else(|| anyhow!("{} cannot be {verb}", kind.collection))
}

/// A fresh id that makes a mutation replayable.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Finds a method by service-independent name, such as `ScaleMachinePool`, beside the methods of `kind`.
fn sibling(kind: &Kind, name: &str) -> anyhow::Result<MethodDescriptor> {
    kind.get
        .parent_service()
        .methods()
        .find(|m| m.name() == name)
        .ok_or_else(|| anyhow!("the contracts have no method {name}"))
}
