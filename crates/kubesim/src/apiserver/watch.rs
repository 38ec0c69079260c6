//! Watches: initial state, then the log from there, narrowed to the selection, with bookmarks and an honest end.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    dig,
    exchange::{Answer, Disconnected, Target},
    output::Writer,
    read,
    selector::Selection,
    status::ApiError,
    store::{Change, Collection, Event, Object},
};
use crate::faults::{Cut, WatchGuard};

/// How many events are taken from the log at once.
const BATCH: usize = 256;
/// How often a watch that asked for bookmarks gets one, as from kube-apiserver.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long before its end a watch gets a last bookmark, as from kube-apiserver: the client then continues from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// How long a watch lasts when the client does not say; Kubernetes draws between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

struct Watch {
    collection: Arc<Collection>,
    namespace: String,
    selection: Selection,
    writer: Writer,
    bookmarks: bool,
    guard: WatchGuard,
    timeout: Duration,
    initial: Vec<Arc<Object>>,
    mark_initial_end: bool,
    revision: u64,
    first: bool,
}

/// A watch, silent from the start if a fault wants it so.
pub(crate) fn answer(target: &Target<'_>, silent: bool) -> Result<Answer, ApiError> {
    let query = &target.info.query;
    let selection = read::selection(target)?;
    let asked = read::check_not_ahead(target)?.filter(|revision| *revision > 0);
    let send_initial = query.get("sendInitialEvents").map(|text| text == "true");
    let from_state = send_initial.unwrap_or(asked.is_none());
    let collection = target.collection.clone();
    let (initial, revision) = if from_state {
        let (mut objects, revision) = collection.list(target.info.ns());
        objects.retain(|object| selection.matches(&object.value));
        (objects, revision)
    } else {
        (Vec::new(), asked.unwrap_or_else(|| target.server.store().revision()))
    };
    let timeout = query
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok())
        .filter(|seconds| *seconds > 0);
    let cut = silent.then_some(Cut::Silence);
    let guard = target.server.faults().opened(target.info, cut);
    let guard = guard.ok_or_else(|| ApiError::too_many_requests("too many watches are open", 1))?;
    let watch = Watch {
        collection,
        namespace: target.info.ns().to_owned(),
        selection,
        writer: Writer::new(target)?,
        bookmarks: query.flag("allowWatchBookmarks"),
        guard,
        timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        initial,
        mark_initial_end: send_initial == Some(true),
        revision,
        first: true,
    };
    Ok(Answer::stream(watch.run()))
}

/// When the next bookmark is due: every minute, and shortly before the watch ends.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let usual = now + BOOKMARK_EVERY;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if last > now => usual.min(last),
        _ => usual,
    }
}

impl Watch {
    fn run(mut self) -> impl Stream<Item = Result<Bytes, Disconnected>> + Send {
        async_stream::stream! {
            let deadline = Instant::now() + self.timeout;
            let mut bookmark = next_bookmark(Instant::now(), deadline);
            let mut head = self.collection.subscribe();
            let mut opening = true;
            loop {
                head.mark_unchanged();
                match self.cut().await {
                    Some(Cut::Expire) => {
                        yield Ok(self.expired());
                        return;
                    }
                    Some(_) => {
                        yield Err(Disconnected);
                        return;
                    }
                    None => {}
                }
                if std::mem::take(&mut opening)
                    && let Some(chunk) = self.initial()
                {
                    yield Ok(chunk);
                    continue;
                }
                match self.batch() {
                    Err(expired) => {
                        yield Ok(expired);
                        return;
                    }
                    Ok(Some(chunk)) => {
                        yield Ok(chunk);
                        continue;
                    }
                    // What was deleted with its kind is told first.
                    Ok(None) if self.collection.is_retired() => return,
                    Ok(None) => {}
                }
                let now = Instant::now();
                if now >= deadline {
                    return;
                }
                if self.bookmarks && now >= bookmark {
                    yield Ok(line("BOOKMARK", &Bytes::from(self.writer.bookmark(self.revision, false).to_string())));
                    bookmark = next_bookmark(now, deadline);
                }
                let until = if self.bookmarks { bookmark.min(deadline) } else { deadline };
                tokio::select! {
                    changed = head.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    changed = self.guard.signal.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    () = tokio::time::sleep_until(until) => {}
                }
            }
        }
    }

    /// How the watch was cut, if it was. One that fell silent stays here until it is cut for good.
    async fn cut(&mut self) -> Option<Cut> {
        let now = *self.guard.signal.borrow_and_update();
        if now != Some(Cut::Silence) {
            return now;
        }
        let ends = |cut: &Option<Cut>| *cut != Some(Cut::Silence);
        let cut = self.guard.signal.wait_for(ends).await.ok().and_then(|cut| *cut);
        Some(cut.unwrap_or(Cut::Drop))
    }

    fn initial(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::new();
        for object in std::mem::take(&mut self.initial) {
            let body = if self.writer.is_verbatim() {
                object.json()
            } else {
                self.writer.event(&object.value, self.first)
            };
            self.first = false;
            chunk.put_slice(&line("ADDED", &body));
        }
        if self.mark_initial_end && self.bookmarks {
            chunk.put_slice(&line(
                "BOOKMARK",
                &Bytes::from(self.writer.bookmark(self.revision, true).to_string()),
            ));
        }
        (!chunk.is_empty()).then(|| chunk.freeze())
    }

    /// The next events; none when there is nothing new.
    fn batch(&mut self) -> Result<Option<Bytes>, Bytes> {
        let (events, seen) = self
            .collection
            .events_after(self.revision, BATCH)
            .map_err(|_| self.expired())?;
        self.revision = seen;
        let mut chunk = BytesMut::new();
        for event in events {
            if let Some(line) = self.event(&event) {
                chunk.put_slice(&line);
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }

    fn event(&mut self, event: &Event) -> Option<Bytes> {
        let inside = |object: &Object| {
            (self.namespace.is_empty() || dig::meta(&object.value, "namespace") == self.namespace)
                && self.selection.matches(&object.value)
        };
        let before = event.previous.as_deref().is_some_and(inside);
        let after = event.change != Change::Deleted && inside(&event.object);
        let kind = match (before, after) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        // An object that leaves the selection is shown as it was, with the revision of its leaving.
        let left = kind == "DELETED" && event.change == Change::Modified;
        let body = match event.previous.as_deref().filter(|_| left) {
            Some(previous) => {
                let mut value = previous.value.clone();
                dig::set_meta(&mut value, "resourceVersion", event.object.revision.to_string());
                self.writer.event(&value, self.first)
            }
            None if self.writer.is_verbatim() => event.object.json(),
            None => self.writer.event(&event.object.value, self.first),
        };
        self.first = false;
        Some(line(kind, &body))
    }

    fn expired(&self) -> Bytes {
        let message = format!(
            "too old resource version: {} ({})",
            self.revision,
            self.collection.last_change()
        );
        line("ERROR", &Bytes::from(gone(&message).to_string()))
    }
}

fn gone(message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": "Expired", "code": 410})
}

fn line(kind: &str, object: &Bytes) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
