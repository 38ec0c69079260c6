//! How a server ends.

use std::time::Duration;

use steading_api::lifecycle::v1::WatchProjectsRequest;
use tonic_health::pb::health_check_response::ServingStatus as Health;

use super::{
    fixture::{Fixture, get},
    *,
};

const SERVICE: &str = "steading.lifecycle.v1.ProjectService";

#[tokio::test]
async fn health_goes_from_serving_to_not_serving_for_each_service() {
    let mut server = Fixture::start(ServerConfig::dev_mode()).await;
    let mut watches = Vec::new();
    for service in ["", SERVICE] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut watch = HealthClient::new(server.channel())
            .watch(request)
            .await
            .expect("watches")
            .into_inner();
        assert_eq!(
            watch.message().await.expect("told").map(|m| m.status()),
            Some(Health::Serving),
            "{service}"
        );
        watches.push(watch);
    }
    assert!(server.config.readiness.is_ready());
    let unknown = HealthCheckRequest {
        service: "made.up".to_owned(),
    };
    let error = HealthClient::new(server.channel())
        .check(unknown)
        .await
        .expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);

    // A call in flight holds the drain, so that the change can be seen.
    let mut client = server.client();
    let group = TaskGroup::new("slow", CancellationToken::new());
    group.spawn_finite("call", async move {
        client.get_project(get("projects/slow")).await.map(drop)
    });
    server.began.recv().await.expect("began");
    server.cancel.cancel();
    for mut watch in watches {
        // The last word may be the status or, if the drain was faster, the end of the stream.
        match watch.message().await {
            Ok(message) => assert_eq!(message.map(|m| m.status()), Some(Health::NotServing)),
            Err(error) => assert_eq!(reason_of(&error), Some(ErrorReason::ShuttingDown)),
        }
    }
    server.release.notify_one();
    let readiness = server.config.readiness.clone();
    server.ended().await;
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn a_drain_ends_streams_and_lets_calls_finish() {
    let mut server = Fixture::start(ServerConfig::dev_mode()).await;
    let mut stream = server
        .client()
        .watch_projects(WatchProjectsRequest::default())
        .await
        .expect("begins")
        .into_inner();
    assert!(stream.message().await.expect("told").is_some());
    let (mut client, group) = (server.client(), TaskGroup::new("slow", CancellationToken::new()));
    group.spawn_finite("call", async move {
        client.get_project(get("projects/slow")).await.map(drop)
    });
    server.began.recv().await.expect("began");

    server.cancel.cancel();
    let end = stream.message().await.expect_err("ended");
    assert_eq!(reason_of(&end), Some(ErrorReason::ShuttingDown));
    let error = server
        .client()
        .get_project(get("projects/echo"))
        .await
        .expect_err("no longer accepts");
    assert_eq!(error.code(), Code::Unavailable);
    server.release.notify_one();
    server.ended().await;
    group.token().cancel();
    group
        .join(Duration::from_secs(5))
        .await
        .expect("the call in flight was answered");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let mut config = ServerConfig::dev_mode();
    config.limits.drain = Duration::from_millis(50);
    let mut server = Fixture::start(config).await;
    let (mut client, group) = (server.client(), TaskGroup::new("slow", CancellationToken::new()));
    group.spawn_finite("call", async move {
        client.get_project(get("projects/slow")).await.map(drop)
    });
    server.began.recv().await.expect("began");
    server.ended().await;
    let error = group
        .join(Duration::from_secs(5))
        .await
        .expect_err("the call was cut off");
    assert!(error.to_string().contains("call failed"), "{error}");
}

#[tokio::test]
async fn a_server_starts_again_on_the_same_port_at_once() {
    let first = Fixture::start(ServerConfig::dev_mode()).await;
    let (address, mut client) = (first.address, first.client());
    client.get_project(get("projects/echo")).await.expect("answers");
    first.ended().await;
    let second = Fixture::start_with(ServerConfig::dev_mode(), address, None).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    // The channel notices the lost connection and connects anew by itself.
    while let Err(error) = client.get_project(get("projects/echo")).await {
        assert!(tokio::time::Instant::now() < deadline, "{error:?}");
        tokio::task::yield_now().await;
    }
    second.ended().await;
}

#[tokio::test]
async fn a_dropped_server_is_as_a_crashed_one() {
    let mut server = Fixture::start(ServerConfig::dev_mode()).await;
    let (mut client, group) = (server.client(), TaskGroup::new("slow", CancellationToken::new()));
    group.spawn_finite("call", async move {
        client.get_project(get("projects/slow")).await.map(drop)
    });
    server.began.recv().await.expect("began");
    let address = server.address;
    drop(server);
    let error = group
        .join(Duration::from_secs(5))
        .await
        .expect_err("the call was cut off");
    assert!(error.to_string().contains("call failed"), "{error}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the port stays open");
        tokio::task::yield_now().await;
    }
}
