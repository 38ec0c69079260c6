//! What is taken and what is refused.

use super::*;

const MULTIPART: &str = "Content-Type: multipart/mixed; boundary=\"==B==\"\nMIME-Version: 1.0\n\n--==B==\nContent-Type: text/cloud-config\n\n#cloud-config\npackages: [jq]\n--==B==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho hi\n--==B==--\n";

fn fault(text: &str) -> String {
    check(text).map_or_else(|fault| fault.to_string(), |format| format!("passed as {format:?}"))
}

#[test]
fn every_format_that_cloud_init_reads_whole_is_served() {
    let octal = "#cloud-config\nwrite_files:\n  - path: /a\n    permissions: 0755\nssh_pwauth: no\n";
    let archive = "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    packages: [jq]\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    echo hi\n- |\n  #!/bin/sh\n  echo there\n";
    for (text, format) in [
        ("#cloud-config\n", Format::CloudConfig),
        ("#cloud-config # vim: ft=yaml\n{}\n", Format::CloudConfig),
        (octal, Format::CloudConfig),
        (
            "#cloud-config\na: 1\na: 2\nkey: !!binary aGVsbG8=\n",
            Format::CloudConfig,
        ),
        (archive, Format::Archive),
        ("#!/bin/bash\necho \t ${x}\n", Format::Script),
        ("#cloud-boothook\n#!/bin/sh\n", Format::Boothook),
        ("#include\nhttps://example.test/a\n", Format::Include),
        (
            "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n{% if x %}\na: 1\n{% endif %}\n",
            Format::Jinja,
        ),
        (MULTIPART, Format::Multipart),
    ] {
        assert_eq!(check(text), Ok(format), "{text}");
    }
}

#[test]
fn broken_user_data_is_refused_at_the_door_and_told_where() {
    for (text, said) in [
        ("echo hi\n", "must begin with #cloud-config"),
        ("#cloud-configuration\na: 1\n", "must begin with #cloud-config"),
        ("\n#cloud-config\n", "must begin with #cloud-config"),
        ("#cloud-config\nruncmd:\n\t- echo hi\n", "line 3: is not YAML"),
        ("#cloud-config\n- packages: [jq]\n", "must be a mapping"),
        ("#cloud-config\na: 1\n---\nb: 2\n", "line 3: must be one YAML document"),
        ("#cloud-config\nhostname: {{ v1.name }}\n", "cannot be a key"),
        ("#cloud-config\n{% if x %}\na: 1\n{% endif %}\n", "line 2: is not YAML"),
        ("#cloud-config\nwrite_files:\n", "write_files must be a list"),
        ("#cloud-config\nwrite_files: {path: /a}\n", "write_files must be a list"),
        ("#cloud-config-archive\na: 1\n", "must be a list"),
        (
            "#cloud-config-archive\n- type: text/cloud-config\n",
            "part 1: content must be a text",
        ),
        (
            "#cloud-config-archive\n- type: image/png\n  content: x\n",
            "part 1: cloud-init does not know",
        ),
        (
            "#cloud-config-archive\n- |\n  #cloud-config\n  - a\n",
            "part 1: must be a mapping",
        ),
        ("{\"ignition\": {\"version\": \"3.4.0\"}}", "Ignition is not supported"),
        ("variant: fcos\nversion: 1.5.0\n", "Butane is not supported"),
        ("#cloud-config-jsonp\n[]", "a JSON patch is not supported"),
        ("## template: mako\n#cloud-config\n", "other than jinja"),
        ("## template: jinja\npackages: [jq]\n", "must begin with"),
        (
            "## template: jinja\n#cloud-config\na: {{ b\n",
            "line 3: the template's bracket",
        ),
        (
            "MIME-Version: 1.0\nContent-Type: text/plain\n\nx",
            "must be a multipart message",
        ),
        ("Content-Type: multipart/mixed; boundary=B\n\n--B--\n", "MIME-Version"),
        (
            "Content-Type: multipart/mixed; boundary=B\nMIME-Version: 1.0\n\n--B\n\n#!/bin/sh\n",
            "ends before the boundary",
        ),
    ] {
        let found = fault(text);
        assert!(found.contains(said), "{text}\n{found}");
    }
    let of_part = MULTIPART.replace("packages: [jq]", "packages: {{ x }}");
    assert!(
        fault(&of_part).starts_with("part 1: line 2: a mapping"),
        "{}",
        fault(&of_part)
    );
}

#[test]
fn the_size_is_bounded() {
    let long = format!("#!/bin/sh\n{}", "x".repeat(MAX_BYTES));
    assert_eq!(check(&long), Err(Fault::TooLong(long.len())));
}
