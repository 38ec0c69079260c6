//! What the layers do to a call.

use std::time::Duration;

use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha::server_reflection_client::ServerReflectionClient as AlphaClient,
};

use super::{
    fixture::{Fixture, get},
    *,
};

#[tokio::test]
async fn handlers_know_who_calls_and_under_which_id() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let mut request = get("projects/echo");
    request
        .metadata_mut()
        .insert("x-request-id", "my-id".parse().expect("ascii"));
    let response = server.client().get_project(request).await.expect("answers");
    assert_eq!(
        response.metadata().get("x-request-id").and_then(|v| v.to_str().ok()),
        Some("my-id")
    );
    let seen = response.into_inner().annotations;
    assert_eq!(
        (seen["principal"].as_str(), seen["request_id"].as_str()),
        ("dev", "my-id")
    );
    let again = server
        .client()
        .get_project(get("projects/echo"))
        .await
        .expect("answers");
    assert_eq!(again.into_inner().annotations["request_id"].len(), 36, "made up");
    server.ended().await;
}

#[tokio::test]
async fn deadline_and_request_id_travel_to_the_next_service() {
    let inner = Fixture::start(ServerConfig::dev_mode()).await;
    let address = "127.0.0.1:0".parse().expect("an address");
    let outer = Fixture::start_with(ServerConfig::dev_mode(), address, Some(inner.channel())).await;
    let mut request = get("projects/relay");
    request.set_timeout(Duration::from_secs(3));
    request
        .metadata_mut()
        .insert("x-request-id", "travels".parse().expect("ascii"));
    let seen = outer
        .client()
        .get_project(request)
        .await
        .expect("answers")
        .into_inner()
        .annotations;
    let left: u64 = seen["remaining_ms"].parse().expect("a number");
    assert!((1..=3000).contains(&left), "{left}");
    assert_eq!(seen["request_id"], "travels");
    outer.ended().await;
    inner.ended().await;
}

#[tokio::test]
async fn the_servers_longest_deadline_holds_without_one_of_the_clients() {
    let mut config = ServerConfig::dev_mode();
    config.limits.deadline = Duration::from_millis(50);
    let server = Fixture::start(config).await;
    let error = server
        .client()
        .get_project(get("projects/slow"))
        .await
        .expect_err("too slow");
    assert_eq!(reason_of(&error), Some(ErrorReason::DeadlineExceeded));
    server.ended().await;
}

#[tokio::test]
async fn a_stream_ends_at_the_deadline_that_its_client_set() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    // A bare connection: the ending must come from the server.
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut client = ProjectServiceClient::new(channel.connect().await.expect("connects"));
    let mut request = tonic::Request::new(steading_api::lifecycle::v1::WatchProjectsRequest::default());
    request
        .metadata_mut()
        .insert("grpc-timeout", "200m".parse().expect("ascii"));
    let mut stream = client.watch_projects(request).await.expect("begins").into_inner();
    assert!(stream.next().await.is_some_and(|m| m.is_ok()));
    let end = stream.next().await.and_then(Result::err).expect("ended");
    assert_eq!(end.code(), Code::DeadlineExceeded);
    server.ended().await;
}

#[tokio::test]
async fn panics_and_errors_have_reasons_and_are_counted() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let mut client = server.client();
    let error = client.get_project(get("projects/panic")).await.expect_err("panics");
    assert_eq!(reason_of(&error), Some(ErrorReason::Internal));
    assert!(!error.message().contains("as asked"), "causes stay inside");
    let error = client.get_project(get("projects/missing")).await.expect_err("missing");
    assert_eq!(reason_of(&error), Some(ErrorReason::ResourceNotFound));
    assert!(
        client.get_project(get("projects/echo")).await.is_ok(),
        "the connection lives on"
    );
    let text = server.config.metrics.encode();
    for code in ["INTERNAL", "NOT_FOUND", "OK"] {
        let count = format!(
            "rpc_method=\"steading.lifecycle.v1.ProjectService/GetProject\",rpc_response_status_code=\"{code}\"}} 1\n"
        );
        assert!(text.contains(&count), "{code} in {text}");
    }
    server.ended().await;
}

#[tokio::test]
async fn made_up_methods_have_a_reason_and_no_series_of_their_own() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.expect("ready");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static("/made.up.Service/Method");
    let error = grpc
        .unary(tonic::Request::new(()), path, codec)
        .await
        .expect_err("nothing there");
    assert_eq!(
        (error.code(), reason_of(&error)),
        (Code::Unimplemented, Some(ErrorReason::NotImplemented))
    );
    let text = server.config.metrics.encode();
    assert!(
        text.contains("rpc_method=\"other\"") && !text.contains("made.up"),
        "{text}"
    );
    server.ended().await;
}

#[tokio::test]
async fn too_large_a_message_and_nonsense_are_told_apart() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let large = get(&"x".repeat(5 * 1024 * 1024));
    let error = server.client().get_project(large).await.expect_err("too large");
    assert_eq!(reason_of(&error), Some(ErrorReason::RequestTooLarge), "{error:?}");
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.expect("ready");
    let codec = tonic_prost::ProstCodec::<prost_types::Timestamp, ()>::default();
    let path = http::uri::PathAndQuery::from_static("/steading.lifecycle.v1.ProjectService/GetProject");
    let nonsense = tonic::Request::new(prost_types::Timestamp { seconds: 1, nanos: 1 });
    let error = grpc.unary(nonsense, path, codec).await.expect_err("nonsense");
    assert_eq!(reason_of(&error), Some(ErrorReason::MalformedRequest), "{error:?}");
    server.ended().await;
}

#[tokio::test]
async fn a_full_server_sheds_and_says_when_to_come_back() {
    use tonic_types::StatusExt;
    let mut config = ServerConfig::dev_mode();
    config.limits.calls = 1;
    let mut server = Fixture::start(config).await;
    let mut client = server.client();
    let group = TaskGroup::new("slow", CancellationToken::new());
    group.spawn_finite("call", async move {
        client.get_project(get("projects/slow")).await.map(drop)
    });
    server.began.recv().await.expect("began");
    let error = server
        .client()
        .get_project(get("projects/echo"))
        .await
        .expect_err("full");
    assert_eq!(reason_of(&error), Some(ErrorReason::RateLimited));
    assert!(error.get_details_retry_info().is_some());
    assert!(
        HealthClient::new(server.channel())
            .check(HealthCheckRequest::default())
            .await
            .is_ok(),
        "still alive"
    );
    server.release.notify_one();
    server.ended().await;
}

#[tokio::test]
async fn without_configuration_everybody_is_refused_but_health_is_told() {
    let server = Fixture::start(ServerConfig::default()).await;
    let error = server
        .client()
        .get_project(get("projects/echo"))
        .await
        .expect_err("refused");
    assert_eq!(reason_of(&error), Some(ErrorReason::Unauthenticated));
    assert!(
        HealthClient::new(server.channel())
            .check(HealthCheckRequest::default())
            .await
            .is_ok()
    );
    server.ended().await;
}

#[tokio::test]
async fn dev_mode_serves_on_loopback_only() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let server = GrpcServer::builder("test").config(ServerConfig::dev_mode());
    let result = server.run(listener, CancellationToken::new()).await;
    assert!(matches!(result, Err(ServerError::NotLoopback(_))));
}

#[tokio::test]
async fn reflection_knows_the_details_of_errors() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
    };
    let asked = ServerReflectionClient::new(server.channel())
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .expect("answers");
    let answer = asked
        .into_inner()
        .next()
        .await
        .and_then(Result::ok)
        .and_then(|m| m.message_response);
    assert!(
        matches!(&answer, Some(MessageResponse::FileDescriptorResponse(files)) if !files.file_descriptor_proto.is_empty()),
        "{answer:?}"
    );
    server.ended().await;
}

#[tokio::test]
async fn reflection_tells_of_the_services_that_are_served() {
    let server = Fixture::start(ServerConfig::dev_mode()).await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel());
    let asked = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .expect("answers");
    let answer = asked
        .into_inner()
        .next()
        .await
        .and_then(Result::ok)
        .and_then(|m| m.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    assert!(
        names.contains(&"steading.lifecycle.v1.ProjectService".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.contains(&"steading.storage.v1.VolumeService".to_owned()),
        "{names:?}"
    );
    assert!(
        AlphaClient::new(server.channel())
            .server_reflection_info(tokio_stream::iter([]))
            .await
            .is_ok()
    );
    server.ended().await;
}
