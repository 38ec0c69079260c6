//! What composes is read again as it was.

use proptest::prelude::*;

use super::*;
use crate::{check, read};

fn part(text: &str) -> Part<'_> {
    Part {
        format: Format::of(text).expect("a format"),
        text,
        merge: Merge::Append,
    }
}

#[test]
fn file_modes_reach_cloud_init_as_they_were_written() {
    let user = "#cloud-config\nwrite_files:\n  - path: /a\n    permissions: 0755\n";
    let ours = "#cloud-config\n{\"hostname\":\"w-1\"}\n";
    let whole = compose(&[
        part(user),
        Part {
            merge: Merge::Replace,
            ..part(ours)
        },
    ]);
    assert!(whole.contains(user), "{whole}");
    assert!(whole.contains("Merge-Type: dict(replace)"), "{whole}");
    let entries = read(&whole).expect("readable");
    assert_eq!(
        entries.iter().map(|e| e.content.as_str()).collect::<Vec<_>>(),
        [user, ours]
    );
}

#[test]
fn a_message_of_the_user_is_nested_whole() {
    let user = "Content-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n\n--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho hi\n--B--\n";
    let whole = compose(&[part(user), part("#cloud-config\n{}\n")]);
    assert!(whole.contains(user));
    let types: Vec<String> = read(&whole)
        .expect("readable")
        .into_iter()
        .map(|e| e.mime_type)
        .collect();
    assert_eq!(types, ["text/x-shellscript", "text/cloud-config"]);
    assert_eq!(check(&whole), Ok(Format::Multipart));
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        Just("--".to_owned()),
        Just("--steading-".to_owned()),
        Just(String::new()),
        Just("\r".to_owned()),
        Just("From x".to_owned()),
        Just("größer €".to_owned()),
    ]
}

proptest! {
    #[test]
    fn parts_come_out_as_they_went_in(
        scripts in proptest::collection::vec(proptest::collection::vec(line(), 0..8), 2..5),
        end in "\n{0,2}",
    ) {
        let texts: Vec<String> = scripts.iter().map(|lines| format!("#!/bin/sh\n{}{end}", lines.join("\n"))).collect();
        let parts: Vec<Part<'_>> = texts.iter().map(|text| part(text)).collect();
        let whole = compose(&parts);
        for text in texts.iter().filter(|text| text.is_ascii() && !text.ends_with('\r')) {
            prop_assert!(whole.contains(text.as_str()));
        }
        let found: Vec<String> = read(&whole).expect("readable").into_iter().map(|e| e.content).collect();
        prop_assert_eq!(&found, &texts);
        // A composition is a part like any other.
        let again = compose(&[part(&whole), part("#cloud-config\n{}\n")]);
        prop_assert_eq!(read(&again).expect("readable").len(), parts.len() + 1);
    }

    #[test]
    fn nothing_makes_the_checks_panic(text in "(#cloud-config|#!|## template: jinja|Content-Type: multipart/mixed; boundary=B)\n\\PC{0,80}") {
        let _ = check(&text);
        let _ = read(&text);
    }
}
