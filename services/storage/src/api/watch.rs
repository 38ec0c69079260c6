//! Watching volumes: from the index, since what is told of a volume comes from four kinds of objects.
//!
//! Nothing is queued for a reader: it remembers the number of the last change it has told, and reads on in the index's
//! log at its own pace. One that falls behind the log is cut off and told so. A resume token is that number together with
//! the identity of this index; after a restart, or at another replica, it has expired and the reader begins anew.

use std::collections::BTreeMap;

use steading_api::{
    error::RpcError,
    reflect,
    storage::v1 as proto,
    types::v1::{ErrorReason, WatchEventType},
};
use steading_model::{filter::Filter, name::ClusterName};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{Collection, Event, EventStream, WatchRequest},
};

use super::volumes::{Volumes, parse_cluster};
use crate::observe::{Change, SharedIndex, Since};

/// Watches the volumes of a cluster.
///
/// # Errors
/// If a parameter is wrong, the token has expired, or the caller may not.
pub async fn watch(
    volumes: &Volumes,
    context: &CallContext,
    request: &WatchRequest,
) -> Result<EventStream<proto::Volume>, RpcError> {
    let cluster = parse_cluster(&request.parent)?;
    let known = reflect::filter_fields(Volumes::MESSAGE);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let filter = Filter::parse(&request.filter, &known)?;
    let start = parse_token(&volumes.index, &request.resume_token)?;
    context
        .authorize(Action::new(Verb::Watch, Volumes::KIND, &request.parent))
        .await?;
    let reader = Reader {
        volumes: volumes.clone(),
        cluster,
        filter,
        told: BTreeMap::new(),
        resumed: start.is_some(),
    };
    let drain = context.drain();
    let events = futures::StreamExt::take_until(reader.run(start), drain.cancelled_owned());
    Ok(Box::pin(events))
}

fn expired() -> RpcError {
    RpcError::new(
        ErrorReason::ResumeTokenExpired,
        "the resume token is too old; watch anew without one",
    )
}

fn parse_token(index: &SharedIndex, token: &str) -> Result<Option<u64>, RpcError> {
    if token.is_empty() {
        return Ok(None);
    }
    let malformed = || {
        RpcError::new(ErrorReason::InvalidField, "resume_token: was not made by this service")
            .with_field("resume_token", "was not made by this service")
    };
    let (epoch, number) = token.split_once('.').ok_or_else(malformed)?;
    let number = number.parse().map_err(|_| malformed())?;
    if epoch == index.epoch() {
        Ok(Some(number))
    } else {
        Err(expired())
    }
}

struct Reader {
    volumes: Volumes,
    cluster: ClusterName,
    filter: Filter,
    /// What the client was told last of each volume.
    told: BTreeMap<String, proto::Volume>,
    /// Whether the client may know volumes that are not in `told`.
    resumed: bool,
}

impl Reader {
    fn run(mut self, start: Option<u64>) -> impl futures::Stream<Item = Result<Event<proto::Volume>, RpcError>> + Send {
        async_stream::try_stream! {
            let mut follow = self.volumes.index.follow();
            while !self.volumes.index.is_complete() {
                follow.changed().await.map_err(|_| RpcError::internal())?;
            }
            let mut number = start.unwrap_or_default();
            if start.is_none() {
                let (events, listed) = self.list()?;
                for event in events {
                    yield event;
                }
                number = listed;
                yield Event { kind: WatchEventType::Synced, message: None, resume_token: self.token(number) };
            }
            loop {
                follow.mark_unchanged();
                let (changes, next) = match self.volumes.index.since(number) {
                    Since::Changes(changes, next) => (changes, next),
                    Since::Lost(_) => Err(self.lost())?,
                };
                for change in changes {
                    if let Some(event) = self.changed(&change, next)? {
                        yield event;
                    }
                }
                self.resumed = false;
                number = next;
                follow.changed().await.map_err(|_| RpcError::internal())?;
            }
        }
    }

    fn token(&self, number: u64) -> String {
        format!("{}.{number}", self.volumes.index.epoch())
    }

    fn lost(&self) -> RpcError {
        if self.resumed {
            return expired();
        }
        RpcError::new(
            ErrorReason::WatchOverrun,
            "the reader was too slow; watch anew without a token",
        )
    }

    fn passes(&self, message: &proto::Volume) -> Result<bool, RpcError> {
        if self.filter.is_empty() {
            return Ok(true);
        }
        Ok(self
            .filter
            .matches(&reflect::Filterable(reflect::dynamic(Volumes::MESSAGE, message)?)))
    }

    fn list(&mut self) -> Result<(Vec<Event<proto::Volume>>, u64), RpcError> {
        let (seen, number) = {
            let index = self.volumes.index.read();
            (index.volumes(&self.cluster.namespace()), index.number())
        };
        let mut events = Vec::new();
        for volume in seen {
            let message = self.volumes.render(&volume);
            if self.passes(&message)? {
                self.told.insert(volume.id().to_owned(), message.clone());
                // A token in the middle of the list would skip the rest of it; the first that works is that of SYNCED.
                events.push(Event {
                    kind: WatchEventType::Added,
                    message: Some(message),
                    resume_token: String::new(),
                });
            }
        }
        Ok((events, number))
    }

    fn changed(&mut self, change: &Change, number: u64) -> Result<Option<Event<proto::Volume>>, RpcError> {
        let Change::Volume(namespace, id) = change else {
            return Ok(None);
        };
        if *namespace != self.cluster.namespace() {
            return Ok(None);
        }
        let volume = self.volumes.index.read().volume(namespace, id);
        let present = volume.map(|volume| self.volumes.render(&volume));
        let token = self.token(number);
        let event = |kind, message| Event {
            kind,
            message: Some(message),
            resume_token: token,
        };
        let present = match present {
            Some(message) if self.passes(&message)? => message,
            gone => {
                let told = self.told.remove(id);
                let unseen = self.resumed.then(|| proto::Volume {
                    name: format!("{}/volumes/{id}", self.cluster),
                    ..proto::Volume::default()
                });
                let last = told.map(|told| gone.unwrap_or(told)).or(unseen);
                return Ok(last.map(|last| event(WatchEventType::Deleted, last)));
            }
        };
        let before = self.told.insert(id.clone(), present.clone());
        let kind = match before {
            Some(before) if before == present => return Ok(None),
            Some(_) => WatchEventType::Modified,
            None if self.resumed => WatchEventType::Modified,
            None => WatchEventType::Added,
        };
        Ok(Some(event(kind, present)))
    }
}
