use rstest::rstest;
use serde_json::json;

use super::*;

const MARKER: &str = "s3cr3t-marker";

fn mk_text(cluster: &Value, user: &Value) -> Vec<u8> {
    let mut fields = json!({"server": "https://192.0.2.10:6443"});
    for (key, value) in cluster.as_object().into_iter().flatten() {
        fields[key] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": fields}, {"name": "other", "cluster": {"server": "https://192.0.2.99"}}],
        "users": [{"name": "u", "user": user}, {"name": "other", "user": {"exec": {"command": "/bin/false"}}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn a_token_that_ends_in_a_line_break_is_trimmed_and_makes_a_client() {
    let parsed = parse(&mk_text(&json!({}), &json!({"token": "abcdef\n"}))).expect("a kubeconfig");
    let client = steading_runtime::kube::tenant_client(parsed.kubeconfig, "test").await;
    assert!(client.is_ok());
}

#[rstest]
#[case(json!({}), json!({"token": "ab\r\ncd"}), KubeconfigFault::NotAHeader("token"))]
#[case(json!({}), json!({"token": "t", "as": "a\nb"}), KubeconfigFault::NotAHeader("as"))]
#[case(json!({}), json!({"token": "t", "as-groups": ["a\u{0}"]}), KubeconfigFault::NotAHeader("as-groups"))]
#[case(json!({}), json!({"token": "t", "as-user-extra": {"a b": ["c"]}}), KubeconfigFault::NotAllowed("as-user-extra"))]
#[case(json!({}), json!({"exec": {"command": "/bin/false", "apiVersion": "v1"}}), KubeconfigFault::NotAllowed("exec"))]
#[case(json!({}), json!({"tokenFile": "/etc/hostname"}), KubeconfigFault::NotAllowed("tokenFile"))]
#[case(json!({}), json!({"client-key-data": "%%"}), KubeconfigFault::NotBase64("client-key-data"))]
#[case(json!({"proxy-url": "socks5://bastion:1080"}), json!({}), KubeconfigFault::NotAllowed("proxy-url"))]
#[case(json!({"certificate-authority": "/etc/hostname"}), json!({}), KubeconfigFault::NotAllowed("certificate-authority"))]
#[case(json!({"certificate-authority-data": "a b"}), json!({}), KubeconfigFault::NotBase64("certificate-authority-data"))]
#[case(json!({"server": "192.0.2.10"}), json!({}), KubeconfigFault::BadServer)]
#[case(json!({"server": "ftp://192.0.2.10"}), json!({}), KubeconfigFault::BadServer)]
#[case(json!({"server": " "}), json!({}), KubeconfigFault::Missing("server"))]
#[case(json!({"tls-server-name": "a b"}), json!({}), KubeconfigFault::BadServerName)]
fn what_cannot_be_used_is_refused_at_the_door(
    #[case] cluster: Value,
    #[case] user: Value,
    #[case] fault: KubeconfigFault,
) {
    assert_eq!(parse(&mk_text(&cluster, &user)).err(), Some(fault));
}

#[test]
fn the_name_that_the_certificate_is_checked_against_is_kept() {
    let parsed = parse(&mk_text(
        &json!({"tls-server-name": "api.prod.test"}),
        &json!({"token": "t"}),
    ));
    assert_eq!(parsed.expect("a kubeconfig").endpoint.tls_server_name, "api.prod.test");
}

#[test]
fn a_user_that_the_context_does_not_name_is_left_out() {
    let parsed = parse(&mk_text(&json!({}), &json!({"token": "t"}))).expect("a kubeconfig");
    assert_eq!(parsed.kubeconfig.auth_infos.len(), 1);
    assert_eq!(parsed.endpoint.server, "https://192.0.2.10:6443");
}

#[rstest]
#[case("users:\n- name: u\n  user: {token: [s3cr3t-marker]}\n")]
#[case("users:\n- name: u\n  user: {token: s3cr3t-marker\n")]
#[case("s3cr3t-marker")]
#[case("{\"current-context\": \"s3cr3t-marker\"}")]
#[case(
    "{\"current-context\": \"c\", \"contexts\": [{\"name\": \"c\", \"context\": {\"cluster\": \"s3cr3t-marker\"}}]}"
)]
fn a_fault_never_quotes_what_stands_in_the_kubeconfig(#[case] text: &str) {
    let fault = parse(text.as_bytes()).expect_err("a fault");
    assert!(!format!("{fault} {fault:?}").contains(MARKER), "{fault:?}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_token_is_refused_or_makes_a_client(token in "\\PC*|[\u{0}-\u{ff}]*") {
        if let Ok(parsed) = parse(&mk_text(&json!({}), &json!({"token": token}))) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async { steading_runtime::kube::tenant_client(parsed.kubeconfig, "test").await.expect("a client") });
        }
    }
}
