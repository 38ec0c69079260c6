//! Infra nodes: one from the API server, all from the view, and every change of the view as a stream.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use steading_api::{
    error::RpcError,
    reflect,
    scheduling::v1::{self as proto},
    standard::Resource,
    types::v1::WatchEventType,
};
use steading_model::{filter::Filter, name::InfraNodeName, page::PageRequest, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::kube_error,
};
use tonic::Status;

use super::convert::infra_node::{Load, infra_node};
use crate::{
    domain::interner::Interner,
    error::Error,
    observe::ObservedNode,
    view::{NodeEntry, View},
};

const KIND: &str = proto::InfraNode::KIND;
const MESSAGE: &str = proto::InfraNode::MESSAGE;
/// How long a call waits for the first list of every kind.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes within this time are sent as one: pods come and go many times a second on a busy infra cluster.
const GATHER: Duration = Duration::from_millis(200);

/// How often it is looked whether the view has become stale or live: that is no change of any object.
const RECHECK: Duration = Duration::from_secs(10);

/// A stream of changes.
pub type InfraNodeStream = Pin<Box<dyn Stream<Item = Result<proto::WatchInfraNodesResponse, Status>> + Send>>;

/// Infra nodes.
#[derive(Clone)]
pub struct InfraNodes {
    /// The infra cluster.
    pub kube: Client,
    /// What is seen of it.
    pub view: View,
}

impl InfraNodes {
    /// One node, read from the API server; what runs on it comes from the view.
    ///
    /// # Errors
    /// If it does not exist, or the name is wrong, or the caller may not.
    pub async fn get(&self, context: &CallContext, name: &str) -> Result<proto::InfraNode, RpcError> {
        let parsed: InfraNodeName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        context.authorize(Action::new(Verb::Get, KIND, name)).await?;
        synced(&self.view).await?;
        let api: Api<Node> = Api::all(self.kube.clone());
        let found = api
            .get_opt(parsed.infra_node.as_str())
            .await
            .map_err(|e| kube_error(KIND, name, &e))?;
        let object = found.ok_or_else(|| RpcError::not_found(KIND, name))?;
        let observed = Arc::new(ObservedNode::of(&object, &mut Interner::default()));
        self.message(&NodeEntry { object, observed })
            .ok_or_else(|| RpcError::not_found(KIND, name))
    }

    /// One page in order of the names, and the token of the next.
    ///
    /// # Errors
    /// If a parameter is wrong or the caller may not.
    pub async fn list(
        &self,
        context: &CallContext,
        request: &proto::ListInfraNodesRequest,
    ) -> Result<proto::ListInfraNodesResponse, RpcError> {
        if !matches!(request.order_by.as_str(), "" | "name") {
            return Err(Violations::one("order_by", "only name is possible").into());
        }
        let filter = reflect::filter(MESSAGE, &request.filter)?;
        let binding = [MESSAGE, "", &request.filter, &request.order_by];
        let page = PageRequest::parse(request.page_size, &request.page_token, &binding)?;
        context.authorize(Action::new(Verb::List, KIND, "")).await?;
        synced(&self.view).await?;
        let messages = self.passing(&filter)?.into_values();
        let (infra_nodes, next_page_token) = page.cut(messages, |node| node.name.clone());
        Ok(proto::ListInfraNodesResponse {
            infra_nodes,
            next_page_token,
        })
    }

    /// What exists, then every change of a node or of what runs on it. The reader's pace is the stream's: of changes that
    /// it has not read, only the last state is sent.
    ///
    /// # Errors
    /// If a parameter is wrong or the caller may not.
    pub async fn watch(
        &self,
        context: &CallContext,
        request: &proto::WatchInfraNodesRequest,
    ) -> Result<InfraNodeStream, RpcError> {
        let filter = reflect::filter(MESSAGE, &request.filter)?;
        context.authorize(Action::new(Verb::Watch, KIND, "")).await?;
        synced(&self.view).await?;
        let mut known = BTreeMap::new();
        let resumed = !request.resume_token.is_empty();
        if resumed {
            let token = Token::parse(&request.resume_token)?;
            // What changed while nobody listened is not kept: only who has missed nothing may go on.
            if token != self.token() {
                return Err(Error::TokenExpired.into());
            }
            known = self.passing(&filter)?;
        }
        let watcher = Watcher {
            nodes: self.clone(),
            filter,
            known,
        };
        Ok(Box::pin(watcher.run(resumed)))
    }

    fn message(&self, entry: &NodeEntry) -> Option<proto::InfraNode> {
        let name = &entry.observed.name;
        let (allocated, machines) = self.view.ask(|world| world.load(name)).unwrap_or_default();
        let machines = machines
            .iter()
            .filter_map(|pod| Some(pod.machine.as_ref()?.name.to_string()));
        let load = Load {
            allocated,
            machines: machines.collect(),
            evacuating: self.view.evacuating(name),
            warnings: self.view.warnings(),
        };
        infra_node(&entry.object, &entry.observed, &load)
    }

    /// The nodes that pass the filter, by name.
    fn passing(&self, filter: &Filter) -> Result<BTreeMap<String, proto::InfraNode>, RpcError> {
        let mut all = BTreeMap::new();
        for message in self.view.nodes().iter().filter_map(|entry| self.message(entry)) {
            if filter.is_empty() || filter.matches(&reflect::Filterable(reflect::dynamic(MESSAGE, &message)?)) {
                all.insert(message.name.clone(), message);
            }
        }
        Ok(all)
    }

    fn token(&self) -> Token {
        let changes = self.view.changes();
        let number = *changes.borrow();
        Token {
            life: self.view.life(),
            number,
        }
    }
}

/// Waits for the first lists: an answer without them would call everything empty.
///
/// # Errors
/// If they do not come.
pub async fn synced(view: &View) -> Result<(), RpcError> {
    if tokio::time::timeout(PATIENCE, view.synced()).await.is_ok() {
        return Ok(());
    }
    Err(Error::NotSynced(view.warnings().join("; ")).into())
}

/// A place in the changes of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    life: u64,
    number: u64,
}

impl Token {
    fn parse(text: &str) -> Result<Self, RpcError> {
        let hex = |part: &str| u64::from_str_radix(part, 16).ok();
        let parsed = text.split_once('.').and_then(|(life, number)| {
            Some(Self {
                life: hex(life)?,
                number: hex(number)?,
            })
        });
        parsed.ok_or_else(|| Violations::one("resume_token", "was not made by this service").into())
    }

    fn text(self) -> String {
        format!("{:x}.{:x}", self.life, self.number)
    }
}

struct Watcher {
    nodes: InfraNodes,
    filter: Filter,
    /// Nodes as the client knows them.
    known: BTreeMap<String, proto::InfraNode>,
}

impl Watcher {
    fn run(mut self, resumed: bool) -> impl Stream<Item = Result<proto::WatchInfraNodesResponse, Status>> + Send {
        async_stream::try_stream! {
            let mut changes = self.nodes.view.changes();
            let mut synced = resumed;
            loop {
                changes.mark_unchanged();
                let token = self.nodes.token().text();
                for event in self.news(&token)? {
                    yield event;
                }
                if !synced {
                    synced = true;
                    yield proto::WatchInfraNodesResponse { r#type: WatchEventType::Synced.into(), infra_node: None, resume_token: token };
                }
                tokio::select! {
                    // The view lives as long as the service.
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(RECHECK) => {}
                }
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// What differs from what the client knows; each message but the last carries no token, as resuming there would lose the
    /// rest.
    fn news(&mut self, token: &str) -> Result<Vec<proto::WatchInfraNodesResponse>, RpcError> {
        let now = self.nodes.passing(&self.filter)?;
        let mut events = Vec::new();
        let mut event = |kind: WatchEventType, node: &proto::InfraNode| {
            events.push(proto::WatchInfraNodesResponse {
                r#type: kind.into(),
                infra_node: Some(node.clone()),
                resume_token: String::new(),
            });
        };
        for node in self
            .known
            .iter()
            .filter(|(name, _)| !now.contains_key(*name))
            .map(|(_, node)| node)
        {
            event(WatchEventType::Deleted, node);
        }
        for (name, node) in &now {
            match self.known.get(name) {
                None => event(WatchEventType::Added, node),
                Some(before) if before != node => event(WatchEventType::Modified, node),
                Some(_) => {}
            }
        }
        if let Some(last) = events.last_mut() {
            token.clone_into(&mut last.resume_token);
        }
        self.known = now;
        Ok(events)
    }
}
