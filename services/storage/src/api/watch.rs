//! Watching volumes: from the indexes, since what is said of a volume comes from five kinds of objects.
//!
//! Nothing is queued for a reader: it keeps its place in the logs of changes and reads on at its own pace. One that falls behind
//! a log is cut off with a reason. A resume token is that place; inside a batch it also says how far the batch was sent, so that
//! nothing of it is lost to a reader that is cut off there. After a restart, or at another replica, a token has expired.
//!
//! Attachments become unknown while machines cannot be watched, and known again afterwards: that is looked at by time, and
//! brings an event for each volume that it concerns, to the readers of its cluster alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use steading_api::{error::RpcError, reflect, storage::v1 as proto, types::v1::WatchEventType};
use steading_model::{filter::Filter, name::ClusterName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{Collection, Event, EventStream, WatchRequest},
};

use super::volumes::{Volumes, parse_cluster};
use crate::{
    error::Error,
    observe::{Observed, Subject, places::Places},
};

/// How often is looked whether machines can still be watched.
const SIGHT_POLL: Duration = Duration::from_secs(1);

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
    let start = match request.resume_token.as_str() {
        "" => None,
        token => Some(Token::read(token)?),
    };
    context
        .authorize(Action::new(Verb::Watch, Volumes::KIND, &request.parent))
        .await?;
    let reader = Reader {
        volumes: volumes.clone(),
        namespace: cluster.namespace(),
        cluster,
        filter,
        sent: BTreeMap::new(),
        unsure: BTreeSet::new(),
    };
    let drain = context.drain();
    let events = futures::StreamExt::take_until(reader.run(start), drain.cancelled_owned());
    Ok(Box::pin(events))
}

/// Where a reader goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// Up to here the reader knows everything of the volumes that were sent.
    place: Places,
    /// Inside a batch: the place before it, and the id of the last volume of it that was sent.
    within: Option<(Places, String)>,
}

impl Token {
    fn read(text: &str) -> Result<Self, RpcError> {
        // Cursors of other replicas and earlier times have the same form.
        if !text.contains('.') {
            return Err(Violations::one("resume_token", "was not made by this service").into());
        }
        let place = |text: &str| text.parse::<Places>().map_err(|_| Error::TokenExpired);
        let mut parts = text.splitn(3, '/');
        let (first, second, id) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        Ok(Self {
            place: place(first)?,
            within: match (second, id) {
                (Some(before), Some(id)) => Some((place(before)?, id.to_owned())),
                (Some(_), None) | (None, _) => None,
            },
        })
    }

    fn write(place: Places, within: Option<(Places, &str)>) -> String {
        match within {
            None => place.to_string(),
            Some((before, id)) => format!("{place}/{before}/{id}"),
        }
    }
}

struct Reader {
    volumes: Volumes,
    cluster: ClusterName,
    namespace: String,
    filter: Filter,
    /// What the client was sent last of each volume.
    sent: BTreeMap<String, proto::Volume>,
    /// Volumes of which it is not known what the client was sent, as it resumed.
    unsure: BTreeSet<String>,
}

impl Reader {
    fn run(
        mut self,
        start: Option<Token>,
    ) -> impl futures::Stream<Item = Result<Event<proto::Volume>, RpcError>> + Send {
        async_stream::try_stream! {
            let mut poll = tokio::time::interval(SIGHT_POLL);
            poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !self.seen().is_synced() {
                poll.tick().await;
            }
            let seen = self.seen().clone();
            let (mut volumes, mut claims) = (seen.volumes.index().changed(), seen.claims.index().changed());
            let (mut machines, mut instances) = (seen.machines.index().changed(), seen.instances.index().changed());
            let mut nodes = seen.nodes.index().changed();
            let mut clouded = seen.clouded();
            let mut before = start.as_ref().map_or_else(|| Places::of(&seen), |token| token.place);
            let mut places = before;
            let mut touched = BTreeSet::new();
            match start {
                None => {
                    // Changes since the place was taken are looked at again below, and bring nothing twice.
                    let all = self.everything();
                    for (_, event) in self.look(all)? {
                        // A token in the middle of the list would skip the rest of it; the first that works is that of SYNCED.
                        yield event;
                    }
                    yield Event { kind: WatchEventType::Synced, message: None, resume_token: Token::write(places, None) };
                }
                Some(token) => {
                    touched = self.since(&mut places)?;
                    if let Some((earlier, last)) = token.within {
                        // What is pending of the old batch is pending since before it.
                        before = earlier;
                        let mut earlier = earlier;
                        touched.extend(self.since(&mut earlier)?.into_iter().filter(|id| *id > last));
                    }
                    self.resume(&touched)?;
                }
            }
            loop {
                let events = self.look(std::mem::take(&mut touched))?;
                let count = events.len();
                for (number, (id, event)) in events.into_iter().enumerate() {
                    let within = (number + 1 < count).then_some((before, id.as_str()));
                    yield Event { resume_token: Token::write(places, within), ..event };
                }
                before = places;
                let woken = tokio::select! {
                    _ = poll.tick() => None,
                    changed = volumes.changed() => Some(changed),
                    changed = claims.changed() => Some(changed),
                    changed = machines.changed() => Some(changed),
                    changed = instances.changed() => Some(changed),
                    changed = nodes.changed() => Some(changed),
                };
                if let Some(outcome) = woken {
                    outcome.map_err(|_| RpcError::internal())?;
                }
                let subjects = places.go_on(&seen, Some(&self.namespace)).map_err(|_| Error::WatchOverrun)?;
                touched = self.of_cluster(subjects);
                let now = seen.clouded();
                if now != clouded {
                    clouded = now;
                    touched = self.everything();
                }
            }
        }
    }

    /// The cluster's volumes that were touched since a place, which moves to the end.
    fn since(&self, places: &mut Places) -> Result<BTreeSet<String>, RpcError> {
        let subjects = places
            .go_on(self.seen(), Some(&self.namespace))
            .map_err(|_| Error::TokenExpired)?;
        Ok(self.of_cluster(subjects))
    }

    fn seen(&self) -> &Observed {
        &self.volumes.observed
    }

    /// Every volume that the cluster has, or that the client knows of.
    fn everything(&self) -> BTreeSet<String> {
        let present = self.seen().volumes.index().in_namespace(&self.namespace);
        let present = present.into_iter().map(|(object, _)| object.name.to_string());
        present.chain(self.sent.keys().cloned()).collect()
    }

    fn of_cluster(&self, subjects: BTreeSet<Subject>) -> BTreeSet<String> {
        let id = |subject| match subject {
            Subject::Volume(namespace, id) if namespace == self.namespace => Some(id),
            Subject::Volume(..) | Subject::Machine(..) => None,
        };
        subjects.into_iter().filter_map(id).collect()
    }

    /// A client that resumes knows what has not changed since, and of the rest it is not known what it knows.
    fn resume(&mut self, touched: &BTreeSet<String>) -> Result<(), RpcError> {
        for id in self.everything().difference(touched) {
            if let Some(message) = self.present(id)? {
                self.sent.insert(id.clone(), message);
            }
        }
        self.unsure.clone_from(touched);
        Ok(())
    }

    /// A volume as the client should see it; `None` if it is not there or does not pass the filter.
    fn present(&self, id: &str) -> Result<Option<proto::Volume>, RpcError> {
        let Some(volume) = self.seen().volumes.index().get(&self.namespace, id) else {
            return Ok(None);
        };
        let message = self.volumes.render(&volume);
        let passes = self.filter.is_empty()
            || self
                .filter
                .matches(&reflect::Filterable(reflect::dynamic(Volumes::MESSAGE, &message)?));
        Ok(passes.then_some(message))
    }

    /// The events by which the client learns how these volumes are, in order of the ids. Without tokens.
    fn look(&mut self, ids: BTreeSet<String>) -> Result<Vec<(String, Event<proto::Volume>)>, RpcError> {
        let mut events = Vec::new();
        for id in ids {
            let unsure = self.unsure.remove(&id);
            let present = self.present(&id)?;
            let (kind, message) = match (self.sent.remove(&id), present) {
                (Some(before), Some(present)) if before == present => {
                    self.sent.insert(id, before);
                    continue;
                }
                (before, Some(present)) => {
                    self.sent.insert(id.clone(), present.clone());
                    let known = before.is_some() || unsure;
                    let kind = if known {
                        WatchEventType::Modified
                    } else {
                        WatchEventType::Added
                    };
                    (kind, present)
                }
                (Some(before), None) => (WatchEventType::Deleted, before),
                (None, None) if unsure => {
                    let message = proto::Volume {
                        name: format!("{}/volumes/{id}", self.cluster),
                        ..proto::Volume::default()
                    };
                    (WatchEventType::Deleted, message)
                }
                (None, None) => continue,
            };
            let event = Event {
                kind,
                message: Some(message),
                resume_token: String::new(),
            };
            events.push((id, event));
        }
        Ok(events)
    }
}
