//! Watches: those of the service that break, and those of clients that resume.

use std::time::Duration;

use futures::StreamExt;
use steading_api::{
    storage::v1::{self as proto, volume::AttachmentState, volume_service_server::VolumeService},
    types::v1::WatchEventType,
};
use steading_controller::SourceConfig;
use steading_kubesim::faults::{Cut, Matcher};
use steading_runtime::standard::ResponseStream;

use crate::fixture::{CLUSTER, Fixture, ask, mk_volume, volume_name};

/// Sources that notice silence soon.
fn impatient() -> SourceConfig {
    SourceConfig {
        silence: Duration::from_secs(2),
        ..SourceConfig::default()
    }
}

async fn attach_and_detach_over(cut: Cut) {
    let fixture = Fixture::start_with(impatient()).await;
    fixture.ready("data").await;
    for round in 0..3 {
        let ours = Matcher::any().from_agent("storage");
        let count = fixture.server.faults().cut_watches(&ours, cut);
        assert!(round > 0 || count >= 5, "{count} watches");
        fixture.attach("data", "m1").await.expect("wanted");
        fixture.until("data", AttachmentState::Attached).await;
        fixture.detach("data").await.expect("unwanted");
        fixture.until("data", AttachmentState::Detached).await;
    }
    fixture.stop().await;
}

#[tokio::test]
async fn attach_and_detach_go_on_when_watches_are_dropped() {
    Box::pin(attach_and_detach_over(Cut::Drop)).await;
}

#[tokio::test]
async fn attach_and_detach_go_on_when_watches_expire() {
    Box::pin(attach_and_detach_over(Cut::Expire)).await;
}

#[tokio::test]
async fn attach_and_detach_go_on_when_watches_hang_without_an_error() {
    Box::pin(attach_and_detach_over(Cut::Silence)).await;
}

async fn watch(fixture: &Fixture, filter: &str, resume_token: &str) -> ResponseStream<proto::WatchVolumesResponse> {
    let request = proto::WatchVolumesRequest {
        parent: CLUSTER.into(),
        filter: filter.into(),
        resume_token: resume_token.into(),
    };
    fixture
        .volumes
        .watch_volumes(ask(request))
        .await
        .expect("watched")
        .into_inner()
}

async fn next(stream: &mut ResponseStream<proto::WatchVolumesResponse>) -> proto::WatchVolumesResponse {
    let event = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    event.expect("in time").expect("goes on").expect("no error")
}

/// Reads until the volume is said to be deleted.
async fn until_deleted(stream: &mut ResponseStream<proto::WatchVolumesResponse>, id: &str) {
    loop {
        let event = next(stream).await;
        if event.r#type() == WatchEventType::Deleted && event.volume.is_some_and(|v| v.name == volume_name(id)) {
            return;
        }
    }
}

#[tokio::test]
async fn a_resumed_watch_learns_of_every_deletion() {
    let fixture = Fixture::start().await;
    for id in ["a", "b", "c"] {
        fixture.ready(id).await;
    }
    let mut stream = watch(&fixture, "", "").await;
    let token = loop {
        let event = next(&mut stream).await;
        if event.r#type() == WatchEventType::Synced {
            break event.resume_token;
        }
    };
    drop(stream);
    fixture.delete("a", false).await.expect("deleted");
    fixture.until_gone("a").await;
    let mut resumed = watch(&fixture, "", &token).await;
    until_deleted(&mut resumed, "a").await;
    // This one did not change while nobody watched: it is only known from before.
    fixture.delete("b", false).await.expect("deleted");
    until_deleted(&mut resumed, "b").await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_watch_that_ends_inside_a_batch_resumes_with_the_rest_of_it() {
    let fixture = Fixture::start().await;
    for id in ["a", "b", "c"] {
        fixture.ready(id).await;
    }
    let mut stream = watch(&fixture, "", "").await;
    while next(&mut stream).await.r#type() != WatchEventType::Synced {}
    let wanted = futures::future::join_all(["a", "b", "c"].map(|id| fixture.attach(id, "m1"))).await;
    assert!(wanted.iter().all(Result::is_ok));
    let mut seen = std::collections::BTreeSet::new();
    let mut token = String::new();
    // Reading one event at a time and resuming from its token loses nothing.
    for _ in 0..400 {
        let event = next(&mut stream).await;
        token = event.resume_token;
        let volume = event.volume.expect("a volume");
        if volume.attachment_state() == AttachmentState::Attached {
            seen.insert(volume.name);
        }
        if seen.len() == 3 {
            break;
        }
        stream = watch(&fixture, "", &token).await;
    }
    assert_eq!(seen.len(), 3, "after {token}");
    fixture.stop().await;
}

#[tokio::test]
async fn a_hiccup_of_the_watches_cuts_no_reader() {
    let fixture = Fixture::start().await;
    fixture.ready("data").await;
    let mut stream = watch(&fixture, "", "").await;
    while next(&mut stream).await.r#type() != WatchEventType::Synced {}
    for _ in 0..5 {
        let ours = Matcher::any().from_agent("storage");
        fixture.server.faults().cut_watches(&ours, Cut::Drop);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    fixture.create("other", mk_volume()).await.expect("made");
    loop {
        let event = next(&mut stream).await;
        let volume = event.volume.expect("a volume");
        assert_ne!(volume.name, volume_name("data"), "nothing changed about it");
        if volume.name == volume_name("other") {
            break;
        }
    }
    fixture.stop().await;
}
