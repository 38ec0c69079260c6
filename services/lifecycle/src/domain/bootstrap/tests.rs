//! What the guest reads.

use serde_json::{Value, json};
use steading_cloudinit::{Entry, read};

use super::*;

fn mk_token() -> Token {
    Token {
        id: token_id("p--c", "w-1"),
        secret: letters(&[7; 16], 16),
    }
}

fn mk_endpoint() -> Endpoint {
    Endpoint {
        server: "https://10.0.0.1:6443".into(),
        ca_data: "Q0E=".into(),
        ..Endpoint::default()
    }
}

fn config(entry: &Entry) -> Value {
    serde_json::from_str(entry.content.trim_start_matches("#cloud-config")).expect("json")
}

fn contents(text: &str) -> Vec<String> {
    read(text)
        .expect("readable")
        .into_iter()
        .map(|entry| entry.content)
        .collect()
}

#[test]
fn the_guests_file_carries_server_and_token() {
    let (token, endpoint) = (mk_token(), mk_endpoint());
    let text = user_data("", "w-1", &bootstrap_kubeconfig(&endpoint, &token)).expect("composed");
    let entries = read(&text).expect("readable");
    let config = config(&entries[0]);
    let kubeconfig: Value =
        serde_json::from_str(config["write_files"][0]["content"].as_str().expect("text")).expect("json");
    assert_eq!(kubeconfig["users"][0]["user"]["token"], json!(token.text()));
    assert_eq!(
        (
            entries.len(),
            config["hostname"].as_str(),
            token.id.len(),
            token.secret.len()
        ),
        (1, Some("w-1"), 6, 16)
    );
}

#[test]
fn the_templates_user_data_reaches_the_guest_byte_for_byte() {
    let octal = "#cloud-config\nwrite_files:\n  - path: /usr/local/bin/fence.sh\n    permissions: 0755\n    content: |\n      #!/bin/sh\n      exit 0\nssh_pwauth: no\nntp:\n  enabled: off\n";
    let archive = "#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    echo hi\n";
    for template in [octal, archive, "#!/bin/sh\necho hi\n"] {
        let text = user_data(template, "w-1", "kind: Config").expect("composed");
        assert!(text.contains(template), "{text}");
        let found = contents(&text);
        assert_eq!((found.len(), found[0].as_str()), (3, template));
        assert!(found[1].contains("w-1") && found[2].contains(labels::BOOTSTRAP_KUBECONFIG_PATH));
    }
}

#[test]
fn placeholders_leave_a_scripts_own_variables_alone() {
    let script = "#!/bin/bash\nmachine=$(uname -m)\ntoken=$(cat /run/vault-token)\ncurl -H \"X-Vault-Token: ${token}\" https://vault.example.test/v1/kv/${machine}/kubelet\necho {token} {{ machine }} @steading\n";
    let text = format!(
        "{script}join --server @steading.server@ --token @steading.token@ --ca @steading.ca_data@ @steading.machine@\n"
    );
    assert_eq!(check_custom(&text), Ok(()));
    let (token, endpoint) = (mk_token(), mk_endpoint());
    let filled = custom_user_data(&text, "", "w-1", &endpoint, &token).expect("filled");
    assert_eq!(
        filled,
        format!(
            "{script}join --server https://10.0.0.1:6443 --token {} --ca Q0E= w-1\n",
            token.text()
        )
    );
}

#[test]
fn unknown_placeholders_and_broken_bootstraps_are_refused() {
    assert_eq!(
        check_custom("#!/bin/sh\necho @steading.node@\n"),
        Err(CustomFault::Placeholder("node".into()))
    );
    // Valid only once it is filled in: YAML has no plain text that begins with @.
    assert_eq!(check_custom("#cloud-config\nhostname: @steading.machine@\n"), Ok(()));
    for broken in ["echo", "#cloud-config\n- a\n", "#cloud-config\na: 1\n---\nb: 2\n"] {
        assert!(
            matches!(check_custom(broken), Err(CustomFault::UserData(_))),
            "{broken}"
        );
    }
}

#[test]
fn keys_and_user_data_of_the_template_reach_machines_of_a_custom_bootstrap() {
    let template = "#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA me\"\n";
    let bootstrap = "#!/bin/sh\njoin @steading.token@\n";
    let token = mk_token();
    let text = custom_user_data(bootstrap, template, "w-1", &mk_endpoint(), &token).expect("composed");
    assert_eq!(
        contents(&text),
        [template.to_owned(), format!("#!/bin/sh\njoin {}\n", token.text())]
    );
}

#[test]
fn the_guest_checks_the_certificate_against_the_same_name_as_we_do() {
    let endpoint = Endpoint {
        tls_server_name: "api.prod.test".into(),
        ..mk_endpoint()
    };
    let kubeconfig: Value = serde_json::from_str(&bootstrap_kubeconfig(&endpoint, &mk_token())).expect("json");
    assert_eq!(
        kubeconfig["clusters"][0]["cluster"]["tls-server-name"],
        json!("api.prod.test")
    );
}
