use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_holds() {
    let now = Instant::now();
    let cases = [
        // own, incoming, end
        (None, None, Some(15)),
        (Some(5), None, Some(5)),
        (Some(30), None, Some(30)),
        (None, Some(3), Some(3)),
        (None, Some(60), Some(15)),
        (Some(5), Some(3), Some(3)),
        (Some(2), Some(3), Some(2)),
    ];
    for (own, incoming, end) in cases {
        let incoming = incoming.map(|s| now + seconds(s));
        let got = Deadlines::of("/a.B/GetC", own.map(seconds), incoming, seconds(15), now);
        assert_eq!(got.end, end.map(|s| now + seconds(s)), "{own:?} {incoming:?}");
        assert_eq!(Some(got.head), got.end);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_have_a_deadline_only_if_they_ask() {
    let now = Instant::now();
    let open = Deadlines::of("/a.B/WatchCs", None, Some(now + seconds(3)), seconds(15), now);
    assert_eq!((open.head, open.end), (now + seconds(15), None));
    let bounded = Deadlines::of("/a.B/WatchCs", Some(seconds(60)), None, seconds(15), now);
    assert_eq!(
        (bounded.head, bounded.end),
        (now + seconds(15), Some(now + seconds(60)))
    );
}

#[tokio::test]
async fn a_peer_that_is_away_is_told_with_a_reason() {
    use steading_api::convert::reason_of;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    // Bound and dropped again: nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let channel = connect_lazy(&format!("http://{gone}"), &ChannelConfig::new("test")).expect("an address");
    let error = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .expect_err("nobody there");
    assert_eq!(reason_of(&error), Some(ErrorReason::PeerUnavailable));
}

#[test]
fn odd_addresses_are_refused() {
    assert!(connect_lazy("not an address", &ChannelConfig::default()).is_err());
}
