use steading_api::types::v1::ErrorReason;
use steading_kubesim::{
    ApiServerConfig,
    faults::{Cut, Matcher},
};

use crate::fixture::{PARENT, Rig, next, reason};

#[tokio::test]
async fn a_watch_sends_what_exists_then_synced_then_changes() {
    let rig = Rig::new().await;
    rig.make("x").await;
    rig.make("y").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    for (expected, has_token) in [("ADDED x 0", false), ("ADDED y 0", false), ("SYNCED", true)] {
        let (event, token) = next(&mut stream).await.unwrap();
        assert_eq!((event.as_str(), !token.is_empty()), (expected, has_token));
    }
    rig.report("x", 1).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "MODIFIED x 1");
    rig.remove("x").await;
    assert_eq!(next(&mut stream).await.unwrap().0, "DELETED x 1");
}

#[tokio::test]
async fn a_client_that_resumes_at_any_event_misses_nothing() {
    let rig = Rig::new().await;
    rig.make("x").await;
    rig.make("y").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    let mut tokens = Vec::new();
    while tokens.is_empty() {
        let (_, token) = next(&mut stream).await.unwrap();
        tokens.extend(Some(token).filter(|token| !token.is_empty()));
    }
    rig.report("x", 1).await;
    rig.remove("y").await;
    rig.make("z").await;
    let mut events = Vec::new();
    for _ in 0..3 {
        let (event, token) = next(&mut stream).await.unwrap();
        events.push(event);
        tokens.push(token);
    }
    for (number, token) in tokens.iter().enumerate() {
        let mut resumed = rig.watch(PARENT, "", token).await.unwrap();
        for expected in events.iter().skip(number) {
            let (event, _) = next(&mut resumed).await.unwrap();
            // Whether the client knew it before, only the client knows.
            let is_same = event == *expected || event == expected.replace("ADDED", "MODIFIED");
            assert!(is_same, "{event} instead of {expected}, resumed after event {number}");
        }
    }
}

#[tokio::test]
async fn a_client_cut_off_before_synced_begins_again() {
    let rig = Rig::new().await;
    for id in ["x", "y", "z"] {
        rig.make(id).await;
    }
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    let (first, token) = next(&mut stream).await.unwrap();
    assert_eq!((first.as_str(), token.as_str()), ("ADDED x 0", ""));
    drop(stream);
    let mut again = rig.watch(PARENT, "", &token).await.unwrap();
    for expected in ["ADDED x 0", "ADDED y 0", "ADDED z 0", "SYNCED"] {
        assert_eq!(next(&mut again).await.unwrap().0, expected);
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_as_such() {
    let rig = Rig::with(ApiServerConfig {
        history: 8,
        ..ApiServerConfig::default()
    })
    .await;
    rig.make("x").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    let mut token = String::new();
    while token.is_empty() {
        token = next(&mut stream).await.unwrap().1;
    }
    drop(stream);
    for ready in 0..40 {
        rig.report("x", ready).await;
    }
    let mut late = rig.watch(PARENT, "", &token).await.unwrap();
    let error = next(&mut late).await.expect_err("the token is too old");
    assert_eq!(error.code(), tonic::Code::OutOfRange);
    assert_eq!(reason::<()>(Err(error)), ErrorReason::ResumeTokenExpired);
    let strange = rig.watch(PARENT, "", "banana").await.map(|_| ());
    assert_eq!(reason(strange), ErrorReason::InvalidField);
}

#[tokio::test]
async fn a_dropped_watch_goes_on_by_itself_and_an_expired_one_ends() {
    let rig = Rig::new().await;
    rig.make("x").await;
    let mut stream = rig.watch(PARENT, "", "").await.unwrap();
    for expected in ["ADDED x 0", "SYNCED"] {
        assert_eq!(next(&mut stream).await.unwrap().0, expected);
    }
    rig.report("x", 1).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "MODIFIED x 1");
    rig.server
        .faults()
        .cut_watches(&Matcher::on("configmaps", &[]), Cut::Drop);
    rig.report("x", 2).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "MODIFIED x 2");
    rig.server
        .faults()
        .cut_watches(&Matcher::on("configmaps", &[]), Cut::Expire);
    assert_eq!(reason(next(&mut stream).await), ErrorReason::ResumeTokenExpired);
}

#[tokio::test]
async fn what_leaves_the_filter_is_deleted_for_the_watcher() {
    let rig = Rig::new().await;
    rig.make("x").await;
    let mut stream = rig.watch(PARENT, "ready_replicas=0", "").await.unwrap();
    for expected in ["ADDED x 0", "SYNCED"] {
        assert_eq!(next(&mut stream).await.unwrap().0, expected);
    }
    rig.report("x", 1).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "DELETED x 1");
    rig.report("x", 0).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "ADDED x 0");
}
